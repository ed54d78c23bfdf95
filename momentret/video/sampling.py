"""Which times are looked at, and the values that decoding hands out. No decoder lives here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise

import numpy as np

from momentret.errors import ConfigError

__all__ = ["TIME_EPSILON", "DecodeReport", "Frame", "Sampling", "clip_times"]

TIME_EPSILON = 1e-4  # s; timestamps are fractions of e.g. 1/90000 s, wanted times are decimals


@dataclass(frozen=True)
class Frame:
    """One decoded image and the time it was asked for."""

    image: np.ndarray
    """``(height, width, 3)`` uint8 RGB, upright. A frame that serves several times is one and the same object."""
    wanted: float
    """Seconds from the start of the container: the time that was asked for."""
    time: float
    """Seconds from the start of the container: when this image comes on screen."""


@dataclass(frozen=True)
class Sampling:
    """What to take from a video.

    Raises:
        ConfigError: a value is out of range, or `times` are not ascending.
    """

    clip_length: float = 2.0
    """Seconds per clip."""
    frames_per_clip: int = 1
    """Frames taken from each clip, at the centres of equal parts."""
    times: tuple[float, ...] | None = None
    """Ascending seconds to take instead of clips."""
    keyframes: bool = False
    """Decode keyframes only: many times as fast, but the image can be seconds older than the time asked for."""
    size: int | None = None
    """Shorter side of the images in pixels; larger ones are scaled down to it, smaller ones stay. None: all stay.

    With a size, the longer side is at most eight times the shorter one; no film is longer, and a file can claim it.
    """
    threads: int = 1
    """Threads of the codec."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip_length) and self.clip_length > 0):
            raise ConfigError(f"clip length is {self.clip_length} s, expected a positive number of seconds")
        for name in ("frames_per_clip", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.size is not None and self.size < 1:
            raise ConfigError(f"size is {self.size}, expected at least 1 pixel or null")
        if self.times is not None and not _ascending(self.times):
            raise ConfigError("times must be finite, not negative and ascending; sort them")

    @property
    def wanted(self) -> Iterator[float]:
        """Return a new iterator over the times: endless for clips, which stop where the video does."""
        return iter(self.times) if self.times is not None else clip_times(self.clip_length, self.frames_per_clip)


def _ascending(times: tuple[float, ...]) -> bool:
    finite = all(math.isfinite(t) and t >= 0 for t in times)
    return finite and all(a <= b for a, b in pairwise(times))


def clip_times(clip_length: float, frames_per_clip: int = 1) -> Iterator[float]:
    """Yield, without end, the centres of `frames_per_clip` equal parts of each clip.

    A video has a clip for every first part whose centre lies in it, and always at least one: with one frame a clip,
    the last clip counts if half of it is there.

    Example:
        >>> from itertools import islice
        >>> list(islice(clip_times(2.0, 2), 4))
        [0.5, 1.5, 2.5, 3.5]
    """
    for i in count():
        yield (i + 0.5) * clip_length / frames_per_clip


@dataclass
class DecodeReport:
    """What happened while a video was decoded; complete when its frames are."""

    decoder: str = ""
    doubts: list[str] = field(default_factory=list)
    """Why the decoder that was forced may have given wrong frames."""
    duration: float = 0.0
    """Seconds from the start of the container to the end of the last frame."""
    decoded: int = 0
    """Frames that came out of the decoder, wanted or not."""
    bad_packets: int = 0
    """Damaged pieces that were stepped over."""
    out_of_order: int = 0
    """Frames left out because their timestamps go back."""
