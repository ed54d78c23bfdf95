"""From runs of clips to moments: score all their windows exactly and keep the best ones of the best videos.

Every backend ends here, so the same clips give the same moments wherever they were kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from momentret.search.chamfer import alignment
from momentret.search.index.query import Hit, SearchOptions
from momentret.search.index.runs import ClipSource, Run
from momentret.search.index.windows import ScoredRuns, pick, score_runs

__all__ = ["Placed", "best_chapters", "best_hits", "by_rank", "candidates_of", "reach_of", "window_lengths"]

_WHOLE = (1 << 40,)
"""Longer than any video, so that every video is one window."""

_CANDIDATES, _DEPTH = 100, 3
"""Chapters in all, and for each moment asked for: these hold 99 % of the best moments, one a video."""

Placed = tuple[int, Run]
"""A run and the number of its source."""


def window_lengths(options: SearchOptions) -> tuple[int, ...]:
    """Return the lengths of the windows to score, in clips."""
    return _WHOLE if options.level == "video" else options.lengths


def reach_of(options: SearchOptions) -> int:
    """Return how many clips on either side of a chapter a window that touches it can take in."""
    return window_lengths(options)[-1] - 1


def candidates_of(options: SearchOptions) -> int:
    """Return how many chapters the first stage hands on."""
    if options.candidates is None:
        return max(_CANDIDATES, _DEPTH * options.top)
    return max(options.candidates, options.top)


def best_chapters(scores: np.ndarray, videos: np.ndarray, options: SearchOptions) -> np.ndarray:
    """Return the positions of the chapters to score exactly: the best ones, but of no video more than its share.

    So a long film whose chapters are all alike leaves room for others, and there are videos enough for `top` moments.

    Args:
        scores: ``(chapters,)`` of the first stage.
        videos: ``(chapters,)``: which video each is of.
        options: how many, and how many moments of one video.
    """
    count = candidates_of(options)
    each = count * (1 if options.level == "video" else options.per_video) // options.top
    if count >= len(scores):
        return np.arange(len(scores))
    for width in (min(4 * count, len(scores)), len(scores)):  # so many nearly always do
        some = np.argpartition(scores, len(scores) - width)[len(scores) - width :]
        some = some[np.argsort(-scores[some], kind="stable")]
        chosen = list(islice(_shared_out(some, videos[some], each), count))
        if len(chosen) == count:
            break
    return np.array(chosen)


def _shared_out(order: np.ndarray, videos: np.ndarray, each: int) -> Iterator[int]:
    """Yield positions in their order, of each video the first `each`."""
    taken = Counter[int]()
    for i, video in zip(order.tolist(), videos.tolist(), strict=True):
        taken[video] += 1
        if taken[video] <= each:
            yield i


def best_hits(
    sources: Sequence[ClipSource], query: np.ndarray, runs: Sequence[Placed], options: SearchOptions
) -> tuple[Hit, ...]:
    """Score every window of the runs and return the best moments of the best videos.

    Args:
        sources: where the clips are.
        query: ``(T, D)`` unit rows.
        runs: of clips, each with the number of its source.
        options: how many, how long, how far apart.
    """
    lengths = window_lengths(options)
    videos: dict[tuple[int, int], list[tuple[ScoredRuns, int]]] = defaultdict(list)
    best: dict[tuple[int, int], float] = {}
    for number in sorted({number for number, _ in runs}):
        scored = score_runs(query, sources[number], [run for place, run in runs if place == number], lengths)
        for i, (run, score) in enumerate(zip(scored.runs, scored.best.tolist(), strict=True)):
            place = number, run.video
            videos[place].append((scored, i))
            best[place] = max(score, best.get(place, score))
    hits = []
    for number, row in sorted(best, key=best.__getitem__, reverse=True)[: options.top + _ties(best, options.top)]:
        video, windows = sources[number].video(row), [scored.windows(i) for scored, i in videos[number, row]]
        for score, first, last, product in pick(windows, lengths, options.per_video, options.overlap):
            start, end = video.window(first, last)
            hits.append(Hit(video, start, end, score, *alignment(product)))
    return tuple(sorted(hits, key=by_rank)[: options.top])


def by_rank(hit: Hit) -> tuple[float, str, float, float]:
    """Return the key that sorts hits best first; ties by video id, then by time."""
    return -hit.score, hit.video.video_id, hit.start, hit.end


def _ties(best: dict[tuple[int, int], float], top: int) -> int:
    """Count the videos beyond the first `top` that score as the last of these: the id decides between them."""
    ordered = sorted(best.values(), reverse=True)
    return sum(score == ordered[top - 1] for score in ordered[top:]) if len(ordered) > top else 0
