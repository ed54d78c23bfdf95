"""Other first stages: FAISS, or fixed-dimensional encodings, propose chapters, and the pooled vectors rank them.

The only module that loads FAISS, and only when asked to. Its indexes are made in memory from a sealed segment when
first needed. Without FAISS every chapter is looked at instead, which finds no less.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from momentret.search.index.codes import decode
from momentret.search.index.columns import decode_pools
from momentret.search.index.fde import FixedEncoding
from momentret.search.index.segment import Segment

if TYPE_CHECKING:
    from momentret.search.index.query import SearchOptions

__all__ = ["PROPOSERS", "FirstStage", "propose"]

Proposer = Literal["pool_ivf", "pool_rabitq", "clip_ivf", "clip_hnsw", "fde"]
FirstStage = Literal["pooled", "outlined", Proposer]
PROPOSERS = get_args(Proposer)
_FACTORY = {"pool_ivf": "IVF{},SQ8", "pool_rabitq": "IVF{},RaBitQ", "clip_ivf": "IVF{},SQ8", "clip_hnsw": "HNSW32,SQ8"}
_SMALL = 5_000
"""Vectors below which a list of neighbours is not worth making."""
_PROBED = 0.05
"""Share of the lists that a token looks into."""
_TRAINING = 64
"""Training vectors a list."""
_MOST_ON_GPU = 512
"""Neighbours that FAISS 1.15 finds for a token on a GPU; asked for 513 of 512 dimensions, it aborts the process."""
logger = logging.getLogger(__name__)


def propose(segment: Segment, queries: Sequence[np.ndarray], options: SearchOptions, count: int) -> list[np.ndarray]:
    """Return, for each query, the chapters that hold the vectors nearest to its tokens, ascending."""
    if options.first_stage == "fde":
        return [_by_encoding(segment, query, 20 * count) for query in queries]
    everything = np.arange(len(segment.chapters.clips))
    pooled = options.first_stage.startswith("pool")
    vectors = len(segment.pools["pool_weight"]) if pooled else segment.clips
    faiss = _faiss() if vectors >= _SMALL else None
    if faiss is None:
        return [everything for _ in queries]
    index, owners, most = _index(faiss, segment, options.first_stage, pooled)
    return [_owners(owners, index.search(query, min(20 * count, most))[1]) for query in queries]


def _by_encoding(segment: Segment, query: np.ndarray, count: int) -> np.ndarray:
    """Return the chapters whose encoding has the largest product with the query's."""
    encoding = FixedEncoding(segment.settings.dim)
    if "fde" not in segment.neighbours:
        begins = segment.chapters.clip_begins
        vectors = _vectors(segment, pooled=False)
        rows = [encoding.video(vectors[a:b]) for a, b in pairwise(begins)]
        segment.neighbours["fde"] = np.stack(rows)
    scores = segment.neighbours["fde"] @ encoding.query(query)
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _owners(owners: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    return np.unique(owners[neighbours[neighbours >= 0]])


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        logger.warning(
            "FAISS is not installed: every chapter is looked at instead; pip install 'momentret[cpu]' for it"
        )
        return None
    faiss.cvar.distance_compute_blas_threshold = 1  # its loop for small batches is 15 times slower
    return faiss


def _index(faiss: Any, segment: Segment, kind: str, pooled: bool) -> tuple[Any, np.ndarray, int]:
    """Return the FAISS index of a segment, the chapter of each vector, and how many neighbours it finds; made once."""
    if kind not in segment.neighbours:
        vectors = _vectors(segment, pooled)
        lists = 2 ** round(np.log2(4 * np.sqrt(len(vectors))))
        index = faiss.index_factory(vectors.shape[1], _FACTORY[kind].format(lists), faiss.METRIC_INNER_PRODUCT)
        step = max(1, len(vectors) // (_TRAINING * lists))
        index.train(np.ascontiguousarray(vectors[::step]))
        index.add(vectors)
        most = len(vectors)
        if kind == "clip_hnsw":
            index.hnsw.efSearch = 256
        else:
            index.nprobe = max(1, round(_PROBED * lists))
            index, most = _on_gpu(faiss, index, most)
        counts = segment.chapters.pools if pooled else segment.chapters.clips
        segment.neighbours[kind] = index, np.repeat(np.arange(len(counts)), counts), most
    return segment.neighbours[kind]


def _on_gpu(faiss: Any, index: Any, most: int) -> tuple[Any, int]:
    """Move an index, and how many neighbours it finds, to the GPU where FAISS is its GPU build and sees one."""
    if not getattr(faiss, "get_num_gpus", int)():
        return index, most
    try:
        return faiss.index_cpu_to_all_gpus(index), min(most, _MOST_ON_GPU)
    except RuntimeError as error:
        logger.warning("FAISS keeps the index on the CPU: %s", error)
        return index, most


def _vectors(segment: Segment, pooled: bool) -> np.ndarray:
    """Return the pooled or the clip vectors ``(N, D)`` in the encoder's axes."""
    if not pooled:
        codes = segment.clip_codes([(0, segment.clips)], range(segment.videos))
        return decode(codes, segment.columns["clip_peak"])
    vectors = decode_pools(segment.pools)
    if "basis_mean" not in segment.pools:
        return vectors
    return vectors @ segment.pools["basis_rotation"].T + segment.pools["basis_mean"]
