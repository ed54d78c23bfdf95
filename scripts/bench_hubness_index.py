#!/usr/bin/env python3
"""Measure what hubness correction costs inside an index, and whether its lists are those of the dense computation.

    python scripts/bench_hubness_index.py --items 100000

A CLIP-like world; biases of method dualdis, fitted on `--bank` pairs. CPU milliseconds a query of one thread, medians
of `--rounds`, queries in one batch unless said otherwise. *Dense* computes all similarities, corrects them and takes
the ten best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from momentret.search.hubness.arrays import top_k
from momentret.search.hubness.index import CertifiedSearch, HubCorrectedIndex, import_faiss
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.rows import ProductRows
from momentret.search.hubness.simulation import WORLDS, World

MODES = ("raw", "is", "dis", "dualis", "dualdis")
TOP = 10


def milliseconds(run: Callable[[], Any], queries: int, rounds: int) -> tuple[float, Any]:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = run()
        times.append(1000 * (time.process_time() - start) / queries)
    return statistics.median(times), result


def dense(hub: HubnessNormaliser, mode: str, similarities: np.ndarray) -> np.ndarray:
    """Return the top ten of a mode by the fitted terms, without an index."""
    S, weights = torch.from_numpy(similarities).double(), torch.zeros(len(similarities), 2, dtype=torch.float64)
    gates = hub.gates(top_k(S, 1)[1][:, 0])
    for i in {"raw": (), "is": (0,), "dis": (0,)}.get(mode, (0, 1)):
        gate = gates[i]
        assert gate is not None
        share = hub.terms[i].weight if "dual" in mode else 1.0
        weights[:, i] = hub.facts.shrink * share * (gate if mode.startswith("d") and "dis" in mode else 1.0)
    return top_k(S - weights @ hub.centred_biases(), TOP)[1].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--bank", type=int, default=2_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graph", action="store_true", help="measure HNSW too; building it takes minutes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    faiss = import_faiss()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    world = World(replace(WORLDS["clip-like"], dimension=options.dimension), seed=0)
    (_, video), (text, _) = world.pairs(options.items, random), world.pairs(options.queries, random)
    bank_text, bank_video = world.pairs(options.bank, random)
    hub = HubnessNormaliser(method="dualdis").fit(ProductRows(bank_text, video), ProductRows(bank_video, video))
    similarities = text @ video.T
    found: dict[str, float] = {}

    def timed(name: str, run: Callable[[], Any], queries: int = options.queries) -> Any:
        found[name], result = milliseconds(run, queries, options.rounds)
        return result

    plain = faiss.IndexFlatIP(options.dimension)
    plain.add(video)
    augmented = HubCorrectedIndex(video, hub)
    timed("flat index, raw, without extra dimensions", lambda: plain.search(text, TOP))
    for mode in MODES:
        ids, _ = timed(f"the same with them, {mode}", lambda mode=mode: augmented.search(text, TOP, mode))
        same = (ids == dense(hub, mode, similarities)).all(1).mean()
        found[f"  top-{TOP} lists as the dense ones, {mode} (share)"] = float(same)
    if options.graph:
        graph = HubCorrectedIndex(video, hub, factory="HNSW32")
        faiss.ParameterSpace().set_index_parameter(graph.index, "efSearch", 128)
        ids, _ = timed("HNSW32 with extra dimensions, is", lambda: graph.search(text, TOP, "is"))
        overlap = [len(set(a) & set(b)) / TOP for a, b in zip(ids, dense(hub, "is", similarities), strict=True)]
        found["  recall of its lists (share)"] = float(np.mean(overlap))
    for size in (100, 500):
        raw, places = plain.search(text, size)
        certified = CertifiedSearch(plain, video, hub)
        low = (certified.low, text @ certified.low_vectors.T)
        _, _, proven = timed(
            f"correcting a raw list of {size}, certificate for its top {TOP}",
            lambda places=places, raw=raw, low=low: hub.rerank(places, raw, TOP, low),
        )
        found["  certified (share)" + f", {size}"] = float(proven.mean())
    ids, _, _ = timed("raw lists from the untouched index until all are certified", lambda: certified.search(text, TOP))
    found["  as the dense ones (share)"] = float((ids == dense(hub, "dualdis", similarities)).all(1).mean())
    single = HubnessNormaliser(method="is").fit(ProductRows(bank_text, video))
    for name, one in (("dualdis", hub), ("is", single)):
        title = f"one query at a time, {name}: correct all its similarities, take ten"
        timed(title, lambda one=one: [one.query(line, TOP) for line in similarities])
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{options.items} items of {options.dimension} numbers, {options.queries} queries; CPU ms a query")
    for name, value in found.items():
        print(f"{name:72s} {value:8.3f}")


if __name__ == "__main__":
    main()
