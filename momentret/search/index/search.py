"""Searching an index: from token vectors to moments, in two stages, exactly, or exactly with a proof."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from momentret.search.chamfer import alignment
from momentret.search.index.filters import Filter
from momentret.search.index.first_stage import Level, pooled_scores, sieve, video_bounds
from momentret.search.index.proposals import PROPOSERS, FirstStage, propose
from momentret.search.index.segment import Segment
from momentret.search.index.settings import Video
from momentret.search.index.windows import Run, Windows, pick, score_runs

__all__ = ["LENGTHS", "Hit", "SearchOptions", "SearchResult", "search_segments"]

LENGTHS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64)
"""Window lengths in clips that are scored by default: all up to 16, then ever fewer."""
_WHOLE = (1 << 40,)
"""Longer than any video, so that every video is one window."""
_SIEVE_SHARE = 0.1
_EXACT_CLIPS = 16_384
_PROOF_STEP = 64
_ROUNDING = 1e-5
"""More than float32 sums of 2,000 products can be off."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A found moment."""

    video: Video
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    score: float
    """In [-2, 2], higher is better: the sum of the two parts below."""
    to_video: float
    """Mean over the tokens of their best clip's similarity."""
    to_language: float
    """Mean over the clips of their best token's similarity."""

    @property
    def cost(self) -> float:
        """Return the symmetric squared Chamfer cost, in [0, 8]."""
        return 4 - 2 * self.score


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search.

    Raises:
        ValueError: an option is out of range.
    """

    top: int = 10
    """How many moments."""
    candidates: int = 100
    """Chapters that the first stage hands to exact scoring; at least `top`."""
    exact: bool | Literal["certified"] = False
    """Score everything, or everything that could still matter (``"certified"``)."""
    level: Level = "moment"
    """``"video"`` scores each video as one window."""
    lengths: tuple[int, ...] = LENGTHS
    """Window lengths in clips, ascending."""
    overlap: float = 0.7
    """Of two windows of a video whose intersection over union exceeds this, the better one stays."""
    per_video: int = 3
    """Moments of one video, at most."""
    where: Filter = field(default_factory=Filter)
    """Which videos to look at."""
    first_stage: FirstStage = "pooled"
    """``"pooled"`` looks at every chapter; the others let FAISS propose chapters."""
    proof_limit: int | None = None
    """Videos that a certified search scores at the most before it gives up the proof."""

    def __post_init__(self) -> None:
        if min(self.top, self.candidates, self.per_video) < 1:
            raise ValueError("top, candidates and per_video must be at least 1")
        if not self.lengths or self.lengths[0] < 1 or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths {self.lengths} must be ascending whole numbers of clips, at least 1")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap {self.overlap} is not in [0, 1]")
        if self.level not in ("moment", "video") or self.exact not in (False, True, "certified"):
            raise ValueError(f"level {self.level!r} or exact {self.exact!r} is not known")
        if self.first_stage != "pooled" and self.first_stage not in PROPOSERS:
            raise ValueError(f"first_stage {self.first_stage!r} is not one of pooled, {', '.join(PROPOSERS)}")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, and how thoroughly."""

    hits: tuple[Hit, ...]
    """Best first; ties by video id, then by time."""
    videos: int
    """Videos that passed the filter."""
    scored: int
    """Videos of which windows were scored exactly."""
    certified: bool
    """No better moment exists among the vectors as they are kept."""


def unit_tokens(tokens: np.ndarray, sentence: np.ndarray | None, dim: int) -> np.ndarray:
    """Return the query as unit rows ``(T, D)``; a sentence vector joins as one more token.

    Raises:
        ValueError: there is no token, the width is not that of the index, or a row is zero or not finite.
    """
    rows = np.atleast_2d(tokens) if sentence is None else np.vstack([np.atleast_2d(tokens), sentence])
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != dim:
        raise ValueError(f"the query has shape {np.shape(tokens)}, but the index holds vectors of {dim} numbers")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("a token of the query is zero or not finite")
    return np.ascontiguousarray(rows / norms, dtype=np.float32)


