"""Which videos a search looks at, and which files of a folder an index has to be told about."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from momentret.errors import ConfigError
from momentret.progress import Progress, silent
from momentret.search.index.segment import Segment
from momentret.search.index.settings import Video

__all__ = ["Changes", "Filter", "SeenFile", "changes"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on videos; all that are given must hold.

    Raises:
        ConfigError: a number is NaN.
    """

    folder: str | None = None
    """The file lies in this folder or below it."""
    shortest: float | None = None
    """Duration in seconds, at least."""
    longest: float | None = None
    """Duration in seconds, at most."""
    after: float | None = None
    """Modified at or after this time, seconds since 1970."""
    before: float | None = None
    """Modified before this time, seconds since 1970."""
    video_ids: frozenset[str] | None = None
    """One of these."""
    keep: Callable[[Video], bool] | None = None
    """Any other condition, asked last of the videos that the others leave."""

    def __post_init__(self) -> None:
        for name in ("shortest", "longest", "after", "before"):
            value = getattr(self, name)
            if value is not None and math.isnan(value):
                raise ConfigError(f"{name} is not a number; leave it out, or give one")

    def mask(self, segment: Segment) -> np.ndarray:
        """Return ``(N,)`` bool: the videos of a segment that are there and pass."""
        passes = ~segment.removed
        duration, modified = segment.columns["video_duration"], segment.columns["video_modified"]
        for limit, value, sign in (
            (self.shortest, duration, 1),
            (self.longest, duration, -1),
            (self.after, modified, 1),
        ):
            if limit is not None:
                passes &= sign * value >= sign * limit
        if self.before is not None:
            passes &= modified < self.before
        if self.folder is not None:
            prefix = self.folder.rstrip(os.sep) + os.sep
            passes &= np.fromiter((path.startswith(prefix) for path in segment.paths), bool, segment.videos)
        if self.video_ids is not None:
            passes &= np.fromiter((name in self.video_ids for name in segment.ids), bool, segment.videos)
        if self.keep is not None:
            for row in np.flatnonzero(passes):
                passes[row] = self.keep(segment.video(int(row)))
        return passes


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as a folder listing shows it."""

    path: str
    size: int
    modified: float
    """Seconds since 1970."""

    @classmethod
    def of(cls, path: str) -> SeenFile:
        """Look at a file; one that cannot be looked at has no size, and no time."""
        try:
            status = Path(path).stat()
        except (OSError, ValueError):
            return cls(path, 0, 0.0)
        return cls(path, status.st_size, status.st_mtime)


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between the files that were seen and the videos of an index."""

    new: list[SeenFile] = field(default_factory=list)
    changed: list[tuple[SeenFile, Video]] = field(default_factory=list)
    """Same path, other content."""
    moved: list[tuple[SeenFile, Video]] = field(default_factory=list)
    """Same content, other path, and the old path was not seen."""
    unchanged: list[Video] = field(default_factory=list)
    missing: list[Video] = field(default_factory=list)
    """In the index, but not seen."""


def changes(
    seen: Iterable[SeenFile],
    videos: Iterable[Video],
    content_hash: Callable[[str], str],
    progress: Progress = silent,
) -> Changes:
    """Compare files with the videos of an index; only new and touched files are hashed.

    Args:
        seen: the files that are there now.
        videos: what the index knows.
        content_hash: returns the hash of the file at a path.
        progress: reports on the files.
    """
    seen = list(seen)
    by_path = {video.path: video for video in videos}
    paths = {file.path for file in seen}
    lost: dict[str, list[Video]] = {}
    for path, video in by_path.items():
        if path not in paths:
            lost.setdefault(video.content_hash, []).append(video)
    found = Changes()
    for file in progress(seen, "compare", len(seen)):
        _sort_file(file, by_path.get(file.path), lost, content_hash, found)
    found.missing.extend(video for copies in lost.values() for video in copies)
    return found


def _sort_file(
    file: SeenFile,
    known: Video | None,
    lost: dict[str, list[Video]],
    content_hash: Callable[[str], str],
    found: Changes,
) -> None:
    if known is not None and (known.size, known.modified) == (file.size, file.modified):
        found.unchanged.append(known)
        return
    digest = content_hash(file.path)
    if known is not None:
        (found.unchanged.append(known) if digest == known.content_hash else found.changed.append((file, known)))
    elif lost.get(digest):
        found.moved.append((file, lost[digest].pop(0)))
    else:
        found.new.append(file)
