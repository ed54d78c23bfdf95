#!/usr/bin/env python3
"""Measure what a search through Qdrant finds of the truth: moments, one a video, by prefetch and candidates.

    python scripts/bench_qdrant.py --videos 2000 --queries 60

The data are those of `bench_search.py`. The client's own engine answers (exact MaxSim: no graph, no quantisation), so
this is what the layout can reach, not how fast a server is; CPU milliseconds are those of that engine and of scoring.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from bench_search import Exhaustive, Ours, cpu, measure
from bench_search_data import DIM, Corpus, truth_of

from momentret.search.index import CorpusIndex, IndexSettings
from momentret.search.qdrant import QdrantBackend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--noise", type=float, default=2.0, help="of the tokens: 2 standard, 4 hard")
    parser.add_argument("--no-scenes", action="store_true", help="videos that drift instead of being cut")
    parser.add_argument("--prefetch", default="100,200,500,1000,2000")
    parser.add_argument("--candidates", default="100")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Local mode is not recommended")
    with tempfile.TemporaryDirectory() as folder:
        report = compare(arguments, Path(folder))
    print(json.dumps(vars(arguments) | report | {"load": os.getloadavg()}, indent=1))


def compare(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return recall and milliseconds of the folder and of every setting of Qdrant."""
    data = Corpus(arguments.videos, not arguments.no_scenes, noise=arguments.noise)
    settings, begin = IndexSettings(dim=DIM), cpu()
    corpus = QdrantBackend.create(":memory:", "bench", settings)
    corpus.add_many(data.records())
    build = cpu() - begin
    index = CorpusIndex.create(folder / "index", settings)
    index.add_many(data.records())
    index.compact()
    systems = {"folder C=100": Exhaustive(Ours(index, candidates=100))}
    for prefetch in map(int, arguments.prefetch.split(",")):
        for candidates in map(int, arguments.candidates.split(",")):
            view: Any = QdrantBackend(corpus._collection, settings, prefetch)
            systems[f"prefetch={prefetch} C={candidates}"] = Exhaustive(Ours(view, candidates=candidates))
    queries = [data.query(number) for number in range(arguments.queries)]
    truth = truth_of(data, queries, folder / "truth.npz")
    return {"build_cpu_s": build, "systems": measure(systems, queries, truth)}


if __name__ == "__main__":
    main()
