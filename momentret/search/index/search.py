"""Searching an index: from token vectors to moments, in two stages, exactly, or exactly with a proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from momentret.machine import on_one_thread
from momentret.search.index.device import device_scores
from momentret.search.index.first_stage import pooled_scores, sieve, video_bounds
from momentret.search.index.hits import Placed, best_chapters, best_hits, candidates_of, reach_of, window_lengths
from momentret.search.index.proposals import PROPOSERS, propose
from momentret.search.index.query import SearchOptions, SearchResult
from momentret.search.index.runs import Run, widened
from momentret.search.index.segment import Segment, are_outlined
from momentret.search.index.windows import score_runs

__all__ = ["score_matrix", "search_segments"]

_SIEVE_SHARE, _SIEVE_LEAST = (0.02, 0.007), 1_500
"""Chapters that the sieve keeps of a segment; of very many, which have outlines, a smaller share."""
_EXACT_CLIPS = 16_384
_PROOF_STEP = 64
_ROUNDING = 1e-5
"""More than float32 sums of 2,000 products can be off."""


@on_one_thread()
def search_segments(
    segments: Sequence[Segment], queries: Sequence[np.ndarray], options: SearchOptions
) -> list[SearchResult]:
    """Search for each query ``(T, D)`` of unit rows; a query's result does not depend on the others."""
    if not queries:
        return []
    masks = [options.where.mask(segment) for segment in segments]
    total = sum(int(mask.sum()) for mask in masks)
    if options.exact == "certified":
        return [_certified(segments, masks, query, options, total) for query in queries]
    if options.exact:
        chosen = [_best_of_all(segments, masks, query, options) for query in queries]
        return [
            SearchResult(best_hits(segments, query, runs, options), total, total, True)
            for query, runs in zip(queries, chosen, strict=True)
        ]
    clips = sum(int(part.columns["clip_count"][mask].sum()) for part, mask in zip(segments, masks, strict=True))
    found = []
    for query, runs in zip(queries, _candidates(segments, masks, queries, options), strict=True):
        scored = len({(number, run.video) for number, run in runs})
        certified = sum(run.end - run.begin for _, run in runs) == clips  # not a few chapters of a long video
        found.append(SearchResult(best_hits(segments, query, runs, options), total, scored, certified))
    return found


def _candidates(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], queries: Sequence[np.ndarray], options: SearchOptions
) -> list[list[Placed]]:
    """Return, for each query, the runs of clips that the first stage finds worth scoring."""
    count, outlined = candidates_of(options), options.first_stage == "outlined" or are_outlined(segments)
    before = np.cumsum([0, *(segment.videos for segment in segments)])
    found: list[list[tuple[np.ndarray, ...]]] = [[] for _ in queries]
    for number, (segment, mask) in enumerate(zip(segments, masks, strict=True)):
        for into, chapters, scores in _first_stage(segment, mask, queries, options, count, outlined):
            videos = before[number] + segment.chapters.video[chapters]
            found[into].append((np.full(len(chapters), number), videos, chapters, scores))
    return [_runs_of_best(segments, parts, options) for parts in found]


