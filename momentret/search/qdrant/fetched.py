"""Chapters of videos that are fetched from a server, as a source of clips that can be scored like a segment's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from momentret.search.index import Video
from momentret.search.index.runs import Run, widened
from momentret.search.qdrant.points import chapter_begins, video_of

__all__ = ["Fetched"]

Payload = dict[str, Any]


class Fetched:
    """First the payloads say which runs of clips to score, then `take` brings their vectors.

    A video's row is its place among the sorted ids.

    Args:
        payloads: of the chapters that are to be scored.
        longest: `IndexSettings.chapter_clips`.
    """

    def __init__(self, payloads: Sequence[Payload], longest: int) -> None:
        known: dict[str, Payload] = {}
        for payload in payloads:
            known.setdefault(payload["video_id"], payload)
        self.videos = sorted((video_of(payload) for payload in known.values()), key=lambda video: video.video_id)
        self._rows = {video.video_id: row for row, video in enumerate(self.videos)}
        counts = {video_of(payload).video_id: int(payload["video_clips"]) for payload in known.values()}
        self._counts = np.array([counts[video.video_id] for video in self.videos], dtype=np.int64)
        self._begins = [chapter_begins(count, longest) for count in self._counts.tolist()]
        self._chosen = sorted({place for payload in payloads if (place := self._place(payload)) is not None})
        self._clips: dict[tuple[int, int], np.ndarray] = {}

    def _place(self, payload: Payload) -> tuple[int, int] | None:
        """Return row and chapter; None if the video is not one of these, or is another one by now."""
        row = self._rows.get(video_of(payload).video_id)
        if row is None or payload["video_clips"] != self._counts[row]:
            return None
        return row, int(payload["chapter"])

    def video(self, row: int) -> Video:
        """Return the record of one video."""
        return self.videos[row]

    def runs(self, reach: int) -> list[Run]:
        """Return the chapters as runs, widened by `reach` inside their video, joined where they touch."""
        return self._runs(self._chosen, reach)

    def chapters(self, runs: Sequence[Run]) -> list[tuple[str, int]]:
        """Return the chapters ``(video id, number)`` that hold the clips of runs."""
        places = sorted({(run.video, chapter) for run in runs for chapter in self._touched(run)})
        return [(self.videos[row].video_id, chapter) for row, chapter in places]

    def take(self, points: Sequence[Any]) -> None:
        """Take the vectors ``clips`` of points."""
        for point in points:
            place = self._place(point.payload)
            if place is not None:
                self._clips[place] = np.array(point.vector["clips"], dtype=np.float32)

    def within(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs if all their clips are here, else the runs that are: others change the corpus meanwhile."""
        complete = all((run.video, chapter) in self._clips for run in runs for chapter in self._touched(run))
        return list(runs) if complete else self._runs(sorted(self._clips), 0)

    def clip_rows(self, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors ``(L, D)`` of the runs, one after the other, and ones ``(L,)``."""
        rows = np.concatenate([part for run in runs for part in self._parts(run)])
        return rows, np.ones(len(rows), dtype=np.float32)

    def _runs(self, places: Sequence[tuple[int, int]], reach: int) -> list[Run]:
        rows = np.array([row for row, _ in places], dtype=np.int64)
        begins, ends = (np.array([self._begins[row][i + after] for row, i in places]) for after in (0, 1))
        return list(widened(rows, begins, ends, self._counts[rows], reach))

    def _touched(self, run: Run) -> range:
        begins = self._begins[run.video]
        return range(int(np.searchsorted(begins, run.begin, "right")) - 1, int(np.searchsorted(begins, run.end)))

    def _parts(self, run: Run) -> Iterator[np.ndarray]:
        for chapter in self._touched(run):
            start = int(self._begins[run.video][chapter])
            yield self._clips[run.video, chapter][max(run.begin - start, 0) : run.end - start]
