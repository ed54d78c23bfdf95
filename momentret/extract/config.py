"""How features are made: everything that changes their values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from momentret.encoders import Fingerprint
from momentret.errors import ConfigError
from momentret.features import SourceManifest
from momentret.video import Sampling

__all__ = ["ExtractConfig"]


@dataclass(frozen=True)
class ExtractConfig:
    """What is taken from each video.

    Raises:
        ConfigError: a value out of range, or a rate that gives no whole number of frames a clip.
    """

    clip_length: float = 2.0
    """Seconds per feature row."""
    fps: float | None = None
    """Frames per second that the encoder sees; their mean is the row. None: one frame a clip, at its centre."""
    keyframes: bool = False
    """Decode keyframes only: a fast pass, with images up to seconds old."""
    decoder: str = "auto"
    """``auto``, ``pyav`` or ``decord``."""
    family: str = "clip"
    """Name of the features in the store."""

    def __post_init__(self) -> None:
        Sampling(self.clip_length)
        if self.fps is None:
            return
        frames = self.clip_length * self.fps if math.isfinite(self.fps) else 0.0
        if frames < 1 - 1e-6 or abs(frames - round(frames)) > 1e-6:
            raise ConfigError(
                f"fps {self.fps:g} at clip length {self.clip_length:g} s is {frames:g} frames a clip; choose an fps "
                f"that gives a whole number from 1, such as {max(round(frames), 1) / self.clip_length:g}"
            )

    @property
    def frames_per_clip(self) -> int:
        """How many frames make a row."""
        return 1 if self.fps is None else round(self.clip_length * self.fps)

    def sampling(self, size: int) -> Sampling:
        """Return what to ask of a decoder for images of `size` pixels."""
        return Sampling(self.clip_length, self.frames_per_clip, keyframes=self.keyframes, size=size)

    def manifest(self, fingerprint: Fingerprint) -> SourceManifest:
        """Return the facts that travel with the features."""
        return SourceManifest(
            family=self.family,
            dimension=fingerprint.dimension,
            clip_length=self.clip_length,
            encoder=fingerprint.name,
            weights_hash=fingerprint.weights_hash,
            fps=self.frames_per_clip / self.clip_length,
            normalisation="l2",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)