def _first_stage(
    segment: Segment,
    mask: np.ndarray,
    queries: Sequence[np.ndarray],
    options: SearchOptions,
    count: int,
    outlined: bool,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield ``(query, chapters, scores)``."""
    allowed = mask[segment.chapters.video]
    if not allowed.any():
        return
    everything = np.flatnonzero(allowed)
    left = len(everything)
    if options.first_stage not in PROPOSERS and options.device != "cpu" and segment.entry is not None:
        for i, scores in enumerate(device_scores(queries, segment, options.level, options.device)):
            yield i, everything, scores[everything]
        return
    if options.first_stage in PROPOSERS:
        some = [np.intersect1d(rows, everything) for rows in propose(segment, queries, options, count)]
        some = [rows if len(rows) >= min(count, left) else everything for rows in some]  # others took their places
    elif segment.basis_names and left > 2 * max(_SIEVE_LEAST, 10 * count):
        keep = max(_SIEVE_LEAST, 10 * count, int(_SIEVE_SHARE[outlined] * left))
        some = sieve(queries, segment, keep, allowed, outlined)
    else:
        one_pass = None if left == len(allowed) else everything
        for i, scores in enumerate(pooled_scores(queries, segment, one_pass, options.level)):
            yield i, everything, scores
        return
    for i, chapters in enumerate(some):
        yield i, chapters, pooled_scores([queries[i]], segment, chapters, options.level, on_disk=outlined)[0]


def _runs_of_best(
    segments: Sequence[Segment],
    parts: Sequence[tuple[np.ndarray, ...]],
    options: SearchOptions,
) -> list[Placed]:
    if not parts:
        return []
    numbers, videos, chapters, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    best = best_chapters(scores, videos, options)
    numbers, chapters = numbers[best], chapters[best]
    reach = reach_of(options)
    return [
        (int(number), run)
        for number in np.unique(numbers)
        for run in _chapter_runs(segments[number], np.sort(chapters[numbers == number]), reach)
    ]


def _chapter_runs(segment: Segment, chapters: np.ndarray, reach: int) -> Iterator[Run]:
    """Yield the clips of chapters (ascending), widened by `reach` inside their video."""
    table, begins = segment.chapters, segment.clip_begins
    videos = table.video[chapters]
    first, last = (table.clip_begins[chapters + i] - begins[videos] for i in (0, 1))
    return widened(videos, first, last, segment.columns["clip_count"][videos], reach)


def _whole_runs(segment: Segment, rows: np.ndarray) -> list[Run]:
    return [
        Run(row, 0, count)
        for row, count in zip(rows.tolist(), segment.columns["clip_count"][rows].tolist(), strict=True)
    ]


def video_scores(
    segment: Segment, query: np.ndarray, rows: np.ndarray, lengths: Sequence[int]
) -> Iterator[tuple[int, float]]:
    """Yield ``(row, score of its best window)`` of whole videos, some thousand clips at a time."""
    counts = np.cumsum(segment.columns["clip_count"][rows], dtype=np.int64)
    for part in np.split(rows, np.flatnonzero(np.diff(counts // _EXACT_CLIPS)) + 1):
        if len(part):
            best = score_runs(query, segment, _whole_runs(segment, part), lengths).best
            yield from zip(part.tolist(), best.tolist(), strict=True)


@on_one_thread()
def score_matrix(segments: Sequence[Segment], queries: Sequence[np.ndarray], options: SearchOptions) -> np.ndarray:
    """Return the score of the best window of every video that is there ``(B, N)`` float32, in the order of `segments`.

    Exactly with ``options.exact``, else by the pooled vectors of the first stage.
    """
    parts = []
    for segment in segments:
        rows = np.flatnonzero(~segment.removed)
        part = np.empty((len(queries), segment.videos), dtype=np.float32)
        if options.exact:
            for line, query in zip(part, queries, strict=True):
                for row, score in video_scores(segment, query, rows, window_lengths(options)):
                    line[row] = score
        else:
            begins = np.flatnonzero(np.diff(segment.chapters.video, prepend=-1))
            for line, scores in zip(part, pooled_scores(queries, segment, None, options.level), strict=True):
                line[segment.chapters.video[begins]] = np.maximum.reduceat(scores, begins)
        parts.append(part[:, rows])
    return np.concatenate(parts, axis=1) if parts else np.empty((len(queries), 0), dtype=np.float32)


def _best_of_all(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], query: np.ndarray, options: SearchOptions
) -> list[Placed]:
    """Return the best videos by scoring every window of every one."""
    scored = [
        (score, number, row)
        for number, (segment, mask) in enumerate(zip(segments, masks, strict=True))
        for row, score in video_scores(segment, query, np.flatnonzero(mask), window_lengths(options))
    ]
    return _best_videos(segments, scored, options.top)


def _best_videos(segments: Sequence[Segment], scored: Sequence[tuple[float, int, int]], top: int) -> list[Placed]:
    """Return the best whole videos of ``(score, segment, row)``; a few more than asked, for ties."""
    ordered = sorted(scored, reverse=True)
    limit = ordered[min(top, len(ordered)) - 1][0] - _ROUNDING if ordered else 0.0
    return [
        (number, Run(row, 0, int(segments[number].columns["clip_count"][row])))
        for score, number, row in ordered
        if score >= limit
    ]


def _certified(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], query: np.ndarray, options: SearchOptions, total: int
) -> SearchResult:
    """Score videos in the order of their upper bounds until no bound left reaches the last of the best."""
    order = _by_bound(segments, masks, query)
    scored: list[tuple[float, int, int]] = []
    certified = True
    for begin in range(0, len(order), _PROOF_STEP):
        scored.sort(reverse=True)
        if len(scored) >= options.top and order[begin][0] + _ROUNDING < scored[options.top - 1][0]:
            break
        if options.proof_limit is not None and begin >= options.proof_limit:
            certified = False
            break
        step = order[begin : begin + _PROOF_STEP]
        for number in {number for _, number, _ in step}:
            rows = np.array(sorted(row for _, place, row in step if place == number))
            scores = video_scores(segments[number], query, rows, window_lengths(options))
            scored += [(score, number, row) for row, score in scores]
    runs = _best_videos(segments, scored, options.top)
    return SearchResult(best_hits(segments, query, runs, options), total, len(scored), certified)


def _by_bound(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], query: np.ndarray
) -> list[tuple[float, int, int]]:
    """Return ``(bound, segment, row)`` of the videos to look at, highest bound first."""
    order = []
    for number, (segment, mask) in enumerate(zip(segments, masks, strict=True)):
        if mask.any():
            bounds = video_bounds(query, segment)
            order += [(float(bounds[row]), number, row) for row in np.flatnonzero(mask).tolist()]
    return sorted(order, reverse=True)
