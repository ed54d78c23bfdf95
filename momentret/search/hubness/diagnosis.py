"""Who is everybody's neighbour: k-occurrence N_k of gallery items, and the numbers that describe its distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from momentret.errors import DataError
from momentret.progress import Progress, silent
from momentret.search.hubness.arrays import Array, count_listed, top_k
from momentret.search.hubness.rows import Rows, as_rows
from momentret.search.hubness.validity import require_no_nan

__all__ = ["HubnessStatistics", "bad_occurrence", "hubness_statistics", "k_occurrence", "worst_hubs"]

STRIP = 4 << 20


def k_occurrence(scores: Array | Rows, k: int, progress: Progress = silent) -> np.ndarray:
    """Return how many queries have each gallery item among their k best, ``(N,)`` int64.

    Ties go to the lowest position. The sum is ``min(k, N) * queries``, less where entries are masked (-inf).
    """
    rows = as_rows(scores)
    counts = torch.zeros(rows.shape[1], dtype=torch.int64, device=rows.device)
    for _, block in progress(rows.blocks(STRIP), "counting neighbours"):
        require_no_nan(block, rows)
        counts += count_listed(*top_k(block, k), rows.shape[1])
    return np.asarray(counts.cpu())


def bad_occurrence(scores: Array | Rows, k: int, pairs: np.ndarray) -> np.ndarray:
    """Return in how many of its appearances an item is irrelevant, ``(N,)`` int64.

    Args:
        scores: queries × gallery.
        k: length of a query's list.
        pairs: ``(M, 2)`` positions of relevant (query, item).
    """
    rows = as_rows(scores)
    width = rows.shape[1]
    relevant = np.unique(pairs[:, 0].astype(np.int64) * width + pairs[:, 1])
    counts = np.zeros(width, np.int64)
    for start, block in rows.blocks(STRIP):
        values, places = top_k(block, k)
        cells = (start + np.arange(len(places)))[:, None] * width + places.cpu().numpy()
        wrong = torch.from_numpy(~np.isin(cells, relevant)).to(places.device)
        counts += count_listed(values[wrong], places[wrong], width).cpu().numpy()
    return counts


@dataclass(frozen=True)
class HubnessStatistics:
    """Shape of one k-occurrence distribution; all shares in [0, 1]."""

    k: int
    queries: int
    mean: float
    skewness: float
    """Population skewness over all items, those never retrieved included; 0 where all are equal."""
    skewness_baseline: float
    """Of independent uniform retrieval: below it a correction forces a one-to-one assignment."""
    max: int
    hub_rate: float
    """Share of items with at least `HUB_FACTOR` times the mean."""
    hub_occupancy: float
    """Share of all list places that hubs take."""
    antihub_rate: float
    """Share of items never retrieved."""
    gini: float
    robin_hood: float
    """Share of all list places that would have to move for an even distribution."""
    atkinson: float
    effective_share: float
    """``exp(entropy) / N``; 1 is perfectly even."""


HUB_FACTOR = 2.0


def hubness_statistics(
    counts: np.ndarray, queries: int, k: int, hub_factor: float = HUB_FACTOR, ignore_zeros: bool = False
) -> HubnessStatistics:
    """Describe a k-occurrence distribution.

    Args:
        counts: ``(N,)`` from `k_occurrence`.
        queries: how many were counted.
        k: length of the lists; clipped to N.
        hub_factor: an item with so many times the mean is a hub.
        ignore_zeros: skewness over retrieved items alone, as DBNorm's code has it.

    Raises:
        DataError: no item was retrieved.
    """
    size = len(counts)
    values = counts.astype(np.float64)
    mean, total = values.mean(), values.sum()
    if total == 0:
        raise DataError("no query has an item to find: every similarity is masked (-inf)")
    hubs = values >= hub_factor * mean
    probability = min(k, size) / size
    shares = values[values > 0] / total
    ranks = np.arange(1, size + 1)
    spread = math.sqrt(queries * probability * (1 - probability))
    return HubnessStatistics(
        k=k,
        queries=queries,
        mean=float(mean),
        skewness=_skewness(values[values > 0] if ignore_zeros else values),
        skewness_baseline=(1 - 2 * probability) / spread if spread > 0 else 0.0,
        max=int(counts.max()),
        hub_rate=float(hubs.mean()),
        hub_occupancy=float(values[hubs].sum() / total),
        antihub_rate=float((counts == 0).mean()),
        gini=float(((2 * ranks - size - 1) * np.sort(values)).sum() / (size * total)),
        robin_hood=float(0.5 * np.abs(values - mean).sum() / total),
        atkinson=float(1 - np.sqrt(values).mean() ** 2 / mean),
        effective_share=float(np.exp(-(shares * np.log(shares)).sum()) / size),
    )


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    variance = (centred**2).mean()
    return float((centred**3).mean() / variance**1.5) if variance > 0 else 0.0


def worst_hubs(counts: np.ndarray, count: int = 10) -> np.ndarray:
    """Return the positions of the items retrieved most often, most first; ties to the lowest position."""
    return np.argsort(-counts, kind="stable")[:count]
