"""The first stage: score every chapter by its few pooled vectors, in both directions, over all runs of them.

Large segments, whose vectors are kept in principal axes, are sieved by the first dimensions beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from momentret.search.index.codes import peak_scale
from momentret.search.index.columns import HEAD, Columns
from momentret.search.index.disk import RowFile
from momentret.search.index.products import digits, join_digits, products
from momentret.search.index.segment import Segment

__all__ = ["Level", "pooled_scores", "run_scores", "sieve", "video_bounds"]

Level = Literal["moment", "video"]

_CHUNK = 4_096
"""Pooled vectors at a time: what is computed from them for one query stays in the cache."""
_GLANCED = 16_384
"""Vectors that the sieve looks at at a time."""
_OUTLINED = 0.1
"""Share of the chapters that the sieve looks at for their outlines; three times what it keeps at the least."""
_INT8 = np.dtype("int8")


class _Tokens:
    """The tokens of some queries, as they are multiplied with pooled vectors: in their axes, as digits of a byte.

    The products are the same bits whatever other queries there are, and off by less than `slack`: half a step in each
    dimension, times the length of a pooled vector, which is below 2.2. One digit ranks as well as two; proofs take two.
    """

    def __init__(self, queries: Sequence[np.ndarray], segment: Segment, count: int, on_disk: bool = False) -> None:
        pools = self.pools = segment.pools
        self._tails = segment.tails_on_disk if on_disk and "pool_tail" not in pools else pools["pool_tail"]
        rotated = [query @ pools["basis_rotation"] if "basis_mean" in pools else query for query in queries]
        tokens = np.concatenate(rotated)
        parts = [digits(tokens[:, :HEAD], count), digits(tokens[:, HEAD:], count)]
        self._count, self._digits = count, [part.reshape(count * len(tokens), part.shape[2]) for part, _ in parts]
        self._steps = [step for _, step in parts]
        self.slack = 1.1 * np.sqrt(sum(part.shape[2] * step**2 for part, step in parts))  # (T, 1)
        mean = [query @ pools["basis_mean"] if "basis_mean" in pools else np.zeros(len(query)) for query in queries]
        self._offset = np.concatenate(mean).astype(np.float32)[:, None]
        ends = np.cumsum([len(query) for query in queries]).tolist()
        self._slices = [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    def products(self, rows: slice | np.ndarray) -> Iterator[np.ndarray]:
        """Yield, for each query, tokens x pooled vectors ``(T, P)`` of the given rows."""
        scale = peak_scale(_rows(self.pools["pool_peaks"], rows), _INT8)  # (P, 2)
        whole = [
            products(left, _rows(codes, rows)).reshape(self._count, len(self._offset), -1)
            for left, codes in zip(self._digits, (self.pools["pool_head"], self._tails), strict=True)
            if left.shape[1]
        ]
        for own in self._slices:
            out = np.zeros((own.stop - own.start, len(scale)), dtype=np.float32)
            for i, product in enumerate(whole):
                out += join_digits(product[:, own], self._steps[i][own]) * scale[:, i]
            out += self._offset[own]
            yield out


def _rows(array: np.ndarray | RowFile, rows: slice | np.ndarray) -> np.ndarray:
    if isinstance(array, RowFile):
        return array.read([(rows.start, rows.stop)]) if isinstance(rows, slice) else array.take(rows)
    return array[rows] if isinstance(rows, slice) else array.take(rows, 0)  # take is 4 times as fast as indexing


def sieve(
    queries: Sequence[np.ndarray], segment: Segment, keep: int, allowed: np.ndarray, outlined: bool = False
) -> list[np.ndarray]:
    """Return, for each query, the `keep` chapters that look best by the first dimensions of a single pooled vector.

    Args:
        queries: ``(T, D)`` each.
        segment: one whose vectors are in principal axes.
        keep: how many.
        allowed: ``(chapters,)`` bool.
        outlined: look only at those whose outlines look best.
    """
    glances = [_Glance(query, segment.pools) for query in queries]
    if outlined:
        some = max(3 * keep, int(_OUTLINED * np.count_nonzero(allowed)))
        far = [_best(scores, some, allowed) for scores in _glanced(glances, *segment.outlines)]
        return [_looked_at(glance, segment, chapters, keep) for glance, chapters in zip(glances, far, strict=True)]
    begins = segment.chapters.pool_begins[:-1]
    near = _glanced(glances, segment.pools["pool_head"], segment.pools["pool_peaks"][:, 0])
    return [_best(np.maximum.reduceat(scores, begins), keep, allowed) for scores in near]


def _glanced(glances: Sequence[_Glance], codes: np.ndarray, peaks: np.ndarray) -> list[np.ndarray]:
    """Return, for each query, the score of every row."""
    left = np.concatenate([glance.codes for glance in glances])
    ends = np.cumsum([len(glance.codes) for glance in glances]).tolist()
    scores = [np.empty(len(codes), dtype=np.float32) for _ in glances]
    for begin in range(0, len(codes), _GLANCED):
        chunk = slice(begin, begin + _GLANCED)
        product, scale = products(left, codes[chunk]), peak_scale(peaks[chunk], _INT8)
        for out, glance, end in zip(scores, glances, ends, strict=True):
            out[chunk] = glance.scores(product[end - len(glance.codes) : end], scale)
    return scores


def _looked_at(glance: _Glance, segment: Segment, chapters: np.ndarray, keep: int) -> np.ndarray:
    """Return the `keep` best of some chapters."""
    counts, best = segment.chapters.pools[chapters], np.empty(len(chapters), dtype=np.float32)
    for part, rows in _chunks(segment.chapters.pool_begins[chapters], counts):
        codes, peaks = (_rows(segment.pools[name], rows) for name in ("pool_head", "pool_peaks"))
        scores = glance.scores(products(glance.codes, codes), peak_scale(peaks[:, 0], _INT8))
        best[part] = np.maximum.reduceat(scores, np.cumsum(counts[part]) - counts[part])
    return chapters[_best(best, keep, np.ones(len(best), dtype=bool))]


class _Glance:
    """One query as the sieve sees it: the first dimensions of its tokens and of their mean, one digit each."""

    def __init__(self, query: np.ndarray, pools: Columns) -> None:
        rows = np.concatenate([query, query.mean(0, keepdims=True)])
        self.offset = (rows @ pools["basis_mean"])[:, None]
        head = (rows @ pools["basis_rotation"])[:, :HEAD]
        self.step = max(float(np.abs(head).max()), 1e-9) / 127
        self.codes = np.rint(head / np.float32(self.step)).astype(np.int8)  # (T + 1, HEAD)

    def scores(self, product: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Return the best token plus the mean token of each pooled vector ``(P,)``, from ``(T + 1, P)`` int32."""
        values = product.astype(np.float32)
        values *= scale * np.float32(self.step)
        values += self.offset
        return values[:-1].max(0) + values[-1]


