"""Runs of clips: what a first stage proposes and what exact scoring scores, wherever the vectors are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from momentret.search.index.settings import Video

__all__ = ["ClipSource", "Run", "widened"]


@dataclass(frozen=True, slots=True)
class Run:
    """Clips `begin` to `end` of one video of a source."""

    video: int
    """Row of the video in its source."""
    begin: int
    end: int


class ClipSource(Protocol):
    """Videos whose clip vectors can be had: a segment of an index, or what was fetched from a server."""

    def video(self, row: int) -> Video:
        """Return the record of one video."""

    def clip_rows(self, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes ``(L, D)`` of the runs, one after the other, and the factor ``(L,)`` of each row."""


def widened(videos: np.ndarray, begins: np.ndarray, ends: np.ndarray, counts: np.ndarray, reach: int) -> Iterator[Run]:
    """Yield the clips of chapters, widened by `reach` inside their video; what then touches is joined.

    Args:
        videos: ``(n,)``: the row of each chapter's video, ascending.
        begins: ``(n,)``: first clip of each chapter, ascending within a video.
        ends: ``(n,)``: the clip after its last.
        counts: ``(n,)``: clips of its video.
        reach: how many clips on either side.
    """
    first, last = np.maximum(begins - reach, 0), np.minimum(ends + reach, counts)
    open_run: Run | None = None
    for video, begin, end in zip(videos.tolist(), first.tolist(), last.tolist(), strict=True):
        if open_run is not None and open_run.video == video and begin <= open_run.end:
            open_run = Run(video, open_run.begin, end)
            continue
        if open_run is not None:
            yield open_run
        open_run = Run(video, begin, end)
    if open_run is not None:
        yield open_run
