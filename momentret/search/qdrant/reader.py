"""Reading a collection: how many, which records, which clips. Pages keep every answer within what a server sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from momentret.errors import DataError
from momentret.search.index import Filter
from momentret.search.index.runs import Run
from momentret.search.qdrant.client import Collection
from momentret.search.qdrant.fetched import Fetched
from momentret.search.qdrant.points import conditions, point_id, video_of

__all__ = ["Reader", "pages"]

_PAGE = 1_000
"""Clips, or records without vectors, a request: some 12 MB of JSON at 512 numbers; a server takes 32 MB."""
WHOLE = 1 << 40
"""More clips than any video has."""
_PART_CLIPS = 8_192
"""Clips in memory while everything is scored."""


def pages(items: Sequence[Any], clips: int) -> Iterator[Sequence[Any]]:
    """Yield a few items at a time, as many as one request may hold where each has up to `clips` clips."""
    step = max(1, _PAGE // clips)
    return (items[begin : begin + step] for begin in range(0, len(items), step))


class Reader:
    """Asks one collection.

    Args:
        server: the collection.
        longest: `IndexSettings.chapter_clips`.
    """

    def __init__(self, server: Collection, longest: int) -> None:
        self._server, self._longest = server, longest

    @property
    def first_chapter(self) -> Any:
        """Return the condition that one point of each video meets."""
        models = self._server.models
        return models.FieldCondition(key="chapter", match=models.MatchValue(value=0))

    def conditions(self, where: Filter) -> list[Any]:
        """Return the server's conditions; `Filter.keep` is asked here, of all videos that pass the others."""
        found = conditions(where, self._server.models)
        if where.keep is None:
            return found
        kept = filter(where.keep, map(video_of, self.records(found)))
        return conditions(Filter(video_ids=frozenset(video.video_id for video in kept)), self._server.models)

    def count(self, where: Sequence[Any]) -> int:
        """Return how many points meet the conditions."""
        return int(self._server.count(count_filter=self._server.models.Filter(must=list(where)), exact=True).count)

    def payload(self, video_id: str) -> dict[str, Any]:
        """Return what is noted of one video.

        Raises:
            DataError: the id is not in the collection.
        """
        found = self.points([(video_id, 0)], clips=False)
        if not found:
            raise DataError(f"video {video_id!r} is not in collection {self._server.name!r}")
        return dict(found[0].payload)

    def records(self, where: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield what is noted of each video that meets the conditions."""
        must, offset = self._server.models.Filter(must=[*where, self.first_chapter]), None
        while True:
            points, offset = self._server.scroll(scroll_filter=must, limit=_PAGE, offset=offset)
            yield from (point.payload for point in points)
            if offset is None:
                return

    def points(self, chapters: Sequence[tuple[str, int]], clips: bool = True) -> list[Any]:
        """Return the points of chapters ``(video id, number)``: those that are there."""
        ids = [point_id(*chapter) for chapter in chapters]
        vectors: Any = ["clips"] if clips else False
        some = pages(ids, self._longest if clips else 1)
        return [point for page in some for point in self._server.retrieve(ids=page, with_vectors=vectors)]

    def fetch(self, payloads: Sequence[dict[str, Any]], reach: int = WHOLE) -> tuple[Fetched, list[Run]]:
        """Fetch the clips of chapters and of `reach` clips on either side; returns them and the runs they make."""
        fetched = Fetched(payloads, self._longest)
        runs = fetched.runs(reach)
        fetched.take(self.points(fetched.chapters(runs)))
        return fetched, fetched.within(runs)

    def everything(self, where: Sequence[Any]) -> Iterator[tuple[Fetched, list[Run]]]:
        """Yield the videos that meet the conditions, whole ones only, in parts that fit in memory."""
        wanted: list[dict[str, Any]] = []
        clips = 0
        for payload in self.records(where):
            wanted.append(payload)
            clips += int(payload["video_clips"])
            if clips >= _PART_CLIPS:
                yield self.fetch(wanted)
                wanted, clips = [], 0
        if wanted:
            yield self.fetch(wanted)
