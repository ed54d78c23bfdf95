"""The second stage: score all windows of some runs of clips exactly, and pick the best ones of each video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from momentret.search.chamfer import window_scores
from momentret.search.index.runs import ClipSource, Run

__all__ = ["ScoredRuns", "Windows", "pick", "score_runs"]

_CHUNK = 512
"""Clips decoded at a time: 1 MB as float32, so they stay in the cache."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one run, scored."""

    run: Run
    scores: np.ndarray
    """``(W, n)``: row w, column i is the window of ``lengths[w]`` clips from clip ``run.begin + i`` on; -inf: none."""
    product: np.ndarray
    """``(T, n)``: tokens x clips."""


@dataclass(frozen=True, slots=True)
class ScoredRuns:
    """The windows of some runs, scored."""

    runs: Sequence[Run]
    ends: np.ndarray
    """``(runs,)``: the column after the last of each run."""
    scores: np.ndarray
    """``(W, L)``: those of all runs, side by side."""
    product: np.ndarray
    """``(T, L)``."""
    best: np.ndarray
    """``(runs,)``: the highest score of each."""

    def windows(self, i: int) -> Windows:
        """Return the windows of one run."""
        run, end = self.runs[i], int(self.ends[i])
        columns = slice(end - (run.end - run.begin), end)
        return Windows(run, self.scores[:, columns], self.product[:, columns])


def clip_products(query: np.ndarray, source: ClipSource, runs: Sequence[Run]) -> np.ndarray:
    """Return tokens x clips ``(T, L)`` of all runs, one after the other."""
    codes, scale = source.clip_rows(runs)
    out = np.empty((len(codes), len(query)), dtype=np.float32)  # BLAS is faster with the few columns on the right
    for begin in range(0, len(codes), _CHUNK):
        np.matmul(codes[begin : begin + _CHUNK].astype(np.float32), query.T, out=out[begin : begin + _CHUNK])
    out *= scale[:, None]
    return np.ascontiguousarray(out.T)


def score_runs(query: np.ndarray, source: ClipSource, runs: Sequence[Run], lengths: Sequence[int]) -> ScoredRuns:
    """Score every window of every run.

    Args:
        query: ``(T, D)`` unit rows.
        source: that the runs are of.
        runs: of clips, at least one; windows stay within one.
        lengths: of the windows in clips, ascending.
    """
    product = clip_products(query, source, runs)
    sizes = np.array([run.end - run.begin for run in runs])
    ends, scores = np.cumsum(sizes), window_scores(product, sizes, lengths)
    return ScoredRuns(runs, ends, scores, product, np.maximum.reduceat(scores.max(0), ends - sizes))


def pick(
    windows: Sequence[Windows], lengths: Sequence[int], count: int, overlap: float
) -> list[tuple[float, int, int, np.ndarray]]:
    """Return the best windows ``(score, first clip, last clip, tokens x clips)`` of one video, best first.

    Args:
        windows: of runs of that video.
        lengths: of the windows.
        count: how many at most.
        overlap: a window whose intersection over union with a better one exceeds this is dropped.
    """
    scores = np.concatenate([part.scores for part in windows], axis=1).copy()
    first = np.concatenate([np.arange(part.run.begin, part.run.end) for part in windows])[None, :]
    last_of_run = np.concatenate([np.full(part.scores.shape[1], part.run.end) for part in windows])[None, :]
    end = np.minimum(first + np.array(lengths)[:, None], last_of_run)  # (W, n); a short video's window ends with it
    product = np.concatenate([part.product for part in windows], axis=1)
    found: list[tuple[float, int, int, np.ndarray]] = []
    while scores.max(initial=-np.inf) > -np.inf:
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        begin, stop = int(first[0, column]), int(end[row, column])
        found.append((float(scores[row, column]), begin, stop - 1, product[:, column : column + stop - begin]))
        if len(found) == count:
            break
        inner = np.minimum(end, stop) - np.maximum(first, begin)
        union = (end - first) + (stop - begin) - inner
        scores[inner > overlap * union] = -np.inf
        scores[row, column] = -np.inf
    return found
