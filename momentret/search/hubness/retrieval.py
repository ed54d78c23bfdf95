"""Retrieval metrics with a tie rule, and the paired comparison of two rankings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from momentret.errors import DataError
from momentret.search.hubness.arrays import Array
from momentret.search.hubness.rows import Rows, as_rows
from momentret.words import count_of

__all__ = ["TIES", "check_pairs", "compare_ranks", "ranks", "retrieval_metrics"]

TIES = ("average", "optimistic", "pessimistic", "index")
_COMPARED = 1 << 22  # entries compared at once


def ranks(scores: Array | Rows, pairs: np.ndarray, ties: str = "average") -> np.ndarray:
    """Return the 0-based rank of every query's best positive, ``(queries,)`` float64.

    For a positive p: ``greater + (equal - 1) / 2`` under ``average``, ``greater`` under ``optimistic``,
    ``greater + equal - 1`` under ``pessimistic``, the position in a stable descending sort under ``index``. Other
    positives stay in the list.

    Args:
        scores: queries × gallery.
        pairs: ``(M, 2)`` positions of (query, positive item); every query must have one.
        ties: a name of `TIES`.

    Raises:
        DataError: a query without a positive, or a position out of range.
    """
    rows = as_rows(scores)
    check_pairs(pairs, rows.shape)
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}, expected one of {', '.join(TIES)}")
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    found = np.full(rows.shape[0], np.inf)
    for start, block in rows.blocks(4 << 20):
        first, last = np.searchsorted(pairs[:, 0], (start, start + len(block)))
        size = max(1, _COMPARED // rows.shape[1])
        for i in range(first, last, size):
            chunk = torch.from_numpy(pairs[i : min(i + size, last)]).to(block.device)
            values = _pair_ranks(block, chunk[:, 0] - start, chunk[:, 1], ties).double().cpu().numpy()
            np.minimum.at(found, chunk[:, 0].cpu().numpy(), values)
    return found


def _pair_ranks(block: torch.Tensor, queries: torch.Tensor, items: torch.Tensor, ties: str) -> torch.Tensor:
    lines = block[queries]
    own = lines.gather(1, items[:, None])
    greater = (lines > own).sum(1)
    if ties == "optimistic":
        return greater
    equal = lines == own
    if ties == "index":
        before = torch.arange(lines.shape[1], device=lines.device) < items[:, None]
        return greater + (equal & before).sum(1)
    others = equal.sum(1) - 1
    return greater + (others if ties == "pessimistic" else others / 2)


def check_pairs(pairs: np.ndarray, shape: tuple[int, int]) -> None:
    """Refuse ground truth that does not fit a matrix of `shape`.

    Raises:
        DataError: positions out of range, or a query without a positive.
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or not len(pairs):
        raise DataError(f"ground truth has shape {pairs.shape} and dtype {pairs.dtype}, expected integer pairs (M, 2)")
    low, high = pairs.min(0), pairs.max(0)
    if (low < 0).any() or high[0] >= shape[0] or high[1] >= shape[1]:
        shown = f"{shape[0]} × {shape[1]}"
        raise DataError(f"ground truth reaches query {high[0]} and item {high[1]}, the matrix is {shown}")
    missing = np.setdiff1d(np.arange(shape[0]), pairs[:, 0])
    if len(missing):
        raise DataError(
            f"{count_of(len(missing), 'query')} without a positive in the ground truth (first: query {missing[0]}); "
            "add it, or drop such queries (--skip-queries-without-truth)"
        )


def retrieval_metrics(found: np.ndarray) -> dict[str, float]:
    """Return R1, R5, R10 (percent), MdR, MnR, gmean and n from 0-based ranks.

    R1 counts ranks of exactly 0: a two-way tie at the top (rank 0.5) is a miss.
    """
    recall = {f"R{k}": 100.0 * float((found < k if k > 1 else found == 0).mean()) for k in (1, 5, 10)}
    gmean = math.prod(recall.values()) ** (1 / 3)
    return {
        **recall,
        "MdR": float(np.median(found)) + 1,
        "MnR": float(found.mean()) + 1,
        "gmean": gmean,
        "n": float(len(found)),
    }


def compare_ranks(before: np.ndarray, after: np.ndarray, samples: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Compare two rankings of the same queries.

    Returns:
        R1 difference in points with its paired bootstrap 95 % interval, queries gained and lost, exact McNemar p-value.
    """
    change = (after == 0).astype(np.int64) - (before == 0)
    gained, lost, size = int((change > 0).sum()), int((change < 0).sum()), len(change)
    shares = [gained / size, lost / size, 1 - (gained + lost) / size]
    drawn = np.random.default_rng(seed).multinomial(size, shares, samples)  # a bootstrap only sees these three counts
    low, high = np.percentile(100.0 * (drawn[:, 0] - drawn[:, 1]) / size, [2.5, 97.5])
    return {
        "R1": 100.0 * (gained - lost) / size,
        "ci95": [float(low), float(high)],
        "gained": gained,
        "lost": lost,
        "mcnemar_p": _mcnemar(gained, lost),
    }


def _mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value of a fair coin with these counts."""
    n = gained + lost
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(min(gained, lost) + 1)]
    return min(1.0, 2 * sum(math.exp(value - n * math.log(2)) for value in logs))
