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
    """Videos of 2 to 5 scenes (or of one that drifts), and queries that are noisy clips of a random window."""

    videos: int
    scenes: bool = True
    drift: float = 0.8
    """Correlation of neighbouring clips' noise."""
    noise: float = 2.0
    """Of the tokens."""
    made: np.ndarray | None = None
    """All clips, where they were made already."""

    @property
    def name(self) -> str:
        """Return what is in the names of files about these videos."""
        return f"{self.videos}{'' if self.scenes else f'-drift-{self.drift}'}"

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.topics, self.common, self.gap = draw(rng, 2000), draw(rng), draw(rng)

    def clips(self, number: int) -> np.ndarray:
        """Return the clips ``(30, 512)`` of a video."""
        if self.made is not None and number < len(self.made):
            return np.array(self.made[number])
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

    def source(self, number: int) -> tuple[int, int, int]:
        """Return the video, first clip and clips that a query is about."""
        rng = np.random.default_rng([2, number])
        video, length, _ = int(rng.integers(self.videos)), int(rng.integers(3, 9)), int(rng.integers(8, 17))
        return video, int(rng.integers(CLIPS - length + 1)), length

    def query(self, number: int) -> np.ndarray:
        """Return 8 to 16 tokens ``(T, 512)`` about a window of 3 to 8 clips."""
        rng = np.random.default_rng([2, number])
        clips = self.clips(int(rng.integers(self.videos)))
        length, tokens = int(rng.integers(3, 9)), int(rng.integers(8, 17))
        begin = int(rng.integers(CLIPS - length + 1))
        source = clips[begin + rng.integers(length, size=tokens)]
        return unit(source + self.noise * draw(rng, tokens) + 0.3 * self.gap)

    def chunk(self, begin: int) -> np.ndarray:
        """Return the clips ``(n, 30, 512)`` of some hundred videos."""
        return np.stack([self.clips(i) for i in range(begin, min(begin + CHUNK, self.videos))])

    def records(self) -> Iterator[tuple[Video, np.ndarray]]:
        """Yield what an index takes."""
        for number in range(self.videos):
            video = Video(str(number), f"/{number}", str(number), duration=2.0 * CLIPS, clip_length=2.0)
            yield video, self.clips(number)


class Best:
    """The best ten of what one query has been shown so far: of three kinds."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {kind: np.empty((0, 4)) for kind in KINDS}  # score, video, first, clips

    def show(self, product: np.ndarray, videos: np.ndarray) -> None:
        """Take in tokens x clips ``(T, 30 n)`` of some videos."""
        count = len(videos)
        scores = window_scores(product, np.full(count, CLIPS), LENGTHS).reshape(len(LENGTHS), count, CLIPS)
        flat = scores.transpose(1, 0, 2).reshape(count, -1)  # (n, W * 30)
        choice = flat.argmax(1)
        self._keep("strict", flat[np.arange(count), choice], videos, choice)
        some = np.argpartition(flat.reshape(-1), -min(TOP, flat.size))[-TOP:]
        self._keep("raw", flat.reshape(-1)[some], videos[some // flat.shape[1]], some % flat.shape[1])
        whole = product.reshape(len(product), count, CLIPS)
        score = whole.max(2).mean(0) + whole.max(0).mean(1)
        self._keep("videos", score, videos, np.zeros(count, dtype=np.int64))

    def _keep(self, kind: str, scores: np.ndarray, videos: np.ndarray, choice: np.ndarray) -> None:
        where = np.divmod(choice, CLIPS)
        length = np.array(LENGTHS)[where[0]] if kind != "videos" else np.full(len(choice), CLIPS)
        rows = np.concatenate([self.rows[kind], np.stack([scores, videos, where[1], length], 1)])
        self.rows[kind] = rows[np.lexsort((rows[:, 2], rows[:, 1], -rows[:, 0]))[:TOP]]

    def found(self, kind: str) -> Found:
        return [(int(video), int(first), int(length)) for _, video, first, length in self.rows[kind]]


def exact(query: np.ndarray, clips: np.ndarray, videos: np.ndarray) -> Best:
    """Score all windows of some videos, whose clips are ``(n, 30, 512)``."""
    best = Best()
    for begin in range(0, len(clips), CHUNK):
        part = clips[begin : begin + CHUNK]
        best.show(query @ part.reshape(-1, DIM).T, videos[begin : begin + CHUNK])
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
        product, videos = tokens @ clips.reshape(-1, DIM).T, np.arange(begin, begin + len(clips))
        for best, end, query in zip(bests, ends.tolist(), queries, strict=True):
            best.show(product[end - len(query) : end], videos)
    np.savez(path, **{kind: np.stack([best.rows[kind] for best in bests]) for kind in KINDS})
    return bests
