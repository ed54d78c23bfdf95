#!/usr/bin/env python3
"""Measure corpus search: CPU time and recall against exact symmetric Chamfer, beside other systems in the same run.

    python scripts/bench_search.py --videos 10000 --queries 60 --systems exact,pooled,faiss,qdrant,lancedb,plaid

Data are generated (seeded): topics, videos of 2 to 5 scenes, queries that are noisy clips of a random window. Recall@10
counts moments after taking the best window of each video. Systems take turns, query by query, so that a busy machine
slows all alike; CPU milliseconds are what to compare, with OMP_NUM_THREADS set for all of them. Systems that are not
installed are skipped and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from momentret.search.chamfer import window_scores
from momentret.search.index import CorpusIndex, IndexSettings, SearchOptions, Video

DIM, CLIPS, LENGTHS, TOP = 512, 30, tuple(range(2, 9)), 10
Moments = list[tuple[int, int, int]]  # video, first clip, clips
_SPECTRUM = np.arange(1, DIM + 1, dtype=np.float32) ** -0.35
_SPECTRUM /= np.linalg.norm(_SPECTRUM)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal((*shape, DIM), dtype=np.float32) * _SPECTRUM


class Generator:
    """Videos and queries, each from a seed of its own: any of them can be made again without the others."""

    def __init__(self, videos: int, scenes: bool = True, drift: float = 0.8) -> None:
        self.videos, self.scenes, self.drift = videos, scenes, drift
        rng = np.random.default_rng(0)
        self.topics, self.common, self.gap = draw(rng, 2000), draw(rng), draw(rng)

    def clips(self, number: int) -> np.ndarray:
        """Return the clips ``(30, 512)`` of a video."""
        rng = np.random.default_rng([1, number])
        base = self.topics[rng.integers(2000)] + 0.7 * draw(rng)
        noise = draw(rng, CLIPS)
        for i in range(1, CLIPS):
            noise[i] = self.drift * noise[i - 1] + np.sqrt(1 - self.drift**2) * noise[i]
        scene = np.zeros((CLIPS, DIM), dtype=np.float32)
        if self.scenes:
            count = int(rng.integers(2, 6))
            cuts = np.sort(rng.choice(np.arange(1, CLIPS), count - 1, replace=False))
            scene = self.topics[rng.integers(2000, size=count)][np.searchsorted(cuts, np.arange(CLIPS), side="right")]
        return unit(0.6 * self.common + 0.7 * base + 0.7 * scene + (0.5 if self.scenes else 1.0) * noise)

    def query(self, number: int, noise: float) -> np.ndarray:
        """Return 8 to 16 tokens ``(T, 512)`` about a window of 3 to 8 clips."""
        rng = np.random.default_rng([2, number])
        clips = self.clips(int(rng.integers(self.videos)))
        length, tokens = int(rng.integers(3, 9)), int(rng.integers(8, 17))
        begin = int(rng.integers(CLIPS - length + 1))
        source = clips[begin + rng.integers(length, size=tokens)]
        return unit(source + noise * draw(rng, tokens) + 0.3 * self.gap)


def best_windows(query: np.ndarray, clips: np.ndarray, videos: np.ndarray) -> tuple[Moments, np.ndarray]:
    """Return the best window of each of the best ten videos, exactly, and their scores; `clips` is ``(N, 30, 512)``."""
    best = np.empty(len(clips), dtype=np.float32)
    where = np.empty((len(clips), 2), dtype=np.int64)
    for begin in range(0, len(clips), 500):
        part = clips[begin : begin + 500]
        count = len(part)
        scores = window_scores(query @ part.reshape(-1, DIM).T, np.full(count, CLIPS), LENGTHS)
        flat = scores.reshape(len(LENGTHS), count, CLIPS).transpose(1, 0, 2).reshape(count, -1)
        choice = flat.argmax(1)
        best[begin : begin + count] = flat[np.arange(count), choice]
        where[begin : begin + count] = np.stack(np.divmod(choice, CLIPS), 1)
    order = np.argsort(-best, kind="stable")[:TOP]
    return [(int(videos[i]), int(where[i, 1]), LENGTHS[where[i, 0]]) for i in order], best[order]


class Ours:
    """The index of this library."""

    def __init__(self, index: CorpusIndex, **options: Any) -> None:
        self.index = index
        self.options = SearchOptions(top=TOP, lengths=LENGTHS, per_video=1, **options)

    def __call__(self, query: np.ndarray) -> Moments:
        hits = self.index.search(query, options=self.options).hits
        return [(int(h.video.video_id), round(h.start / 2), round((h.end - h.start) / 2)) for h in hits]


class Reranked:
    """Another system's best hundred videos, given our exact scoring of all windows: what a fair user would do."""

    def __init__(self, retrieve: Callable[[np.ndarray], np.ndarray], clips: np.ndarray) -> None:
        self.retrieve, self.clips = retrieve, clips

    def __call__(self, query: np.ndarray) -> Moments:
        videos = np.unique(self.retrieve(query))
        return best_windows(query, self.clips[videos], videos)[0]


