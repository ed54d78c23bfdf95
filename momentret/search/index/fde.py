"""Fixed-dimensional encodings: a set of vectors as one long vector whose inner product estimates the Chamfer score.

Source: Dhulipala et al., MUVERA, NeurIPS 2024, extended here to both directions: the roles of the two sets are swapped
for the second half. Pooled segments find more with fewer bytes; this is for stores that hold one vector an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["FixedEncoding"]


@dataclass(frozen=True, slots=True)
class FixedEncoding:
    """Encodes sets of `dim`-dimensional vectors; equal settings give equal encodings.

    Example:
        >>> rows = np.eye(4, dtype=np.float32)[:2]
        >>> encoding = FixedEncoding(4)
        >>> encoding.video(rows).shape == encoding.query(rows).shape == (encoding.width,)
        True
    """

    dim: int
    repetitions: int = 20
    planes: int = 4
    """Each repetition sorts vectors into ``2 ** planes`` buckets by the side of random planes they are on."""
    sketch: int = 16
    """Dimensions that a bucket keeps of a vector."""
    seed: int = 0

    @property
    def width(self) -> int:
        """Return the length of an encoding, both directions."""
        return 2 * self.repetitions * 2**self.planes * min(self.sketch, self.dim)

    def video(self, clips: np.ndarray) -> np.ndarray:
        """Return the encoding ``(width,)`` of clips ``(L, D)``."""
        return np.concatenate([self._encode(clips, True), self._encode(clips, False) / len(clips)])

    def query(self, tokens: np.ndarray) -> np.ndarray:
        """Return the encoding ``(width,)`` of tokens ``(T, D)``; its product with a video's estimates the score."""
        return np.concatenate([self._encode(tokens, False) / len(tokens), self._encode(tokens, True)])

    def _encode(self, rows: np.ndarray, mean: bool) -> np.ndarray:
        """Sum each bucket's sketched rows; or average them, an empty bucket taking the row nearest by its sides."""
        patterns = (np.arange(2**self.planes)[:, None] >> np.arange(self.planes)) & 1  # (buckets, planes)
        parts = []
        for repetition in range(self.repetitions):
            planes, project = self._random(repetition)
            differ = (patterns[:, None, :] != (rows @ planes > 0)[None, :, :]).sum(2)  # (buckets, rows)
            member = (differ == 0).astype(np.float32)
            if mean:
                empty = np.flatnonzero(member.sum(1) == 0)
                member[empty, differ[empty].argmin(1)] = 1
                member /= member.sum(1, keepdims=True)
            parts.append((member @ project(rows)).ravel())
        return np.concatenate(parts) / np.float32(np.sqrt(self.repetitions))

    @lru_cache(maxsize=128)  # noqa: B019 - small, and the settings are all of the key
    def _random(self, repetition: int) -> tuple[np.ndarray, _Sketch]:
        rng = np.random.default_rng([self.seed, repetition])
        planes = rng.standard_normal((self.dim, self.planes), dtype=np.float32)
        return planes, _Sketch.draw(rng, self.dim, self.sketch)


@dataclass(frozen=True, slots=True)
class _Sketch:
    """Adds up coordinates with random signs; keeps inner products on average."""

    matrix: np.ndarray | None

    @classmethod
    def draw(cls, rng: np.random.Generator, dim: int, width: int) -> _Sketch:
        if width >= dim:
            return cls(None)
        matrix = np.zeros((dim, width), dtype=np.float32)
        matrix[np.arange(dim), rng.integers(width, size=dim)] = rng.choice(
            np.array([-1, 1], dtype=np.float32), size=dim
        )
        return cls(matrix)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.matrix is None else rows @ self.matrix
