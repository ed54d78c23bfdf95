"""The symmetric squared Chamfer cost between a set of clip vectors and a set of token vectors.

Two forms live here: the cost of masked batches in NumPy or torch (differentiable), and the score of *all windows* of
many videos from one token x clip product. What is searched, and in which order, is `momentret.search.index`'s matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from momentret.spans import namespace_of

__all__ = ["alignment", "chamfer_cost", "chamfer_directions", "squared_distances", "window_scores"]

Array = TypeVar("Array", bound=Any)


def squared_distances(video: Array, language: Array) -> Array:
    """Return ``||v_i - l_j||^2`` ``(..., L, T)``, never below 0, of ``(..., L, D)`` and ``(..., T, D)``."""
    xp = namespace_of(video)
    norms = (video * video).sum(-1)[..., :, None] + (language * language).sum(-1)[..., None, :]
    return xp.clip(norms - 2 * (video @ language.swapaxes(-1, -2)), 0, None)


def chamfer_directions(
    video: Array, language: Array, video_mask: Array | None = None, language_mask: Array | None = None
) -> tuple[Array, Array]:
    """Return the two directions of the cost, video to language and language to video, ``(B,)`` each.

    Each is the mean, over the valid vectors of one side, of the squared distance to the nearest valid vector of the
    other. An item without a valid clip costs infinity; no item's cost depends on its batch-mates.

    Args:
        video: ``(B, L, D)``.
        language: ``(B, T, D)``.
        video_mask: ``(B, L)``, true where valid; all by default.
        language_mask: ``(B, T)``, likewise.

    Raises:
        ValueError: an item has no valid token.
    """
    xp = namespace_of(video)
    distances = squared_distances(video, language)
    rows = xp.ones_like(distances[..., 0], dtype=bool) if video_mask is None else video_mask > 0
    columns = xp.ones_like(distances[..., 0, :], dtype=bool) if language_mask is None else language_mask > 0
    if not bool(columns.any(-1).all()):
        raise ValueError("an item has no valid token: the cost of an empty text is not defined")
    distances = xp.where(rows[..., :, None] & columns[..., None, :], distances, np.inf)
    return _masked_mean(distances, -1, rows), _masked_mean(distances, -2, columns)


def _masked_mean(distances: Array, axis: int, valid: Array) -> Array:
    """Mean over the valid vectors of their smallest distance along `axis`; infinity where there is none."""
    xp = namespace_of(distances)
    nearest = xp.where(valid, xp.amin(distances, axis), 0)
    count = xp.where(valid, xp.ones_like(nearest), 0).sum(-1)
    return xp.where(count > 0, nearest.sum(-1) / xp.clip(count, 1, None), np.inf)


def chamfer_cost(
    video: Array, language: Array, video_mask: Array | None = None, language_mask: Array | None = None
) -> Array:
    """Return the symmetric cost ``(B,)``, the sum of both directions of `chamfer_directions`; not halved.

    Example:
        >>> a = np.array([[[1.0, 0.0], [0.0, 1.0]]])
        >>> chamfer_cost(a, a[:, :1])  # one token: clip 2 is sqrt(2) away from it, the token finds clip 1
        array([1.])
    """
    to_language, to_video = chamfer_directions(video, language, video_mask, language_mask)
    return to_language + to_video


def alignment(similarities: np.ndarray) -> tuple[float, float]:
    """Return the mean best clip of a token and the mean best token of a clip, in [-1, 1], of one window ``(T, L)``.

    For unit vectors ``chamfer_cost = 4 - 2 * (their sum)``.
    """
    return float(similarities.max(1).mean()), float(similarities.max(0).mean())


def window_scores(similarities: np.ndarray, sizes: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Score every window of many videos from one product: ``(W, L)``, row w, column i = the window of ``lengths[w]``
    clips that begins at clip i; ``-inf`` where it would cross the end of its video.

    The score is the sum of `alignment`'s two parts, in [-2, 2]; for unit vectors the cost is ``4 - 2 * score``. Running
    maxima and prefix sums make it ``O(T L)`` a length, whatever the length.

    Args:
        similarities: ``(T, L)``, float32: tokens x the clips of all videos, one after the other.
        sizes: clips of each video; they add up to L.
        lengths: window lengths in clips, ascending, each at least 1. A video shorter than all of them is scored as one
            window, in the first row.
    """
    clips = similarities.shape[1]
    ends = np.repeat(np.cumsum(sizes), sizes)
    room = ends - np.arange(clips)
    prefix = np.concatenate([[0.0], np.cumsum(similarities.max(0), dtype=np.float64)])
    scores = np.full((len(lengths), clips), -np.inf, dtype=np.float32)
    best, tokens = _RunningMaximum(similarities), np.float32(len(similarities))
    for row, length in enumerate(lengths):
        if length <= clips:
            n = clips - length + 1
            to_video = np.add.reduce(best(length), 0) / tokens
            to_language = ((prefix[length:] - prefix[:-length]) / length).astype(np.float32)
            np.copyto(scores[row, :n], to_video + to_language, where=room[:n] >= length)
    _score_short_videos(scores[0], similarities, sizes, lengths[0])
    return scores


def _score_short_videos(scores: np.ndarray, similarities: np.ndarray, sizes: np.ndarray, shortest: int) -> None:
    """Fill in, at their first clip, the videos that have fewer clips than the shortest window."""
    begins = np.cumsum(sizes) - sizes
    for i in np.flatnonzero((sizes < shortest) & (sizes > 0)):
        scores[begins[i]] = sum(alignment(similarities[:, begins[i] : begins[i] + sizes[i]]))


class _RunningMaximum:
    """Maxima over windows of growing length, each from the maxima of half its length (a sparse table, one row kept)."""

    def __init__(self, values: np.ndarray) -> None:
        self.length, self.maxima = 1, values

    def __call__(self, length: int) -> np.ndarray:
        """Return ``(T, L - length + 1)``; calls come with ascending lengths."""
        while self.length < length:
            step = min(self.length, length - self.length)
            self.maxima = np.maximum(self.maxima[:, :-step], self.maxima[:, step:])
            self.length += step
        return self.maxima