def torch_exhaustive(clips: np.ndarray) -> Callable[[np.ndarray], Moments]:
    """Return a search that scores every window of every video in torch, 32-bit."""
    import torch

    table = torch.from_numpy(clips)

    def search(query: np.ndarray) -> Moments:
        tokens, best, where = torch.from_numpy(query), [], []
        for part in table.split(1000):
            product = (part @ tokens.T).movedim(2, 0)  # (T, n, 30)
            prefix = torch.nn.functional.pad(product.amax(0).cumsum(1), (1, 0))
            running, scores = product, []
            for length in range(1, LENGTHS[-1] + 1):
                if length > 1:
                    running = torch.maximum(running[:, :, :-1], product[:, :, length - 1 :])
                if length in LENGTHS:
                    score = running.mean(0) + (prefix[:, length:] - prefix[:, :-length]) / length
                    scores.append(torch.nn.functional.pad(score, (0, CLIPS - score.shape[1]), value=-torch.inf))
            value, choice = torch.cat(scores, 1).max(1)
            best.append(value)
            where.append(choice)
        choice = torch.cat(where)
        order = torch.cat(best).topk(TOP).indices
        return [(int(i), int(choice[i] % CLIPS), LENGTHS[int(choice[i] // CLIPS)]) for i in order]

    return search


def faiss_clips(clips: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a retrieval by IVF over clips: each token's nearest clips, missing ones counted as the farthest found."""
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 1
    flat = clips.reshape(-1, DIM)
    lists = 2 ** round(np.log2(np.sqrt(len(flat))))
    index = faiss.index_factory(DIM, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(flat[:: max(1, len(flat) // (64 * lists))])
    index.add(flat)
    index.nprobe = 16

    def retrieve(query: np.ndarray) -> np.ndarray:
        score, row = index.search(query, 200)
        videos, position = np.unique(row // CLIPS, return_inverse=True)
        table = np.tile(score.min(1)[:, None], (1, len(videos)))
        np.maximum.at(table, (np.repeat(np.arange(len(query)), 200), position.reshape(-1)), score.reshape(-1))
        return videos[np.argsort(-table.sum(0))[:100]]

    return retrieve


def qdrant_edge(clips: np.ndarray, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a retrieval by qdrant-edge's multivector MaxSim."""
    import qdrant_edge as q

    vectors = q.EdgeVectorParams(
        size=DIM,
        distance=q.Distance.Dot,
        multivector_config=q.MultiVectorConfig(comparator=q.MultiVectorComparator.MaxSim),
    )
    shard = q.EdgeShard.create(str(folder), q.EdgeConfig(vectors={"clips": vectors}))
    for begin in range(0, len(clips), 200):
        points = [
            q.Point(id=i, vector={"clips": clips[i].tolist()}, payload={})
            for i in range(begin, min(begin + 200, len(clips)))
        ]
        shard.update(q.UpdateOperation.upsert_points(points))
    shard.optimize()

    def retrieve(query: np.ndarray) -> np.ndarray:
        request = q.QueryRequest(query=q.Query.Nearest(query.tolist(), using="clips"), limit=100)
        return np.array([point.id for point in shard.query(request)])

    return retrieve


def lancedb_scan(clips: np.ndarray, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a retrieval by LanceDB's multivector column, without an index: its exact mode."""
    import lancedb
    import pyarrow as pa

    schema = pa.schema([("id", pa.int64()), ("clips", pa.list_(pa.list_(pa.float32(), DIM)))])

    def batches() -> Iterator[Any]:
        for begin in range(0, len(clips), 500):
            part = clips[begin : begin + 500]
            inner = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), DIM)
            outer = pa.ListArray.from_arrays(
                pa.array(np.arange(0, part.shape[0] * CLIPS + 1, CLIPS, dtype="i4")), inner
            )
            yield pa.RecordBatch.from_arrays([pa.array(np.arange(begin, begin + len(part))), outer], schema=schema)

    table = lancedb.connect(str(folder)).create_table("videos", batches(), schema=schema)

    def retrieve(query: np.ndarray) -> np.ndarray:
        found = table.search(query, vector_column_name="clips").distance_type("cosine").limit(100)
        return np.array(found.select(["id"]).to_arrow()["id"].to_pylist())

    return retrieve


def fast_plaid(clips: np.ndarray, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a retrieval by fast-plaid on the CPU."""
    import torch
    from fast_plaid import search

    engine = search.FastPlaid(index=str(folder), device="cpu")
    engine.create(documents_embeddings=[torch.from_numpy(part) for part in clips])

    def retrieve(query: np.ndarray) -> np.ndarray:
        (found,) = engine.search(queries_embeddings=torch.from_numpy(query)[None], top_k=100)
        return np.array([number for number, _ in found])

    return retrieve


def videos_of(data: Generator, count: int) -> Iterator[tuple[Video, np.ndarray]]:
    for number in range(count):
        clips = data.clips(number)
        yield Video(str(number), f"/{number}", str(number), duration=2.0 * CLIPS, clip_length=2.0), clips


def cpu() -> float:
    """Return the CPU seconds of this process and the children it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def build_index(folder: Path, data: Generator) -> tuple[CorpusIndex, dict[str, Any]]:
    """Build our index and measure building, opening and adding."""
    begin = cpu()
    with CorpusIndex.create(folder, IndexSettings(dim=DIM)) as index:
        index.add_many(videos_of(data, data.videos))
        index.compact()
        built, stats = cpu() - begin, index.stats()
    begin, wall = cpu(), time.perf_counter()
    index = CorpusIndex.open(folder)
    opened = {"open_ms": 1e3 * (time.perf_counter() - wall), "open_cpu_ms": 1e3 * (cpu() - begin)}
    return index, opened | {
        "build_cpu_s": built,
        "first_stage_bytes_per_clip": stats.first_stage_bytes / stats.clips,
        "clip_bytes_per_clip": stats.clip_bytes / stats.clips,
    }


def measure(
    systems: dict[str, Callable[[np.ndarray], Moments]], queries: list[np.ndarray], truth: list[Moments]
) -> Any:
    """Run the systems in turns and return CPU and wall milliseconds and recall of each."""
    rows = {name: {"cpu": [], "wall": [], "moments": [], "videos": []} for name in systems}
    for number, (query, expected) in enumerate(zip(queries, truth, strict=True)):
        for name, search in systems.items():
            if number == 0:
                search(query)  # warm
            begin, wall = cpu(), time.perf_counter()
            found = search(query)
            row = rows[name]
            row["cpu"].append(1e3 * (cpu() - begin))
            row["wall"].append(1e3 * (time.perf_counter() - wall))
            row["moments"].append(len(set(found) & set(expected)) / TOP)
            row["videos"].append(len({m[0] for m in found} & {m[0] for m in expected}) / TOP)
    return {
        name: {
            "recall_moments": float(np.mean(row["moments"])),
            "recall_videos": float(np.mean(row["videos"])),
            "cpu_ms": float(np.mean(row["cpu"])),
            "p50_ms": float(np.percentile(row["wall"], 50)),
            "p95_ms": float(np.percentile(row["wall"], 95)),
        }
        for name, row in rows.items()
    }


def peers(names: list[str], clips: np.ndarray | None, folder: Path) -> dict[str, tuple[Callable[..., Moments], float]]:
    """Return the other systems that are installed, with the CPU seconds that building each took."""
    assert clips is not None
    makers: dict[str, Callable[[], Callable[[np.ndarray], Any]]] = {
        "torch": lambda: torch_exhaustive(clips),
        "faiss": lambda: Reranked(faiss_clips(clips), clips),
        "qdrant": lambda: Reranked(qdrant_edge(clips, folder / "qdrant"), clips),
        "lancedb": lambda: Reranked(lancedb_scan(clips, folder / "lance"), clips),
        "plaid": lambda: Reranked(fast_plaid(clips, folder / "plaid"), clips),
    }
    found = {}
    for name in names:
        (folder / "qdrant").mkdir(exist_ok=True)
        begin = cpu()
        try:
            found[name] = makers[name](), 0.0
            found[name] = found[name][0], cpu() - begin
        except Exception as error:  # noqa: BLE001 - a peer that fails is reported, not fatal
            print(f"{name} is left out: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--noise", type=float, default=2.0, help="of the tokens: 2 standard, 4 hard")
    parser.add_argument("--no-scenes", action="store_true", help="videos that drift instead of being cut")
    parser.add_argument("--drift", type=float, default=0.8, help="correlation of neighbouring clips' noise")
    parser.add_argument("--systems", default="exact,certified,torch,faiss,qdrant,lancedb,plaid")
    parser.add_argument("--candidates", default="20,50,100,200", help="of our first stage")
    parser.add_argument("--first-stages", default="pooled")
    parser.add_argument("--folder", type=Path, help="where indexes are made; temporary by default")
    arguments = parser.parse_args()
    names = arguments.systems.split(",") if arguments.systems else []
    data = Generator(arguments.videos, not arguments.no_scenes, arguments.drift)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        index, report = build_index(Path(folder) / "index", data)
        others = [name for name in names if name not in ("exact", "certified")]
        clips = np.stack([data.clips(i) for i in range(data.videos)]) if others or data.videos <= 20_000 else None
        systems: dict[str, Callable[[np.ndarray], Moments]] = {
            f"{stage} C={count}": Ours(index, candidates=int(count), first_stage=stage)
            for stage in arguments.first_stages.split(",")
            for count in arguments.candidates.split(",")
        }
        systems |= {name: Ours(index, exact=name == "exact" or "certified") for name in names if name not in others}
        builds = peers(others, clips, Path(folder)) if others else {}
        systems |= {name: system for name, (system, _) in builds.items()}
        queries = [data.query(number, arguments.noise) for number in range(arguments.queries)]
        truth = [oracle(query, data, clips, index) for query in queries]
        report |= {
            "systems": measure(systems, queries, truth),
            "peer_build_cpu_s": {k: b for k, (_, b) in builds.items()},
        }
        index.close()
    report |= {
        "videos": data.videos,
        "queries": len(queries),
        "noise": arguments.noise,
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "load": os.getloadavg(),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report, indent=1))


def oracle(query: np.ndarray, data: Generator, clips: np.ndarray | None, index: CorpusIndex) -> Moments:
    """Return the truth: from float32 clips, or, where they do not fit in memory, the exact search of the index."""
    if clips is None:
        return Ours(index, exact=True)(query)
    return best_windows(query, clips, np.arange(len(clips)))[0]


if __name__ == "__main__":
    main()
