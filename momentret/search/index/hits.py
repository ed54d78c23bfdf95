"""From runs of clips to moments: score all their windows exactly and keep the best ones of the best videos.

Every backend ends here, so the same clips give the same moments wherever they were kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from momentret.search.chamfer import alignment
from momentret.search.index.query import Hit, SearchOptions
from momentret.search.index.runs import ClipSource, Run
from momentret.search.index.windows import ScoredRuns, pick, score_runs

__all__ = ["Placed", "best_hits", "by_rank", "reach_of", "window_lengths"]

_WHOLE = (1 << 40,)
"""Longer than any video, so that every video is one window."""

Placed = tuple[int, Run]
"""A run and the number of its source."""


def window_lengths(options: SearchOptions) -> tuple[int, ...]:
    """Return the lengths of the windows to score, in clips."""
    return _WHOLE if options.level == "video" else options.lengths


def reach_of(options: SearchOptions) -> int:
    """Return how many clips on either side of a chapter a window that touches it can take in."""
    return window_lengths(options)[-1] - 1


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
