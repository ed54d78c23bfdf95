"""The first stage: score every chapter by its few pooled vectors, in both directions, over all runs of them.

Large segments, whose vectors are kept in principal axes, are sieved by the first dimensions beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from momentret.search.index.codes import peak_scale
from momentret.search.index.columns import HEAD, Columns
from momentret.search.index.segment import Segment

__all__ = ["Level", "pooled_scores", "run_scores", "sieve", "video_bounds"]

Level = Literal["moment", "video"]

_CHUNK = 512
"""Pooled vectors decoded at a time: 1 MB as float32, so they stay in the cache."""
_INT8 = np.dtype("int8")


def in_basis(query: np.ndarray, pools: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens ``(T, D)`` in the axes of the pooled vectors, and what the mean adds to each ``(T, 1)``."""
    if "basis_mean" not in pools:
        return query, np.zeros((len(query), 1), dtype=np.float32)
    return query @ pools["basis_rotation"], (query @ pools["basis_mean"])[:, None]


def similarities(queries: Sequence[np.ndarray], pools: Columns, rows: np.ndarray | None) -> list[np.ndarray]:
    """Return, for each query, tokens x pooled vectors ``(T, P)``; of the given rows, or of all.

    Decoding is shared by the queries, and a query's numbers do not depend on the others.
    """
    rotated = [in_basis(query, pools) for query in queries]
    count = len(pools["pool_weight"]) if rows is None else len(rows)
    found = [np.empty((len(query), count), dtype=np.float32) for query in queries]
    for begin in range(0, count, _CHUNK):
        chunk = slice(begin, begin + _CHUNK) if rows is None else rows[begin : begin + _CHUNK]
        head, tail = (pools[name][chunk].astype(np.float32).T for name in ("pool_head", "pool_tail"))
        scale = peak_scale(pools["pool_peaks"][chunk], _INT8)  # (n, 2)
        for out, (query, offset) in zip(found, rotated, strict=True):
            part = (query[:, :HEAD] @ head) * scale[:, 0] + offset
            if len(tail):
                part += (query[:, HEAD:] @ tail) * scale[:, 1]
            out[:, begin : begin + _CHUNK] = part
    return found


def sieve(queries: Sequence[np.ndarray], segment: Segment, keep: int, allowed: np.ndarray) -> list[np.ndarray]:
    """Return, for each query, the `keep` chapters that look best by the first dimensions of a single pooled vector.

    Args:
        queries: ``(T, D)`` each.
        segment: one whose vectors are in principal axes.
        keep: how many.
        allowed: ``(chapters,)`` bool.
    """
    pools = segment.pools
    rotated = [in_basis(query, pools)[0][:, :HEAD] for query in queries]
    best = [np.empty(len(pools["pool_weight"]), dtype=np.float32) for _ in queries]
    scale = peak_scale(pools["pool_peaks"][:, 0], _INT8)
    step = _CHUNK * 4
    for begin in range(0, len(scale), step):
        head = pools["pool_head"][begin : begin + step].astype(np.float32).T
        for out, query in zip(best, rotated, strict=True):
            product = query @ head
            out[begin : begin + step] = product.max(0) + product.mean(0)
    return [_best(_by_chapter(values * scale, segment), keep, allowed) for values in best]


def _by_chapter(values: np.ndarray, segment: Segment) -> np.ndarray:
    return np.maximum.reduceat(values, segment.chapters.pool_begins[:-1])


def _best(scores: np.ndarray, keep: int, allowed: np.ndarray) -> np.ndarray:
    """Return the positions of the best `keep` allowed scores, ascending."""
    scores = np.where(allowed, scores, -np.inf)
    if keep < len(scores):
        chosen = np.argpartition(scores, len(scores) - keep)[len(scores) - keep :]
    else:
        chosen = np.arange(len(scores))
    return np.sort(chosen[allowed[chosen]])


def pooled_scores(
    queries: Sequence[np.ndarray], segment: Segment, chapters: np.ndarray | None, level: Level
) -> list[np.ndarray]:
    """Return, for each query, the score in [-2, 2] of each chapter.

    Args:
        queries: ``(T, D)`` each.
        segment: whose chapters.
        chapters: which ones; None for all.
        level: ``"moment"``: of the best run of pooled vectors; ``"video"``: of all of them.
    """
    begins, counts = segment.chapters.pool_begins, segment.chapters.pools
    rows = None
    if chapters is not None:
        rows, counts = ranges_to_rows(begins[chapters], counts[chapters]), counts[chapters]
    if not len(counts):
        return [np.empty(0, dtype=np.float32) for _ in queries]
    weight = segment.pools["pool_weight"]
    weight = (weight if rows is None else weight[rows]).astype(np.float32)
    return [run_scores(product, counts, weight, level) for product in similarities(queries, segment.pools, rows)]


def ranges_to_rows(begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the rows of all ranges, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(begins - (ends - counts), counts)


def run_scores(product: np.ndarray, counts: np.ndarray, weight: np.ndarray, level: Level) -> np.ndarray:
    """Return the score of each chapter from tokens x pooled vectors: of its best run of neighbours, or of all of it.

    Args:
        product: ``(T, P)``: the pooled vectors of all chapters, one after the other.
        counts: ``(chapters,)``: pooled vectors of each.
        weight: ``(P,)`` float32: clips that each stands for.
        level: ``"moment"`` or ``"video"``.
    """
    begins = np.cumsum(counts) - counts
    nearest = product.max(0) * weight
    if level == "video":
        to_clips = np.add.reduceat(nearest, begins) / np.add.reduceat(weight, begins)
        return np.maximum.reduceat(product, begins, axis=1).mean(0) + to_clips
    room = np.repeat(begins + counts, counts) - np.arange(len(weight))
    best, running = np.full(len(weight), -np.inf, dtype=np.float32), product
    mass, total = weight, nearest
    for length in range(1, int(counts.max()) + 1):
        n = len(weight) - length + 1
        if length > 1:
            running = np.maximum(running[:, :-1], product[:, length - 1 :])
            mass, total = mass[:-1] + weight[length - 1 :], total[:-1] + nearest[length - 1 :]
        score = running.mean(0) + total / mass
        np.maximum(best[:n], score, out=best[:n], where=room[:n] >= length)
    return np.maximum.reduceat(best, begins)


def video_bounds(query: np.ndarray, segment: Segment) -> np.ndarray:
    """Return a number ``(N,)`` that no window of each video can score above.

    A clip is no farther from its pooled vector than the radius, so by Cauchy and Schwarz no unit token likes it more
    than it likes the pooled vector plus the radius.
    """
    reach = similarities([query], segment.pools, None)[0] + segment.pools["pool_radius"].astype(np.float32)
    counts = segment.columns["pool_count"]
    begins = np.cumsum(counts) - counts
    to_video = np.maximum.reduceat(reach, begins, axis=1).mean(0)
    return to_video + np.maximum.reduceat(reach.max(0), begins)
