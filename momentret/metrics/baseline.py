"""The blind baseline: what a submission scores that never saw a video or a text.

It answers every query with the same ten windows, given as fractions of the duration, and the same saliency for every
clip. The windows are chosen from where true windows lie in a set of annotations. Fitted on the evaluated set itself it
is an optimistic bound for a blind predictor; fitted on the training set it is an honest one.
"""

from __future__ import annotations

import numpy as np

from momentret.metrics.report import score
from momentret.metrics.submission import MAX_WINDOWS, Submission
from momentret.metrics.truth import GroundTruth
from momentret.spans import iou

__all__ = ["answer_blindly", "fit_fractions", "score_blindly"]

STEPS = 20
"""Candidate windows begin and end at multiples of 1/20 of the duration: 210 of them."""


def score_blindly(truth: GroundTruth, fitted_on: GroundTruth, *, inclusive: bool = True) -> dict[str, float | None]:
    """Return the headline metrics of the blind baseline.

    Args:
        truth: what is scored.
        fitted_on: where true windows are looked up: the training set, or `truth` itself for an optimistic bound.
        inclusive: as in `report.evaluate`.
    """
    fractions = fit_fractions(fitted_on) if truth.rules.ranges else None
    # Strict scoring gives constant saliency 0; here its chance level is the point.
    blind = score(answer_blindly(truth, fractions), truth, legacy=True, inclusive=inclusive)
    brief: dict[str, float | None] = blind.report["brief"]
    return brief


def fit_fractions(truth: GroundTruth) -> np.ndarray:
    """Return the ten windows ``(10, 2)``, as fractions of the duration, that hit most often; the best first.

    Greedy: each next window raises the mean over queries of the best so far by most, where a window's value is the
    share of the recall thresholds that its IoU with a true window reaches. Only positions and durations are read.
    """
    start, end = np.triu_indices(STEPS + 1, k=1)
    candidates = np.stack([start, end], axis=1) / STEPS  # (C, 2)
    counts = truth.windows_valid.sum(1)
    true_fractions = truth.windows[truth.windows_valid] / np.repeat(truth.durations, counts)[:, None]  # (N, 2)
    overlap = np.maximum.reduceat(iou(true_fractions, candidates), np.cumsum(counts) - counts, axis=0)  # (Q, C)
    value = np.searchsorted(truth.rules.recall_thresholds, overlap, side="right").astype(float)
    best = np.zeros((len(value), 1))
    chosen: list[int] = []
    for _ in range(MAX_WINDOWS):
        gains = np.maximum(best, value).mean(0)
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
        best = np.maximum(best, value[:, chosen[-1:]])
    return candidates[chosen]


def answer_blindly(truth: GroundTruth, fractions: np.ndarray | None) -> Submission:
    """Return the blind submission to `truth`.

    Args:
        truth: only the durations and the numbers of clips are read.
        fractions: ``(K, 2)`` of `fit_fractions`; None where no moments are scored.
    """
    Q = len(truth.annotations)
    windows = None
    if fractions is not None:
        bounds = fractions * truth.durations[:, None, None]  # (Q, K, 2)
        scores = np.broadcast_to(-np.arange(len(fractions), dtype=float)[:, None], (*bounds.shape[:2], 1))
        windows = np.concatenate([bounds, scores], axis=2).reshape(-1, 3)
    clips = np.zeros(Q, int) if truth.clips is None else truth.clips
    return Submission(
        windows=windows,
        window_counts=np.full(Q, 0 if fractions is None else len(fractions)),
        saliency=None if truth.clips is None else np.zeros(clips.sum()),
        saliency_counts=clips,
        constant=np.zeros(Q, bool),
        unsorted=False,
        warnings={},
    )
