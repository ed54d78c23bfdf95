"""The videos, queries and truth of bench_search.py: seeded, any of them can be made without the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from momentret.search.chamfer import window_scores
from momentret.search.index import Video

DIM, CLIPS, LENGTHS, TOP = 512, 30, tuple(range(2, 9)), 10
CHUNK = 500
KINDS = ("strict", "raw", "videos")
Found = list[tuple[int, int, int]]  # video, first clip, clips
_SPECTRUM = np.arange(1, DIM + 1, dtype=np.float32) ** -0.35
_SPECTRUM /= np.linalg.norm(_SPECTRUM)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal((*shape, DIM), dtype=np.float32) * _SPECTRUM


@dataclass
class Corpus:
    """Videos of 2 to 5 scenes, or of one that drifts, and queries that are noisy clips of a random window."""

    videos: int
    scenes: bool = True
    drift: float = 0.8
    """Correlation of neighbouring clips' noise."""
    noise: float = 2.0
    """Of the tokens."""
    between: tuple[int, int] = (CLIPS, CLIPS)
    """Clips a video, log-uniform."""
    made: np.ndarray | None = None
    """All clips, where they were made already."""

    @property
    def name(self) -> str:
        """Return what is in the names of files about these videos."""
        drift = "" if self.scenes else f"-drift-{self.drift}"
        clips = "" if self.between == (CLIPS, CLIPS) else "-of-{}-{}".format(*self.between)
        return f"{self.videos}{drift}{clips}"

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.topics, self.common, self.gap = draw(rng, 2000), draw(rng), draw(rng)

    def size(self, number: int) -> int:
        """Return the clips of a video."""
        return round(np.exp(np.random.default_rng([3, number]).uniform(*np.log(self.between))))

    def clips(self, number: int) -> np.ndarray:
        """Return the clips ``(L, 512)`` of a video."""
        if self.made is not None and number < len(self.made):
            return np.array(self.made[number])
        rng = np.random.default_rng([1, number])
        base = self.topics[rng.integers(2000)] + 0.7 * draw(rng)
        size = self.size(number)
        noise = draw(rng, size)
        for i in range(1, size):
            noise[i] = self.drift * noise[i - 1] + np.sqrt(1 - self.drift**2) * noise[i]
        scene = np.zeros((size, DIM), dtype=np.float32)
        if self.scenes:
            count = int(rng.integers(2, 6))
            cuts = np.sort(rng.choice(np.arange(1, size), count - 1, replace=False))
            scene = self.topics[rng.integers(2000, size=count)][np.searchsorted(cuts, np.arange(size), side="right")]
        return unit(0.6 * self.common + 0.7 * base + 0.7 * scene + (0.5 if self.scenes else 1.0) * noise)

    def source(self, number: int) -> tuple[int, int, int]:
        """Return the video, first clip and clips that a query is about."""
        rng = np.random.default_rng([2, number])
        video, length, _ = int(rng.integers(self.videos)), int(rng.integers(3, 9)), int(rng.integers(8, 17))
        return video, int(rng.integers(self.size(video) - length + 1)), length

    def query(self, number: int) -> np.ndarray:
        """Return 8 to 16 tokens ``(T, 512)`` about a window of 3 to 8 clips."""
        rng = np.random.default_rng([2, number])
        clips = self.clips(int(rng.integers(self.videos)))
        length, tokens = int(rng.integers(3, 9)), int(rng.integers(8, 17))
        begin = int(rng.integers(len(clips) - length + 1))
        source = clips[begin + rng.integers(length, size=tokens)]
        return unit(source + self.noise * draw(rng, tokens) + 0.3 * self.gap)

    def chunk(self, begin: int) -> list[np.ndarray]:
        """Return the clips ``(L, 512)`` of some hundred videos."""
        return [self.clips(i) for i in range(begin, min(begin + CHUNK, self.videos))]

    def records(self) -> Iterator[tuple[Video, np.ndarray]]:
        """Yield what an index takes."""
        for number in range(self.videos):
            clips = self.clips(number)
            yield Video(str(number), f"/{number}", str(number), duration=2.0 * len(clips), clip_length=2.0), clips


