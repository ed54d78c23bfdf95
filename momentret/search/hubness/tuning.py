"""Choosing method, temperature, k and shrinkage on queries that are not the test queries.

With pairs: the smallest correction within one paired standard error of the best R@1. Without pairs: the temperature
that leaves held-out bank queries the least skewed k-occurrence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from momentret.errors import ConfigError, DataError
from momentret.progress import Progress, silent
from momentret.search.hubness.arrays import Array
from momentret.search.hubness.config import METHODS, HubnessConfig
from momentret.search.hubness.diagnosis import hubness_statistics, k_occurrence
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import check_pairs, ranks, retrieval_metrics
from momentret.search.hubness.rows import Rows, as_rows
from momentret.words import count_of

__all__ = ["SHRINKS", "Trial", "TuneResult", "grid", "hold_out_rows", "tune", "tune_unpaired"]

QUERY_GRID = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)  # over the standard deviation
GALLERY_GRID = (0.05, 0.1, 0.25, 0.5, 1.0)
TAU_GRID = (0.15, 0.3, 0.6)
SHRINKS = (0.25, 0.5, 0.75, 1.0)  # and 0: raw
HELD_OUT = 1000


@dataclass(frozen=True)
class Trial:
    """One point of the grid."""

    config: HubnessConfig
    """Temperatures in standard deviations, so that it carries over to another gallery."""
    correction: float
    """RMS of what is subtracted, in similarity units."""
    R1: float | None = None
    R5: float | None = None
    MnR: float | None = None
    skewness: float | None = None
    """Of N_10 after correction; without pairs this is the objective."""


@dataclass(frozen=True)
class TuneResult:
    """The grid, and what was chosen from it by which rule."""

    rule: str
    chosen: Trial
    best: Trial
    trials: tuple[Trial, ...]

    @property
    def config(self) -> HubnessConfig:
        """The chosen settings, for `HubnessNormaliser` on the real gallery."""
        return self.chosen.config


def grid(method: str, gallery_bank: bool = False) -> list[HubnessConfig]:
    """Return the settings tried for a method, unshrunk; ``auto`` takes is, dis, nnn, and dualis with its bank."""
    if method == "auto":
        methods = ["is", "dis", "nnn", *(["dualis"] if gallery_bank else [])]
        return [config for name in methods for config in grid(name)]
    base = HubnessConfig(method=method, shrink=1.0, units="std")
    if base.traits.transductive or base.traits.cross_bank:
        raise ConfigError(f"method {method!r} cannot be tuned here; choose its temperature by hand")
    if method in ("is", "dis"):
        return [replace(base, beta_query=c) for c in QUERY_GRID]
    if method == "gis":
        return [replace(base, beta_gallery=c) for c in (*GALLERY_GRID, *QUERY_GRID[2:])]
    if base.traits.gallery_bank:
        return [replace(base, beta_query=q, beta_gallery=g) for q, g in product(QUERY_GRID, GALLERY_GRID)]
    if method == "bank-sinkhorn":
        return [replace(base, tau=tau) for tau in TAU_GRID]
    tops = {"nnn": (8, 16, 32, 64, 128, 256), "csls": (1, 5, 10, 20, 50)}.get(method)
    return [replace(base, top=top) for top in tops] if tops else [base]


def tune(
    S: Array | Rows,
    query_bank: Array | Rows,
    pairs: np.ndarray,
    method: str = "auto",
    gallery_bank: Array | Rows | None = None,
    progress: Progress = silent,
    ties: str = "average",
) -> TuneResult:
    """Choose settings by R@1 on validation queries.

    Among settings within one paired standard error of the best (ties: R@5, then mean rank) the one that corrects least
    is taken. Raw is in the grid, and nothing below it on these queries is chosen.

    Args:
        S: validation queries × validation gallery.
        query_bank: bank × validation gallery.
        pairs: ``(M, 2)`` positions of (query, positive item).
        method: a key of `METHODS`, or ``auto``.
        gallery_bank: gallery bank × validation gallery.
        progress: wraps the loop over the grid.
        ties: rank of a positive among items of its score, a name of `retrieval.TIES`.
    """
    if method != "auto" and method not in METHODS:
        HubnessConfig(method=method)  # raises with the nearest name
    rows, bank = as_rows(S), as_rows(query_bank, "the query bank")
    check_pairs(pairs, rows.shape)
    trials, hits = [], []
    settings = [HubnessConfig(method="raw", shrink=1.0, units="std"), *grid(method, gallery_bank is not None)]
    for config in progress(settings, "tuning", len(settings)):
        hub = HubnessNormaliser(config).fit(bank, gallery_bank)
        spread = 0.0 if not hub.terms else float(hub.bias().std(correction=0))
        for shrink in SHRINKS if hub.terms else (1.0,):
            hub.facts = replace(hub.facts, shrink=shrink)
            found = ranks(hub.transform(rows), pairs, ties)
            metrics = retrieval_metrics(found)
            size = math.inf if config.method == "gc" else shrink * spread
            trials.append(Trial(replace(config, shrink=shrink), size, metrics["R1"], metrics["R5"], metrics["MnR"]))
            hits.append(found == 0)
    order = sorted(
        range(len(trials)), key=lambda i: (-_known(trials[i].R1), -_known(trials[i].R5), _known(trials[i].MnR))
    )
    best = order[0]
    near = [i for i in order if hits[i].sum() >= hits[0].sum() and _within_one_error(hits[best], hits[i])]
    chosen = min(near, key=lambda i: trials[i].correction)  # the first of equals is the better one
    return TuneResult("one-standard-error", trials[chosen], trials[best], tuple(trials))


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _within_one_error(best: np.ndarray, other: np.ndarray) -> bool:
    gained, lost, size = int((best & ~other).sum()), int((other & ~best).sum()), len(best)
    difference = gained - lost
    return difference <= math.sqrt(max(0.0, gained + lost - difference**2 / size))


def hold_out_rows(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the bank rows that are held out, and of the others, both rising.

    It is a tenth, at most 1000, drawn at random: the same ones every time.

    Raises:
        DataError: there are fewer than 20 rows.
    """
    if rows < 20:
        raise DataError(f"the query bank has {count_of(rows, 'row')}, expected at least 20 to hold some out")
    order, held = np.random.default_rng(0).permutation(rows), min(HELD_OUT, rows // 10)
    return np.sort(order[:held]), np.sort(order[held:])


def tune_unpaired(query_bank: Array | Rows, method: str = "is", progress: Progress = silent) -> TuneResult:
    """Choose the temperature that leaves held-out bank queries the least skewed N_10.

    Raises:
        DataError: the bank has fewer than 20 rows.
    """
    bank = as_rows(query_bank, "the query bank")
    held, others = hold_out_rows(bank.shape[0])
    live, rest = bank.pick(held), bank.pick(others)
    if METHODS[method].gallery_bank:
        raise ConfigError(f"method {method!r} needs pairs to be tuned; give ground truth")
    trials = []
    settings = grid(method)
    for config in progress(settings, "tuning", len(settings)):
        hub = HubnessNormaliser(config).fit(rest)
        skewness = hubness_statistics(k_occurrence(hub.transform(live), 10), len(held), 10).skewness
        spread = float(hub.bias().std(correction=0)) if hub.terms else 0.0
        trials.append(Trial(config, spread, skewness=skewness))
    best = min(trials, key=lambda trial: abs(_known(trial.skewness)))
    chosen = replace(best, config=replace(best.config, shrink=None))  # how far to believe the bank: its reliability
    return TuneResult("least-skewness", chosen, best, tuple(trials))
