"""Highlight detection: QVHighlights (HL-mAP, HL-Hit1), TVSum (top-5 mAP), YouTube Highlights (mAP).

Pure functions, one value per query or video. Shapes: Q queries, L clips, A annotators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["DOMAIN_METRICS", "average_precision", "hit_at_1", "ranked_precision", "top5_precision"]

TOP = 5
"""TVSum scores the best five clips."""


def average_precision(scores: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the average precision ``(Q, A)`` in [0, 1] of every list against every annotator.

    Clips of equal score enter together. Precision is interpolated (the best at this or a higher recall) and averaged
    **plainly over the distinct recall levels reached**, so a tied group counts once however many positives it holds.
    Without a positive clip the value is 0, with positives only it is 1.

    Args:
        scores: ``(Q, L)`` finite.
        labels: ``(Q, L, A)`` booleans.
        valid: ``(Q, L)``, False for padding.

    Source: the QVHighlights evaluator (after Video2GIF).
    """
    order = np.argsort(np.where(valid, -scores, np.inf), axis=1, kind="stable")
    ranked = np.take_along_axis(np.where(valid, scores, -np.inf), order, 1)  # (Q, L), padding last
    valid = np.take_along_axis(valid, order, 1)
    positive = np.take_along_axis(labels, order[..., None], 1) & valid[..., None]  # (Q, L, A)
    last_of_tie = np.ones_like(valid)
    last_of_tie[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    last_of_tie &= valid

    found = np.cumsum(positive, axis=1)
    precision = np.where(last_of_tie[..., None], found / np.arange(1, scores.shape[1] + 1)[:, None], 0.0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    level = _grew_since_last_tie(found, last_of_tie)
    reached = level.sum(1)
    value = (envelope * level).sum(1) / np.maximum(reached, 1)
    everything = found[:, -1] == valid.sum(1)[:, None]
    return np.where(everything & (reached > 0), 1.0, value)


def _grew_since_last_tie(found: np.ndarray, last_of_tie: np.ndarray) -> np.ndarray:
    """Return ``(Q, L, A)``: True at the end of each tied group that holds a positive."""
    at_ends = np.where(last_of_tie[..., None], found, 0)
    before = np.maximum.accumulate(at_ends, axis=1)
    before = np.concatenate([np.zeros_like(before[:, :1]), before[:, :-1]], axis=1)
    return last_of_tie[..., None] & (found > before)


def hit_at_1(scores: np.ndarray, valid: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``(Q,)``: 1.0 where some annotator calls the best-scored clip (the first on ties) positive.

    Args:
        scores: ``(Q, L')`` as submitted; may be longer than the labels: a best clip beyond them is a miss.
        valid: ``(Q, L')``, False for padding.
        labels: ``(Q, L, A)`` booleans, False for padding.
    """
    best = np.where(valid, scores, -np.inf).argmax(1)
    inside = best < labels.shape[1]
    return (labels[np.arange(len(labels)), np.where(inside, best, 0)].any(-1) & inside).astype(float)


def _ranked_sum(positive: np.ndarray) -> float:
    """Return the area under precision over recall, by trapezoids from ``(0, 1)``; `positive` is best first."""
    total = int(positive.sum())
    if not total:
        return 0.0
    hits = np.cumsum(positive)
    recall = np.concatenate([[0.0], hits / total])
    precision = np.concatenate([[1.0], hits / np.arange(1, len(hits) + 1)])
    return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())


def top5_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return TVSum's top-5 average precision in [0, 1], the mean over annotators.

    A clip is positive for an annotator if his score lies **above** the lower median of his scores; recall is relative
    to the positives among the five best clips.

    Args:
        scores: ``(L',)``; cut to the labels if longer, only the predicted clips are ranked if shorter.
        labels: ``(L, A)`` annotator scores.
    """
    median = np.sort(labels, axis=0)[(len(labels) - 1) // 2]
    best = np.argsort(-scores[: len(labels)], kind="stable")[:TOP]
    return float(np.mean([_ranked_sum(column) for column in (labels > median)[best].T]))


def ranked_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return YouTube Highlights' average precision in [0, 1] over the whole list; NaN without a positive clip.

    Args:
        scores: ``(L',)``; cut to the labels if longer, only the predicted clips are ranked if shorter.
        labels: ``(L, 1)`` zeros and ones.
    """
    order = np.argsort(-scores[: len(labels)], kind="stable")
    positive = labels[order, 0] > 0
    return _ranked_sum(positive) if positive.any() else float("nan")


DOMAIN_METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top5": top5_precision,
    "all": ranked_precision,
}
"""One video's value from its scores ``(L',)`` and labels ``(L, A)``; NaN where nothing can be found."""
