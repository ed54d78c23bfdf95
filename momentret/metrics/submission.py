"""A submission, checked before anything is scored: every problem of the file is found, named and refused at once.

A *problem* refuses the file. A *warning* is legal but worth knowing: what the reference's own output may hold scores as
it does there, everything else is scored so that it cannot gain. How both are scored is told in `WARNINGS`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from momentret.errors import PredictionError
from momentret.metrics.truth import GroundTruth
from momentret.words import count_of

__all__ = ["MAX_WINDOWS", "WARNINGS", "Submission", "check_submission"]

MAX_WINDOWS = 10
"""Windows of a query that count; the reference cuts the list as it stands."""
FARTHEST = 1e9
"""Seconds; `--legacy` scores windows far outside the video, but not beyond what a time can be."""
SHOWN = 5
"""Problems that the message spells out."""

Describe = Callable[[int], str]

WARNINGS: Mapping[str, str] = {
    "no_windows": "empty window list: counts 0",
    "unsorted_scores": "windows not sorted by score: every metric takes the worse of listed order and score order",
    "equal_scores": "all windows have the same score: the listed order counts",
    "repeated_windows": "a window comes again: the repeat takes a place in the ranking and can match nothing; "
    "momentret predict --nms 0.99 drops it",
    "zero_width": "a window has no length: its IoU is 0",
    "outside_video": "a window reaches outside the video, as the reference's own output may: scored as it stands",
    "more_than_10_windows": "more than 10 windows: ten count",
    "first_second": "all windows end within the first second, as some true ones do: scored as they stand",
    "short_saliency": "saliency shorter than the video: one missing clip, as in the reference's own output, scores 0.0",
    "long_saliency": "saliency longer than the video: cut; a best score past the end hits nothing",
    "constant_saliency": "all clips have the same saliency: ranks nothing, counts 0",
    "other_video": "the video id is not the one of the ground truth: ignored, the query id decides",
}
"""Name -> what it is and how strict scoring treats it. `--legacy` scores each as the official script does."""


@dataclass(frozen=True, eq=False)
class Submission:
    """What was predicted for Q queries, in the order of the ground truth, as flat arrays."""

    windows: np.ndarray | None
    """``(N, 3)`` start, end, score; those of the first query, then those of the second. None: not submitted."""
    window_counts: np.ndarray
    """``(Q,)``, adds up to N."""
    saliency: np.ndarray | None
    """``(S,)``; None: not submitted."""
    saliency_counts: np.ndarray
    """``(Q,)``, adds up to S."""
    constant: np.ndarray
    """``(Q,)``: True where the saliency says nothing."""
    unsorted: bool
    """Whether some window list is not sorted by score."""
    warnings: Mapping[str, int]
    """Name of `WARNINGS` -> number of queries."""


@dataclass(frozen=True)
class _Row:
    line: int
    query: int
    """Position in the ground truth."""
    values: dict[str, Any]


class _Findings:
    """What was found so far."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[tuple[float, str]] = []
        self.warnings: dict[str, int] = {}

    def refuse(self, line: int | None, query: object, what: str) -> None:
        where = "" if line is None else f"{self.place} {line}, "
        self.problems.append((line or np.inf, f"{where}query {reprlib.repr(query)}: {what}"))

    def warn(self, name: str, queries: np.ndarray) -> None:
        assert name in WARNINGS
        if count := int(queries.sum()):
            self.warnings[name] = count

    def raise_if_any(self, source: str) -> None:
        if not self.problems:
            return
        count = len(self.problems)
        shown = [text for _, text in sorted(self.problems, key=lambda problem: problem[0])[:SHOWN]]
        more = [f"and {count - SHOWN} more"] if count > SHOWN else []
        raise PredictionError(f"{source}: {count_of(count, 'problem')}, nothing scored: {'; '.join(shown + more)}")


def check_submission(
    rows: Sequence[tuple[int, dict[str, Any]]],
    truth: GroundTruth,
    *,
    legacy: bool = False,
    source: str = "predictions",
    place: str = "line",
) -> Submission:
    """Check raw prediction rows against the ground truth and align them with it.

    Args:
        rows: ``(number, row)`` in the QVHighlights submission format.
        truth: the queries that must be answered, each once.
        legacy: accept what the official script accepts and scores by rule: windows outside the video, seconds that
            look like fractions, any saliency length. Refuse the empty window list, on which that script fails.
        source: what the message calls the submission.
        place: what the message calls a row's number.

    Raises:
        PredictionError: one line with the number of problems and the first of them by name.
    """
    if not rows:
        raise PredictionError(f"{source}: no predictions; expected one a query, {len(truth.annotations):,} in all")
    findings = _Findings(place)
    matched = _match_queries(rows, truth, findings)
    windows, window_counts = _read(matched, "pred_relevant_windows", 3, bool(truth.rules.ranges), findings)
    saliency, saliency_counts = _read(matched, "pred_saliency_scores", 0, truth.rules.has_highlights, findings)
    if windows is None and saliency is None and not findings.problems:
        raise PredictionError(f"{source}: no row has anything that this dataset scores; see the submission format")
    columns = _Columns(matched, findings, legacy, truth)
    if windows is not None:
        columns.check_windows(windows, window_counts)
    constant = np.zeros(len(matched), bool)
    if saliency is not None:
        constant = columns.check_saliency(saliency, saliency_counts)
    findings.raise_if_any(source)
    return Submission(
        windows=windows,
        window_counts=window_counts,
        saliency=saliency,
        saliency_counts=saliency_counts,
        constant=constant,
        unsorted="unsorted_scores" in findings.warnings,
        warnings=findings.warnings,
    )