def search_segments(
    segments: Sequence[Segment], queries: Sequence[np.ndarray], options: SearchOptions
) -> list[SearchResult]:
    """Search for each query ``(T, D)`` of unit rows; a query's result does not depend on the others."""
    masks = [options.where.mask(segment) for segment in segments]
    total = sum(int(mask.sum()) for mask in masks)
    if options.exact == "certified":
        return [_certified(segments, masks, query, options, total) for query in queries]
    if options.exact:
        chosen = [_best_of_all(segments, masks, query, options) for query in queries]
        return [
            SearchResult(_hits(segments, query, runs, options), total, total, True)
            for query, runs in zip(queries, chosen, strict=True)
        ]
    found = []
    for query, runs in zip(queries, _candidates(segments, masks, queries, options), strict=True):
        scored = len({(number, run.video) for number, run in runs})
        found.append(SearchResult(_hits(segments, query, runs, options), total, scored, scored == total))
    return found


Placed = tuple[int, Run]
"""A run and the number of its segment."""


def _lengths(options: SearchOptions) -> tuple[int, ...]:
    return _WHOLE if options.level == "video" else options.lengths


def _candidates(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], queries: Sequence[np.ndarray], options: SearchOptions
) -> list[list[Placed]]:
    """Return, for each query, the runs of clips that the first stage finds worth scoring."""
    count = max(options.candidates, options.top)
    found: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in queries]
    for number, (segment, mask) in enumerate(zip(segments, masks, strict=True)):
        for into, chapters, scores in _first_stage(segment, mask, queries, options, count):
            found[into].append((np.full(len(chapters), number), chapters, scores))
    return [_runs_of_best(segments, parts, count, options) for parts in found]


