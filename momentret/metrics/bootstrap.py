"""How sure a number is: bootstrap intervals and paired comparisons over queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from momentret.progress import Progress, silent

__all__ = ["intervals", "p_values", "resample"]

CHUNK = 500
"""Rounds drawn at a time: 500 x 1,550 counts are 6 MB."""

Samples = Mapping[str, np.ndarray]


def resample(
    headline: Mapping[str, np.ndarray], rounds: int, *, seed: int = 0, progress: Progress = silent
) -> dict[str, np.ndarray]:
    """Return, for each metric, its value ``(rounds,)`` on queries drawn with replacement.

    The draws depend on the seed, the rounds and the number of queries only: two submissions to the same ground truth
    are resampled alike, which is what a paired comparison needs.

    Args:
        headline: metric -> ``(Q, C)``, NaN for queries that do not count; the metric is the mean over the C columns of
            their means over queries. A column that no drawn query belongs to is left out of that round.
        rounds: how many times to draw Q queries.
        seed: of the generator.
        progress: shows the rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, expected at least 1")
    if not headline:
        return {}
    values = np.concatenate(list(headline.values()), axis=1)  # (Q, K)
    counted = ~np.isnan(values)
    both = np.concatenate([np.where(counted, values, 0.0), counted], axis=1)  # (Q, 2K)
    generator = np.random.default_rng(seed)
    starts = range(0, rounds, CHUNK)
    parts = [
        _draw(len(values), min(CHUNK, rounds - start), generator) @ both
        for start in progress(starts, "resampling", len(starts))
    ]
    total, weight = np.split(np.concatenate(parts), 2, axis=1)
    means = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)  # (rounds, K)
    edges = np.cumsum([part.shape[1] for part in headline.values()])[:-1]
    return {name: _mean_of_columns(part) for name, part in zip(headline, np.split(means, edges, axis=1), strict=True)}


def _draw(queries: int, rounds: int, generator: np.random.Generator) -> np.ndarray:
    """Return how often each query is drawn, ``(rounds, Q)``; every row adds up to Q."""
    drawn = generator.integers(0, queries, (rounds, queries))
    drawn += queries * np.arange(rounds)[:, None]
    return np.bincount(drawn.ravel(), minlength=rounds * queries).reshape(rounds, queries).astype(float)


def _mean_of_columns(means: np.ndarray) -> np.ndarray:
    present = ~np.isnan(means)
    total = np.where(present, means, 0.0).sum(1)
    return np.where(present.any(1), total / np.maximum(present.sum(1), 1), np.nan)


def intervals(samples: Samples, level: float = 0.95) -> dict[str, list[float | None]]:
    """Return the percentile interval ``[low, high]`` of each metric, rounded as the report is."""
    tails = [50 * (1 - level), 50 * (1 + level)]
    return {name: [_rounded(bound) for bound in _percentiles(drawn, tails)] for name, drawn in samples.items()}


def _percentiles(drawn: np.ndarray, tails: list[float]) -> list[float]:
    known = drawn[~np.isnan(drawn)]
    return np.percentile(known, tails).tolist() if len(known) else [np.nan, np.nan]


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 2)


def p_values(ours: Samples, theirs: Samples) -> dict[str, float]:
    """Return the two-sided p-value of each shared metric: how far the resampled differences stay on one side of 0.

    Both must come from `resample` with the same seed and rounds on the same ground truth. The smallest possible value
    is 2 / (rounds + 1); equal submissions have 1.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 15 (achieved significance level).
    """
    result = {}
    for name in ours:
        if name in theirs:
            difference = ours[name] - theirs[name]
            difference = difference[~np.isnan(difference)]
            one_side = min((difference <= 0).sum(), (difference >= 0).sum()) + 1
            result[name] = min(1.0, float(2 * one_side / (len(difference) + 1)))
    return result
