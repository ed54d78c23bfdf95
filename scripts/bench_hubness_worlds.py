#!/usr/bin/env python3
"""Measure every method on the simulated cross-modal set: R@1 before and after, beside a blind baseline.

    python scripts/bench_hubness_worlds.py --seeds 4

1,000 queries and items, 9,000 bank pairs; each seed draws its own world. *Default*: nothing is tuned and no label is
seen. *Tuned*: temperature (or k) and shrinkage chosen on 1,000 validation pairs of the same world. *Published*: the
values of the method's paper or code, unshrunk. *Blind* ranks at random. Transductive methods need all test queries at
once and use that every item is wanted once; their numbers do not compare with the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from momentret.errors import ConfigError
from momentret.search.hubness.config import METHODS, HubnessConfig
from momentret.search.hubness.diagnosis import hubness_statistics, k_occurrence
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import ranks, retrieval_metrics
from momentret.search.hubness.simulation import WORLDS, World
from momentret.search.hubness.tuning import tune

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # S, P, R, X
PUBLISHED = ("is", "dis", "dualis", "dualdis", "nnn", "csls", "bank-sinkhorn", "dbsn", "dsl", "sn")


def draw(world: str, seed: int, size: int, bank: int) -> tuple[Matrices, Matrices]:
    """Return the matrices of the test and of the validation split: similarities, query, gallery and cross bank."""
    random, made = np.random.default_rng([1, seed]), World(WORLDS[world], seed)
    test, held, (bank_text, bank_video) = (made.pairs(count, random) for count in (size, size, bank))
    cross = bank_text @ bank_video.T
    return tuple((t @ v.T, bank_text @ v.T, bank_video @ v.T, cross) for t, v in (test, held))  # type: ignore[return-value]


def recall(scores: np.ndarray) -> float:
    return retrieval_metrics(ranks(scores, diagonal(len(scores))))["R1"]


def diagonal(size: int) -> np.ndarray:
    return np.stack([np.arange(size)] * 2, axis=1)


def corrected(config: HubnessConfig, matrices: Matrices) -> np.ndarray:
    S, *banks = matrices
    scores: np.ndarray = HubnessNormaliser(config).fit(*banks).transform(S)
    return scores


def measure(world: str, seed: int, size: int, bank: int) -> Iterator[tuple[str, str, float]]:
    """Yield method, setting and R@1; for raw also the skewness of N_10."""
    test, held = draw(world, seed, size, bank)
    blind = np.random.default_rng([2, seed]).random(test[0].shape)
    yield "blind", "default", recall(blind)
    skewness = hubness_statistics(k_occurrence(test[0], 10), size, 10).skewness
    yield "skewness of raw N_10", "default", skewness
    for method in METHODS:
        yield method, "default", recall(corrected(HubnessConfig(method=method), test))
        if method in PUBLISHED:
            yield method, "published", recall(corrected(HubnessConfig.published(method), test))
        if method != "raw":
            try:
                result = tune(held[0], held[1], diagonal(size), method, held[2])
            except ConfigError:
                continue  # it cannot be tuned on pairs
            yield method, "tuned", recall(corrected(result.config, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--size", type=int, default=1000, help="queries and items")
    parser.add_argument("--bank", type=int, default=9000, help="bank pairs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for world in WORLDS:
        for seed in range(options.seeds):
            for method, setting, value in measure(world, seed, options.size, options.bank):
                found[method, setting, world].append(value)
            print(f"{world}, seed {seed}: done", file=sys.stderr)
    if options.json:
        print(json.dumps([{"key": list(key), "values": values} for key, values in found.items()], indent=2))
        return
    settings = {"default": "default", "tuned": "tuned on validation", "published": "published values"}
    for setting, title in settings.items():
        print(f"\n| R@1, {title} | {' | '.join(WORLDS)} |\n|---|{'---|' * len(WORLDS)}")
        for method in dict.fromkeys(name for name, kind, _ in found if kind == setting):
            print(f"| {label(method)} | {' | '.join(cell(found[method, setting, world]) for world in WORLDS)} |")


def label(method: str) -> str:
    return f"{method} (transductive)" if method in METHODS and METHODS[method].transductive else method


def cell(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