def _match_queries(rows: Sequence[tuple[int, dict[str, Any]]], truth: GroundTruth, findings: _Findings) -> list[_Row]:
    """Return the rows in the order of the ground truth; refuse what has no or no single partner."""
    known = {str(a.query_id): i for i, a in enumerate(truth.annotations)}
    found: dict[int, _Row] = {}
    for line, values in rows:
        name = values.get("qid")
        if type(name) not in (int, str):
            findings.refuse(line, name, "key 'qid' is missing or is no integer or string")
        elif str(name) not in known:
            findings.refuse(line, name, "is not in the ground truth; is this the right split?")
        elif known[str(name)] in found:
            findings.refuse(line, name, f"was answered before, in {findings.place} {found[known[str(name)]].line}")
        else:
            found[known[str(name)]] = _Row(line, known[str(name)], values)
    for i, annotation in enumerate(truth.annotations):
        if i not in found:
            findings.refuse(None, annotation.query_id, "has no prediction")
    matched = [found[i] for i in sorted(found)]
    videos = [str(row.values.get("vid", truth.annotations[row.query].video_id)) for row in matched]
    true_videos = [truth.annotations[row.query].video_id for row in matched]
    findings.warn("other_video", np.array([a != b for a, b in zip(videos, true_videos, strict=True)], bool))
    return matched