class Best:
    """The best ten of what one query has been shown so far: of three kinds."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {kind: np.empty((0, 4)) for kind in KINDS}  # score, video, first, clips

    def show(self, product: np.ndarray, videos: np.ndarray, sizes: np.ndarray) -> None:
        """Take in tokens x clips ``(T, L)`` of some videos, one after the other."""
        begins = np.cumsum(sizes) - sizes
        scores = window_scores(product, sizes, LENGTHS)  # (W, L)
        each = np.maximum.reduceat(scores.max(0), begins)
        some = _top(each)
        row, column = np.transpose([_best_place(scores, begins[i], sizes[i]) for i in some])
        self._keep("strict", each[some], videos[some], column, np.array(LENGTHS)[row])
        some = _top(scores.reshape(-1))
        row, column = np.divmod(some, scores.shape[1])
        owner = np.searchsorted(begins, column, side="right") - 1
        self._keep("raw", scores[row, column], videos[owner], column - begins[owner], np.array(LENGTHS)[row])
        to_video = np.maximum.reduceat(product, begins, axis=1).mean(0)
        whole = to_video + np.add.reduceat(product.max(0), begins) / sizes
        some = _top(whole)
        self._keep("videos", whole[some], videos[some], np.zeros(len(some)), sizes[some])

    def _keep(self, kind: str, scores: np.ndarray, videos: np.ndarray, first: np.ndarray, clips: np.ndarray) -> None:
        rows = np.concatenate([self.rows[kind], np.stack([scores, videos, first, clips], 1)])
        self.rows[kind] = rows[np.lexsort((rows[:, 2], rows[:, 1], -rows[:, 0]))[:TOP]]

    def found(self, kind: str) -> Found:
        return [(int(video), int(first), int(clips)) for _, video, first, clips in self.rows[kind]]


def _top(scores: np.ndarray) -> np.ndarray:
    return np.argpartition(scores, -min(TOP, len(scores)))[-TOP:]


def _best_place(scores: np.ndarray, begin: int, size: int) -> tuple[int, int]:
    """Return the row of the best window of one video, and its first clip."""
    row, first = divmod(int(scores[:, begin : begin + size].argmax()), int(size))
    return row, first


def exact(query: np.ndarray, clips: np.ndarray, videos: np.ndarray) -> Best:
    """Score all windows of some videos, whose clips are ``(n, 30, 512)``."""
    best = Best()
    for begin in range(0, len(clips), CHUNK):
        part = clips[begin : begin + CHUNK]
        best.show(query @ part.reshape(-1, DIM).T, videos[begin : begin + CHUNK], np.full(len(part), part.shape[1]))
    return best


def truth_of(corpus: Corpus, queries: list[np.ndarray], path: Path) -> list[Best]:
    """Return the best of every query by 32-bit scores of all windows of all videos; kept in a file."""
    bests = [Best() for _ in queries]
    if path.exists():
        with np.load(path) as kept:
            for best, *rows in zip(bests, *(kept[kind] for kind in KINDS), strict=True):
                best.rows = dict(zip(KINDS, rows, strict=True))
        return bests
    tokens, ends = np.concatenate(queries), np.cumsum([len(query) for query in queries])
    for begin in range(0, corpus.videos, CHUNK):
        clips = corpus.chunk(begin)
        videos, sizes = np.arange(begin, begin + len(clips)), np.array([len(part) for part in clips])
        product = tokens @ np.concatenate(clips).T
        for best, end, query in zip(bests, ends.tolist(), queries, strict=True):
            best.show(product[end - len(query) : end], videos, sizes)
    np.savez(path, **{kind: np.stack([best.rows[kind] for best in bests]) for kind in KINDS})
    return bests