def _best(scores: np.ndarray, keep: int, allowed: np.ndarray) -> np.ndarray:
    """Return the positions of the best `keep` allowed scores, ascending."""
    scores = np.where(allowed, scores, -np.inf)
    if keep < len(scores):
        chosen = np.argpartition(scores, len(scores) - keep)[len(scores) - keep :]
    else:
        chosen = np.arange(len(scores))
    return np.sort(chosen[allowed[chosen]])


def pooled_scores(
    queries: Sequence[np.ndarray],
    segment: Segment,
    chapters: np.ndarray | None,
    level: Level,
    *,
    on_disk: bool = False,
) -> list[np.ndarray]:
    """Return, for each query, the score in [-2, 2] of each chapter.

    Args:
        queries: ``(T, D)`` each.
        segment: whose chapters.
        chapters: which ones; None for all.
        level: ``"moment"``: of the best run of pooled vectors; ``"video"``: of all of them.
        on_disk: do not bring tails into memory that are not there yet: read those of `chapters`.
    """
    if not queries:
        return []
    if chapters is None:
        chapters = np.arange(len(segment.chapters.pools))
    tokens, counts = _Tokens(queries, segment, 1, on_disk), segment.chapters.pools[chapters]
    found = [np.empty(len(chapters), dtype=np.float32) for _ in queries]
    for part, rows in _chunks(segment.chapters.pool_begins[chapters], counts):
        weight = segment.pools["pool_weight"][rows].astype(np.float32)
        for out, product in zip(found, tokens.products(rows), strict=True):
            out[part] = run_scores(product, counts[part], weight, level)
    return found


def _chunks(begins: np.ndarray, counts: np.ndarray) -> Iterator[tuple[slice, slice | np.ndarray]]:
    """Cut ranges of rows into lists of some thousand rows; yield which ranges and their rows, one after the other."""
    cuts = np.flatnonzero(np.diff(np.cumsum(counts) // _CHUNK)) + 1
    edges = [0, *cuts.tolist(), len(counts)]
    for first, last in pairwise(edges):
        if first < last:
            yield slice(first, last), ranges_to_rows(begins[first:last], counts[first:last])


def ranges_to_rows(begins: np.ndarray, counts: np.ndarray) -> slice | np.ndarray:
    """Return the rows of all ranges, one after the other: a slice where they are neighbours."""
    ends = begins + counts
    if np.array_equal(begins[1:], ends[:-1]):
        return slice(int(begins[0]), int(ends[-1]))
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(begins - before, counts)


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
        return np.add.reduce(np.maximum.reduceat(product, begins, axis=1), 0) / len(product) + to_clips
    room = np.repeat(begins + counts, counts) - np.arange(len(weight))
    tokens = np.float32(len(product))
    best = np.add.reduce(product, 0) / tokens + nearest / weight
    running, mass, total = product, weight, nearest
    for length in range(2, int(counts.max()) + 1):
        running = np.maximum(running[:, :-1], product[:, length - 1 :])
        mass, total = mass[:-1] + weight[length - 1 :], total[:-1] + nearest[length - 1 :]
        score = np.add.reduce(running, 0) / tokens + total / mass
        np.maximum(best[: len(score)], score, out=best[: len(score)], where=room[: len(score)] >= length)
    return np.maximum.reduceat(best, begins)


def video_bounds(query: np.ndarray, segment: Segment) -> np.ndarray:
    """Return a number ``(N,)`` that no window of each video can score above.

    A clip is no farther from its pooled vector than the radius, so by Cauchy and Schwarz no unit token likes it more
    than it likes the pooled vector plus the radius.
    """
    counts = segment.columns["pool_count"]
    bounds = np.empty(segment.videos, dtype=np.float32)
    tokens = _Tokens([query], segment, 2)
    for part, rows in _chunks(np.cumsum(counts) - counts, counts):
        (product,) = tokens.products(rows)
        product += segment.pools["pool_radius"][rows].astype(np.float32) + tokens.slack
        begins = np.cumsum(counts[part]) - counts[part]
        to_video = np.maximum.reduceat(product, begins, axis=1).mean(0)
        bounds[part] = to_video + np.maximum.reduceat(product.max(0), begins)
    return bounds