def _read(
    rows: Sequence[_Row], key: str, width: int, scored: bool, findings: _Findings
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return one key of all rows as a flat array and its counts; None if the key is not scored or nowhere present."""
    none = None, np.zeros(len(rows), int)
    if not scored or not any(key in row.values for row in rows):
        return none
    arrays = []
    for row in rows:
        array = _table(row.values.get(key), width) if width else _vector(row.values.get(key))
        if key not in row.values:
            findings.refuse(row.line, row.values["qid"], f"key {key!r} is missing, other rows have it")
        elif array is None:
            form = "[[start, end, score], ...]" if width else "[score, ...]"
            findings.refuse(row.line, row.values["qid"], f"{key!r} is not of the form {form} with numbers")
        arrays.append(np.zeros((0, width) if width else 0) if array is None else array)
    return np.concatenate(arrays), np.array([len(array) for array in arrays])


def _table(value: Any, width: int) -> np.ndarray | None:
    """Return a list of lists of `width` numbers as ``(n, width)``, or None if it is anything else."""
    if type(value) is not list or any(type(entry) is not list or len(entry) != width for entry in value):
        return None
    flat = _vector(list(chain.from_iterable(value)))
    return None if flat is None else flat.reshape(-1, width)


def _vector(value: Any) -> np.ndarray | None:
    """Return a list of numbers as ``(n,)``, or None if it is anything else (truth values and strings are)."""
    if type(value) is not list or not set(map(type, value)) <= {int, float}:
        return None
    try:
        return np.array(value, dtype=float)
    except OverflowError:  # an integer beyond the largest float
        return None


class _Columns:
    """The checks of flat columns; `owner` is the row that each entry belongs to."""

    def __init__(self, rows: Sequence[_Row], findings: _Findings, legacy: bool, truth: GroundTruth) -> None:
        self.rows, self.findings, self.legacy, self.rules = rows, findings, legacy, truth.rules
        queries = [row.query for row in rows]
        self.durations = truth.durations[queries]
        self.clips = None if truth.clips is None else truth.clips[queries]
        self.truth_is_early = bool((truth.windows_valid & (truth.windows[..., 1] <= 1)).any())

    def any(self, flags: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Return which rows own a flagged entry."""
        return np.bincount(owner[flags], minlength=len(self.rows)) > 0

    def refuse(self, flags: np.ndarray, owner: np.ndarray, describe: Describe) -> None:
        """Refuse each row for the first of its flagged entries."""
        entries = np.flatnonzero(flags)
        for row, first in zip(*np.unique(owner[entries], return_index=True), strict=True):
            self.findings.refuse(self.rows[row].line, self.rows[row].values["qid"], describe(int(entries[first])))

    def refuse_rows(self, flags: np.ndarray, describe: Describe) -> None:
        """Refuse the flagged rows."""
        self.refuse(flags, np.arange(len(flags)), describe)

    def check_windows(self, windows: np.ndarray, counts: np.ndarray) -> None:
        owner = np.repeat(np.arange(len(counts)), counts)
        finite = np.isfinite(windows).all(1)
        start, end = windows[:, 0], windows[:, 1]
        self.refuse(~finite, owner, lambda i: f"window {windows[i].tolist()} has a value that is not finite")
        self.refuse(end < start, owner, lambda i: f"window {windows[i, :2].tolist()} ends before it starts")
        self._check_places(windows, owner, finite)
        self._check_fractions(windows, owner, finite)
        self._check_ranking(windows, owner, counts)
        self.findings.warn("zero_width", self.any(start == end, owner))

    def _check_places(self, windows: np.ndarray, owner: np.ndarray, finite: np.ndarray) -> None:
        start, end, _ = windows.T
        duration = self.durations[owner]
        earliest, latest = self.rules.earliest_start(duration), self.rules.latest_end(duration)
        outside = ((start < 0) | (end > duration)) & finite
        illegal = ((start < earliest) | (end > latest)) & finite & (start <= end)

        def describe(i: int) -> str:
            hint = "; are these milliseconds?" if 0 <= start[i] <= end[i] <= 1000 * latest[i] and end[i] > 2000 else ""
            return f"window {windows[i, :2].tolist()} is outside the {duration[i]:g} s video{hint}"

        absurd = finite & (np.abs(windows[:, :2]) > FARTHEST).any(1)
        self.refuse(absurd if self.legacy else illegal, owner, describe)
        self.findings.warn("outside_video", self.any(outside, owner))

    def _check_fractions(self, windows: np.ndarray, owner: np.ndarray, finite: np.ndarray) -> None:
        """Refuse queries whose windows all end within the first second, below what rounding to clips can leave.

        Where a true window does so too, one such query is possible; half of the file is not.
        """
        start, end = np.where(finite[:, None], windows, 0.0)[:, :2].T
        within = self.any(end > 0, owner) & ~self.any(end > 1, owner)
        between = self.any((start % 1 != 0) | (end % 1 != 0), owner)
        fractions = within & (between | (self.rules.clip_length > 1))
        if self.legacy:
            return
        if self.truth_is_early and 2 * fractions.sum() < len(fractions):
            self.findings.warn("first_second", fractions)
            return
        text = "all windows end within the first second: these look like fractions of the duration, not seconds"
        self.refuse_rows(fractions, lambda i: text)

    def _check_ranking(self, windows: np.ndarray, owner: np.ndarray, counts: np.ndarray) -> None:
        same = owner[1:] == owner[:-1]
        score, previous = windows[1:, 2], windows[:-1, 2]
        self.findings.warn("unsorted_scores", self.any(same & (score > previous), owner[1:]))
        self.findings.warn("equal_scores", (counts > 1) & ~self.any(same & (score != previous), owner[1:]))
        order = np.lexsort((windows[:, 1], windows[:, 0], owner))
        ordered, by = windows[order, :2], owner[order]
        repeated = (ordered[1:] == ordered[:-1]).all(1) & (by[1:] == by[:-1])
        self.findings.warn("repeated_windows", self.any(repeated, by[1:]))
        self.findings.warn("more_than_10_windows", counts > MAX_WINDOWS)
        if self.legacy:
            self.refuse_rows(counts == 0, lambda i: "no windows; the official script fails on this")
        self.findings.warn("no_windows", counts == 0)

    def check_saliency(self, saliency: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return which rows have the same saliency everywhere."""
        assert self.clips is not None
        owner = np.repeat(np.arange(len(counts)), counts)
        self.refuse(~np.isfinite(saliency), owner, lambda i: f"saliency {saliency[i]} is not finite")
        self._check_length(counts, counts - self.clips)
        changed = (saliency[1:] != saliency[:-1]) & (owner[1:] == owner[:-1])
        constant = (counts > 1) & ~self.any(changed, owner[1:])
        self.findings.warn("constant_saliency", constant)
        return constant

    def _check_length(self, counts: np.ndarray, excess: np.ndarray) -> None:
        assert self.clips is not None
        fewest, most = self.rules.saliency_slack
        illegal = (counts == 0) if self.legacy else (excess < fewest) | (excess > most) | (counts == 0)
        clips = self.clips
        self.refuse_rows(
            illegal,
            lambda i: f"{count_of(counts[i], 'saliency score')} for {count_of(clips[i], 'clip')}; they must be as many",
        )
        self.findings.warn("short_saliency", excess < 0)
        self.findings.warn("long_saliency", excess > 0)
