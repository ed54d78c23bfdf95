"""What is fixed when an index is made, and the record of one video in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from momentret.errors import ConfigError, FeatureError

__all__ = ["CLIP_DTYPES", "CorpusStats", "IndexSettings", "Video"]

CLIP_DTYPES = ("int8", "int16", "float32")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The settings of an index, saved in its manifest.

    Raises:
        ConfigError: a value is out of range.
    """

    dim: int
    """D, the length of every clip and token vector."""
    encoder: str = ""
    """Fingerprint of the encoder that made the vectors; compared whenever the index is opened with one."""
    clip_dtype: str = "int16"
    """How clip vectors are kept for exact scoring: int8 (finds 0.93 of float32's top windows), int16 (all), float32."""
    clips_per_pool: int = 5
    """Clips that one pooled vector of the first stage stands for, on average."""
    chapter_clips: int = 64
    """Longest run of clips that the first stage treats as one candidate; longer videos are cut into several."""
    seal_clips: int = 50_000
    """Clips that the log holds before they become a sealed segment."""
    recipe: str = ""
    """How the clip vectors are made, in the words of whoever makes them; nothing in this room reads it."""

    def __post_init__(self) -> None:
        if self.clip_dtype not in CLIP_DTYPES:
            raise ConfigError(f"clip_dtype {self.clip_dtype!r} is not one of {', '.join(CLIP_DTYPES)}")
        for name in ("dim", "clips_per_pool", "chapter_clips", "seal_clips"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ConfigError(f"{name} is {value!r}, expected a whole number of at least 1")


@dataclass(frozen=True, slots=True)
class Video:
    """One video of an index, without its vectors.

    Raises:
        FeatureError: the id is empty or a number is not finite or out of range.
    """

    video_id: str
    """Unique within the index."""
    path: str
    """Where the file is; names that are not UTF-8 survive as Python's surrogate escapes."""
    content_hash: str
    """Recognises the file after it was moved."""
    duration: float
    """Seconds."""
    clip_length: float
    """Seconds of one feature row."""
    start: float = 0.0
    """Time of the first frame in seconds."""
    size: int = 0
    """Bytes of the file."""
    modified: float = 0.0
    """Modification time of the file, seconds since 1970."""

    def __post_init__(self) -> None:
        if not self.video_id:
            raise FeatureError(f"the video {self.path!r} has an empty id; give each video a name of its own")
        for name in ("duration", "clip_length"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise FeatureError(
                    f"video {self.video_id!r}: {name} {getattr(self, name)} s, expected a positive number"
                )
        if not (math.isfinite(self.start) and math.isfinite(self.modified)):
            raise FeatureError(f"video {self.video_id!r}: start {self.start} or modified {self.modified} is not finite")

    def window(self, first: int, last: int) -> tuple[float, float]:
        """Return ``[start, end)`` in seconds of the clips `first` to `last`, the end not beyond the video's."""
        end = min((last + 1) * self.clip_length, self.duration)
        return self.start + first * self.clip_length, self.start + end

    def moved(self, path: str, size: int | None = None, modified: float | None = None) -> Video:
        """Return the record of the same video as another file; what is not given stays."""
        size, modified = self.size if size is None else size, self.modified if modified is None else modified
        return replace(self, path=path, size=size, modified=modified)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusStats:
    """How much there is, wherever it is kept."""

    videos: int
    clips: int
    duration: float
    """Seconds of video."""
    encoder: str
    dim: int
