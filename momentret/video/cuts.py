"""What can be cut out of a video, how, and into which containers. Nothing is cut here: see `cutting`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from momentret.config import nearest
from momentret.errors import ConfigError
from momentret.video.probe import VideoInfo

__all__ = ["FORMATS", "Cut", "CutReport", "Reached", "format_of", "suffix_for_copy"]

FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".avi": "avi",
    ".flv": "flv",
}
"""Containers that are written, by the ending of the output's name."""
_ENDINGS = {"matroska": ".mkv", "mov": ".mp4", "mpegts": ".ts", "avi": ".avi", "flv": ".flv"}

Reached = Callable[[float, float], None]
"""Told how many seconds of the source have been worked through, and of how many."""


@dataclass(frozen=True)
class Cut:
    """What to cut, and how.

    ``exact`` decodes and encodes again (H.264, and AAC where there is sound): the result shows exactly the frames that
    are on screen in ``[start, end)``, at the same times, and plays everywhere. Without it the compressed pictures are
    copied, which takes no time and loses nothing, but can only begin at a keyframe: seconds early, as a rule.

    Both take the picture and the sound that a player would choose, and nothing else.

    Raises:
        ConfigError: the window is empty or not finite, the output's ending is not one of `FORMATS`, or an exact cut is
            to be a WebM, which holds no H.264.
    """

    start: float
    """Seconds from the start of the container."""
    end: float
    """Seconds from the start of the container; past the video's end means its end."""
    output: str
    """The file to write; an existing one is replaced."""
    exact: bool = True
    format: str | None = None
    """FFmpeg's name of the container; None: by the output's ending."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and 0 <= self.start < self.end):
            raise ConfigError(f"window {self.start:g}-{self.end:g} s is empty or not in the video; give START-END")
        if self.format is None:
            object.__setattr__(self, "format", format_of(Path(self.output)))
        if self.exact and self.format == "webm":
            others = ", ".join(ending for ending, name in FORMATS.items() if name != "webm")
            raise ConfigError(f".webm holds no H.264, which an exact cut is encoded in; use one of {others}, or --copy")


@dataclass(frozen=True)
class CutReport:
    """What a cut holds."""

    start: float
    """Seconds of the source at which it begins. Exact: where the window does; copied: at the keyframe before."""
    end: float
    """Seconds of the source at which it ends; before the end of the window if the video does not last as long."""
    frames: int
    """Pictures."""
    sound: bool


def format_of(output: Path) -> str:
    """Return FFmpeg's name of the container that an output's ending stands for.

    Raises:
        ConfigError: for endings that are not in `FORMATS`.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        known = f"use one of {', '.join(FORMATS)}"
        raise ConfigError(
            f"{str(output)!r} does not end like a video that can be written{nearest(suffix, list(FORMATS), known)}"
        )
    return FORMATS[suffix]


def suffix_for_copy(info: VideoInfo) -> str:
    """Return the ending of the container that holds what a video holds: its own if it can be written, else ``.mkv``."""
    names = info.container.split(",")
    return next((_ENDINGS[name] for name in names if name in _ENDINGS), ".mkv")
