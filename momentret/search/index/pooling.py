"""Temporal pooling: the few vectors by which the first stage knows a run of clips."""

from __future__ import annotations

import numpy as np

__all__ = ["chapter_sizes", "pool_sizes"]


def chapter_sizes(clips: int, longest: int) -> np.ndarray:
    """Cut a video into the fewest chapters of at most `longest` clips, as even as can be."""
    count = max(1, -(-clips // longest))
    return np.diff(np.arange(count + 1) * clips // count)


def pool_sizes(rows: np.ndarray, count: int) -> np.ndarray:
    """Cut `rows` ``(L, D)`` into `count` runs of neighbours with the least total squared error around their means.

    Dynamic programming over all cuts: never worse than merging neighbours greedily, and faster, because the error of
    every run comes from two-dimensional prefix sums of the Gram matrix.

    Returns:
        The sizes ``(count,)`` of the runs, in order; `count` is lowered to L.
    """
    clips = len(rows)
    error = _run_errors(rows)
    best, cuts = error[0], []
    for _ in range(min(count, clips) - 1):
        total = best[:, None] + error  # (L + 1, L + 1): a run from i to j behind the best cut of the first i
        cuts.append(total.argmin(0))
        best = total.min(0)
    ends = [clips]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    return np.diff([0, *reversed(ends)])


def _run_errors(rows: np.ndarray) -> np.ndarray:
    """Return ``(L + 1, L + 1)``: the squared error of rows i to j - 1 around their mean, infinite where j <= i."""
    clips = len(rows)
    gram = rows.astype(np.float64) @ rows.T.astype(np.float64)
    prefix = np.zeros((clips + 1, clips + 1))
    prefix[1:, 1:] = gram.cumsum(0).cumsum(1)
    diagonal = np.diagonal(prefix)
    squares = np.concatenate([[0.0], np.diagonal(gram).cumsum()])
    inner = diagonal[None, :] - prefix - prefix.T + diagonal[:, None]
    sizes = np.arange(clips + 1)[None, :] - np.arange(clips + 1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sizes > 0, squares[None, :] - squares[:, None] - inner / sizes, np.inf)
