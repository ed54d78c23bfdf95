"""An encoder without a network, for tests and for trying out the machinery: it knows colours and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from momentret.encoders.base import Fingerprint, QueryVectors, query_by_phrases, to_unit

__all__ = ["COLOURS", "FakeEncoder"]

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "orange": (255, 128, 0),
}
"""The words that mean something to `FakeEncoder`, each an axis of its space."""


class FakeEncoder:
    """A frame is the shares of its pixels nearest to each colour; a text is the colours it names.

    The remaining axes tell other words apart by hash, so that any two texts differ.

    Args:
        dimension: length of a vector, more than the number of colours.
    """

    def __init__(self, dimension: int = 32) -> None:
        if dimension <= len(COLOURS):
            raise ValueError(f"dimension is {dimension}, expected more than {len(COLOURS)}")
        self.fingerprint = Fingerprint("fake", blake2b(repr(COLOURS).encode(), digest_size=16).hexdigest(), dimension)
        self.frame_size = 32

    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the shares of the colours; see `Encoder`."""
        rows = np.zeros((len(frames), self.fingerprint.dimension), np.float32)
        anchors = np.array(list(COLOURS.values()), np.float32)
        for row, frame in zip(rows, frames, strict=True):
            step = max(min(frame.shape[:2]) // self.frame_size, 1)
            pixels = frame[::step, ::step].reshape(-1, 1, 3).astype(np.float32)
            nearest = np.square(pixels - anchors).sum(axis=-1).argmin(axis=-1)
            row[: len(COLOURS)] = np.bincount(nearest, minlength=len(COLOURS)) / len(nearest)
        return to_unit(rows)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return the named colours and a trace of the other words; see `Encoder`."""
        rows = np.zeros((len(texts), self.fingerprint.dimension), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [text]:
                row[self._axis(word)] += 1.0 if word in COLOURS else 0.1
        return to_unit(rows)

    def _axis(self, word: str) -> int:
        if word in COLOURS:
            return list(COLOURS).index(word)
        number = int.from_bytes(blake2b(word.encode(errors="replace"), digest_size=4).digest(), "big")
        return len(COLOURS) + number % (self.fingerprint.dimension - len(COLOURS))

    def encode_query(self, query: str, tokens: str = "phrases") -> QueryVectors:
        """Return the query and its phrases; see `Encoder`."""
        return query_by_phrases(self, query, tokens)
