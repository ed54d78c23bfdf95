"""Moment retrieval: average precision, recall at n, IoU of the first windows. Pure functions of padded arrays.

Shapes: Q queries, P predicted windows, G true windows, T IoU thresholds. Masks are True where valid.
Everything is one value per query, so that means, ranges and resampling are the caller's choice.
"""

from __future__ import annotations

import numpy as np

__all__ = ["average_precision", "best_iou", "find_repeats", "mean_over_queries", "pack", "recall_at"]


def pack(values: np.ndarray, counts: np.ndarray, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows that belong to queries: ``(N, ...)`` and ``(Q,)`` counts that add up to N -> ``(Q, P, ...)`` and mask.

    Args:
        values: the rows of the first query, then those of the second, and so on.
        counts: how many rows each query has.
        limit: rows kept of one query, from the front; all if None.
    """
    width = int(counts.max(initial=0)) if limit is None else min(limit, int(counts.max(initial=0)))
    query = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = place < width
    packed = np.zeros((len(counts), width, *values.shape[1:]), values.dtype)
    packed[query[kept], place[kept]] = values[kept]
    return packed, np.arange(width) < counts[:, None]


def find_repeats(predicted: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mark every window ``(Q, P)`` that an earlier one of its query equals; `predicted` is ``(Q, P, 2)``."""
    equal = (predicted[:, :, None] == predicted[:, None]).all(-1)  # (Q, P, P)
    earlier = np.tri(predicted.shape[1], k=-1, dtype=bool)
    return (equal & earlier & valid[:, None]).any(-1) & valid


def average_precision(
    overlap: np.ndarray, countable: np.ndarray, truth_valid: np.ndarray, thresholds: tuple[float, ...]
) -> np.ndarray:
    """Return the interpolated average precision ``(Q, T)`` in [0, 1] of each query at each IoU threshold.

    Windows are visited best first; each takes the free true window it overlaps most, if the IoU reaches the threshold
    (the later one on ties). Precision is made non-increasing from the right and summed over the steps of recall.
    A query without predictions has 0, and so has one without true windows.

    Args:
        overlap: ``(Q, P, G)`` intersection over union of predictions, best first, with true windows.
        countable: ``(Q, P)``; a window that is False here takes a place in the ranking and can match nothing.
        truth_valid: ``(Q, G)``.
        thresholds: T values in (0, 1].

    Source: PASCAL VOC 2011, as in the ActivityNet and QVHighlights evaluators.
    """
    hits = _match(np.where(truth_valid[:, None] & countable[..., None], overlap, -1.0), np.asarray(thresholds))
    found = np.cumsum(hits, axis=1)  # (Q, P, T)
    precision = found / np.arange(1, overlap.shape[1] + 1)[:, None]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = found / np.maximum(truth_valid.sum(-1), 1)[:, None, None]
    return (np.diff(recall, axis=1, prepend=0) * envelope).sum(1)


def _match(overlap: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return which predictions take a true window, ``(Q, P, T)``."""
    (Q, P, G), T = overlap.shape, len(thresholds)
    # Only the few true windows above the lowest threshold can ever be taken: usually one.
    few = int((overlap >= thresholds.min()).sum(-1).max(initial=0))
    order = G - 1 - np.argsort(-overlap[..., ::-1], axis=-1, kind="stable")[..., :few]  # ties: the higher place first
    best = np.take_along_axis(overlap, order, -1)  # (Q, P, few)
    taken = np.zeros((Q, T, G), bool)
    hits = np.zeros((Q, P, T), bool)
    queries = np.arange(Q)
    for p in range(P):
        for c in range(few):
            g = order[:, p, c]
            hit = (best[:, p, c, None] >= thresholds) & ~taken[queries, :, g] & ~hits[:, p]
            taken[queries, :, g] |= hit
            hits[:, p] |= hit
    return hits


def best_iou(overlap: np.ndarray, hull: np.ndarray, truth_valid: np.ndarray) -> np.ndarray:
    """Return the IoU ``(Q, P)`` of each window with the true one it overlaps most; 0 where nothing is true.

    Args:
        overlap: ``(Q, P, G)`` intersection over union: it chooses the true window (the first on ties).
        hull: ``(Q, P, G)`` intersection over hull: the value, equal up to the last digit where windows overlap.
        truth_valid: ``(Q, G)``.
    """
    if not overlap.shape[2]:
        return np.zeros(overlap.shape[:2])
    choice = np.where(truth_valid[:, None], overlap, -1.0).argmax(-1)[..., None]
    value = np.take_along_axis(hull, choice, -1)[..., 0]
    return np.where(truth_valid.any(-1, keepdims=True), value, 0.0)


def recall_at(overlap: np.ndarray, rank: int, thresholds: tuple[float, ...], *, inclusive: bool = True) -> np.ndarray:
    """Return ``(Q, T)``: 1.0 where one of the first `rank` windows reaches the threshold.

    Args:
        overlap: ``(Q, P)`` of `best_iou`, best first.
        rank: the n of R@n.
        thresholds: T values in [0, 1].
        inclusive: whether an IoU equal to the threshold counts (the QVHighlights family) or not (the 2D-TAN family).
    """
    best = overlap[:, :rank].max(1, initial=0.0)[:, None]
    limits = np.asarray(thresholds)
    return (best >= limits if inclusive else best > limits).astype(float)


def mean_over_queries(values: np.ndarray) -> float:
    """Return the mean of ``(Q,)`` that leaves out NaN (queries that do not count); NaN if none counts."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else float("nan")
