"""What every keeper of a corpus can do, wherever the videos are: in a folder, or on a cluster.

Code that searches takes a `Backend`; `momentret.search.index.CorpusIndex` and `momentret.search.qdrant.QdrantBackend`
are two. What only one of them needs (sealing, sharding) is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from momentret.errors import MismatchError
from momentret.progress import Progress, silent
from momentret.search.index import CorpusStats, IndexSettings, SearchOptions, SearchResult, Video

__all__ = ["Backend", "Copied", "copy_videos"]

Query = tuple[np.ndarray, np.ndarray | None]
"""Token vectors ``(T, D)``, and the vector ``(D,)`` of the whole text."""


class Backend(Protocol):
    """Videos that can be searched, added and removed."""

    @property
    def settings(self) -> IndexSettings:
        """Return what was fixed when it was made."""

    def __len__(self) -> int: ...

    def __contains__(self, video_id: str) -> bool: ...

    def add(self, video: Video, clips: np.ndarray, replace: bool = False) -> None:
        """Add one video, of unit rows ``(L, D)``; it is safe once this returns."""

    def add_many(
        self,
        videos: Iterable[tuple[Video, np.ndarray]],
        replace: bool = False,
        progress: Progress = silent,
        total: int | None = None,
    ) -> int:
        """Add videos, batch by batch; returns how many."""

    def remove(self, video_ids: Sequence[str]) -> None:
        """Remove videos; none if one of them is not there."""

    def move(self, video_id: str, path: str, size: int | None = None, modified: float | None = None) -> None:
        """Note that the file of a video has another path now."""

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult:
        """Find the moments that a text describes."""

    def search_batch(self, queries: Sequence[Query], options: SearchOptions | None = None) -> list[SearchResult]:
        """Search for several texts: the same results as one by one."""

    def videos(self) -> Iterator[Video]:
        """Yield the record of every video."""

    def video(self, video_id: str) -> Video:
        """Return the record of one video."""

    def clips(self, video_id: str) -> np.ndarray:
        """Return the clip vectors ``(L, D)`` float32 of one video, as they are kept."""

    def stats(self) -> CorpusStats:
        """Return how much there is."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What `copy_videos` did."""

    added: int
    replaced: int
    """Videos that were there with another record."""
    unchanged: int
    other: int
    """Videos of the target that the source does not have; they stay."""


def copy_videos(source: Backend, target: Backend, progress: Progress = silent) -> Copied:
    """Bring every video of `source` into `target`; what is there already is left, so it can be repeated and resumed.

    Raises:
        MismatchError: the two hold vectors of different encoders or are cut differently.
    """
    for name in ("dim", "encoder", "recipe", "clips_per_pool", "chapter_clips"):
        own, other = getattr(source.settings, name), getattr(target.settings, name)
        if own != other:
            raise MismatchError(f"the source has {name} {own!r}, the target {other!r}; copy into a new one")
    there = {video.video_id: video for video in target.videos()}
    todo = [video for video in source.videos() if there.get(video.video_id) != video]
    pairs = ((video, source.clips(video.video_id)) for video in todo)
    target.add_many(pairs, replace=True, progress=progress, total=len(todo))
    replaced = sum(video.video_id in there for video in todo)
    unchanged = len(source) - len(todo)
    return Copied(len(todo) - replaced, replaced, unchanged, len(there) - replaced - unchanged)
