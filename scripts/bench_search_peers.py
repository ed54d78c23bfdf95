"""The other systems of bench_search.py: each returns its hundred best videos, best first. Only torch is needed.

Each is given a folder of its own, and builds its index there unless it was `made` before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_search_data import CLIPS, DIM, LENGTHS, TOP, Found

Retrieve = Callable[[np.ndarray], np.ndarray]
CANDIDATES = 100


def torch_exhaustive(clips: np.ndarray, device: str = "cpu") -> Callable[[np.ndarray], Found]:
    """Return a search that scores every window of every video in torch, 32-bit."""
    import torch

    step = 1000 if device == "cpu" else 20_000  # 15 MB, or 300 MB, of products at a time
    parts = [torch.from_numpy(clips[i : i + step]) for i in range(0, len(clips), step)]
    if device != "cpu":
        parts = [part.to(device) for part in parts]

    @torch.inference_mode()
    def search(query: np.ndarray) -> Found:
        tokens, best, where = torch.from_numpy(query).to(device), [], []
        for part in parts:
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
        order = torch.cat(best).topk(TOP).indices
        choice = torch.cat(where)[order].tolist()
        return [(i, c % CLIPS, LENGTHS[c // CLIPS]) for i, c in zip(order.tolist(), choice, strict=True)]

    return search


def faiss_clips(clips: np.ndarray, folder: Path, made: bool) -> Retrieve:
    """Return a retrieval by IVF over clips: each token's nearest clips, missing ones counted as the farthest found."""
    import faiss

    faiss.cvar.distance_compute_blas_threshold = 1
    if not made:
        faiss.write_index(_ivf(faiss, clips.reshape(-1, DIM)), str(folder / "clips.faiss"))
    index = faiss.read_index(str(folder / "clips.faiss"))
    index.nprobe = 16

    def retrieve(query: np.ndarray) -> np.ndarray:
        score, row = index.search(query, 200)
        videos, position = np.unique(row // CLIPS, return_inverse=True)
        table = np.tile(score.min(1)[:, None], (1, len(videos)))
        np.maximum.at(table, (np.repeat(np.arange(len(query)), 200), position.reshape(-1)), score.reshape(-1))
        return videos[np.argsort(-table.sum(0), kind="stable")[:CANDIDATES]]

    return retrieve


def _ivf(faiss: Any, flat: np.ndarray) -> Any:
    lists = 2 ** round(np.log2(np.sqrt(len(flat))))
    index = faiss.index_factory(DIM, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(flat[:: max(1, len(flat) // (64 * lists))]))
    for begin in range(0, len(flat), 100_000):
        index.add(np.ascontiguousarray(flat[begin : begin + 100_000]))
    return index


def qdrant_edge(clips: np.ndarray, folder: Path, made: bool) -> Retrieve:
    """Return a retrieval by qdrant-edge's multivector MaxSim."""
    import qdrant_edge as q

    if not made:
        _fill_shard(q, clips, folder)
    shard = q.EdgeShard.load(str(folder))

    def retrieve(query: np.ndarray) -> np.ndarray:
        request = q.QueryRequest(query=q.Query.Nearest(query.tolist(), using="clips"), limit=CANDIDATES)
        return np.array([point.id for point in shard.query(request)])

    return retrieve


def _fill_shard(q: Any, clips: np.ndarray, folder: Path) -> None:
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
    shard.flush()
    shard.close()


def lancedb_scan(clips: np.ndarray, folder: Path, made: bool) -> Retrieve:
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

    store = lancedb.connect(str(folder))
    table = store.open_table("videos") if made else store.create_table("videos", batches(), schema=schema)

    def retrieve(query: np.ndarray) -> np.ndarray:
        found = table.search(query, vector_column_name="clips").distance_type("cosine").limit(CANDIDATES)
        return np.array(found.select(["id", "_distance"]).to_arrow()["id"].to_pylist())

    return retrieve


def fast_plaid(clips: np.ndarray, folder: Path, made: bool) -> Retrieve:
    """Return a retrieval by fast-plaid on the CPU."""
    import torch
    from fast_plaid import search

    engine = search.FastPlaid(index=str(folder), device="cpu")
    if not made:
        engine.create(documents_embeddings=[torch.from_numpy(np.array(part)) for part in clips])

    def retrieve(query: np.ndarray) -> np.ndarray:
        (found,) = engine.search(queries_embeddings=torch.from_numpy(query)[None], top_k=CANDIDATES)
        return np.array([number for number, _ in found])

    return retrieve


PEERS: dict[str, Callable[[np.ndarray, Path, bool], Retrieve]] = {
    "faiss": faiss_clips,
    "qdrant": qdrant_edge,
    "lancedb": lancedb_scan,
    "plaid": fast_plaid,
}