def _first_stage(
    segment: Segment, mask: np.ndarray, queries: Sequence[np.ndarray], options: SearchOptions, count: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield ``(query, chapters, scores)``."""
    allowed = mask[segment.chapters.video]
    if not allowed.any():
        return
    left = int(allowed.sum())
    if options.first_stage != "pooled":
        some = [np.intersect1d(rows, np.flatnonzero(allowed)) for rows in propose(segment, queries, options, count)]
    elif segment.basis_names and left > 20 * count:
        some = sieve(queries, segment, max(20 * count, int(_SIEVE_SHARE * left)), allowed)
    else:
        everything = np.flatnonzero(allowed)
        one_pass = None if left == len(allowed) else everything
        for i, scores in enumerate(pooled_scores(queries, segment, one_pass, options.level)):
            yield i, everything, scores
        return
    for i, chapters in enumerate(some):
        yield i, chapters, pooled_scores([queries[i]], segment, chapters, options.level)[0]


def _runs_of_best(
    segments: Sequence[Segment],
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    count: int,
    options: SearchOptions,
) -> list[Placed]:
    if not parts:
        return []
    numbers, chapters, scores = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if count < len(scores):
        best = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
        numbers, chapters = numbers[best], chapters[best]
    reach = 1 << 40 if options.level == "video" else options.lengths[-1] - 1
    return [
        (int(number), run)
        for number in np.unique(numbers)
        for run in _chapter_runs(segments[number], np.sort(chapters[numbers == number]), reach)
    ]


def _chapter_runs(segment: Segment, chapters: np.ndarray, reach: int) -> Iterator[Run]:
    """Yield the clips of chapters (ascending), widened by `reach` inside their video; what then touches is joined."""
    table, begins = segment.chapters, segment.clip_begins
    owners = table.video[chapters]
    first = np.maximum(table.clip_begins[chapters] - begins[owners] - reach, 0)
    last = np.minimum(table.clip_begins[chapters + 1] - begins[owners] + reach, segment.columns["clip_count"][owners])
    open_run: Run | None = None
    for video, begin, end in zip(owners.tolist(), first.tolist(), last.tolist(), strict=True):
        if open_run is not None and open_run.video == video and begin <= open_run.end:
            open_run = Run(video, open_run.begin, end)
            continue
        if open_run is not None:
            yield open_run
        open_run = Run(video, begin, end)
    if open_run is not None:
        yield open_run


def _whole_runs(segment: Segment, rows: np.ndarray) -> list[Run]:
    return [
        Run(row, 0, count)
        for row, count in zip(rows.tolist(), segment.columns["clip_count"][rows].tolist(), strict=True)
    ]


def _hits(
    segments: Sequence[Segment], query: np.ndarray, runs: Sequence[Placed], options: SearchOptions
) -> tuple[Hit, ...]:
    """Score the runs and return the best moments of the best videos."""
    lengths = _lengths(options)
    videos: dict[tuple[int, int], list[Windows]] = defaultdict(list)
    for number in sorted({number for number, _ in runs}):
        own = [run for place, run in runs if place == number]
        for windows in score_runs(query, segments[number], own, lengths):
            videos[number, windows.run.video].append(windows)
    best = {place: max(float(part.scores.max()) for part in parts) for place, parts in videos.items()}
    hits = []
    for number, row in sorted(best, key=best.__getitem__, reverse=True)[: options.top + _ties(best, options.top)]:
        video = segments[number].video(row)
        for score, first, last, product in pick(videos[number, row], lengths, options.per_video, options.overlap):
            start, end = video.window(first, last)
            hits.append(Hit(video, start, end, score, *alignment(product)))
    hits.sort(key=lambda hit: (-hit.score, hit.video.video_id, hit.start, hit.end))
    return tuple(hits[: options.top])


def _ties(best: dict[tuple[int, int], float], top: int) -> int:
    """Count the videos beyond the first `top` that score as the last of these: the id decides between them."""
    ordered = sorted(best.values(), reverse=True)
    return sum(score == ordered[top - 1] for score in ordered[top:]) if len(ordered) > top else 0


def _video_scores(
    segment: Segment, query: np.ndarray, rows: np.ndarray, lengths: Sequence[int]
) -> Iterator[tuple[int, float]]:
    """Yield ``(row, score of its best window)`` of whole videos, some thousand clips at a time."""
    counts = np.cumsum(segment.columns["clip_count"][rows], dtype=np.int64)
    for part in np.split(rows, np.flatnonzero(np.diff(counts // _EXACT_CLIPS)) + 1):
        for windows in score_runs(query, segment, _whole_runs(segment, part), lengths):
            yield windows.run.video, float(windows.scores.max())


def _best_of_all(
    segments: Sequence[Segment], masks: Sequence[np.ndarray], query: np.ndarray, options: SearchOptions
) -> list[Placed]:
    """Return the best videos by scoring every window of every one; a few more than asked, for ties."""
    scored = [
        (score, number, row)
        for number, (segment, mask) in enumerate(zip(segments, masks, strict=True))
        for row, score in _video_scores(segment, query, np.flatnonzero(mask), _lengths(options))
    ]
    scored.sort(reverse=True)
    limit = scored[min(options.top, len(scored)) - 1][0] - _ROUNDING if scored else 0.0
    return [_placed(segments, number, row) for score, number, row in scored if score >= limit]


def _placed(segments: Sequence[Segment], number: int, row: int) -> Placed:
    return number, Run(row, 0, int(segments[number].columns["clip_count"][row]))


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
            scores = _video_scores(segments[number], query, rows, _lengths(options))
            scored += [(score, number, row) for row, score in scores]
    scored.sort(reverse=True)
    limit = scored[min(options.top, len(scored)) - 1][0] - _ROUNDING if scored else 0.0
    runs = [_placed(segments, number, row) for score, number, row in scored if score >= limit]
    return SearchResult(_hits(segments, query, runs, options), total, len(scored), certified)


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
