"""The evaluator of record: a checked submission and the ground truth -> per-query values -> the report.

Strict scoring, the default, equals the official scripts on sorted, complete submissions and closes what those leave
open; `--legacy` is the official arithmetic. Where the official QVHighlights script can be exploited, and what is done:

- A window with NaN (also ``[inf, inf]``, or one reversed that is as long as a true one) has IoU NaN, and
  ``NaN < threshold`` is false: it matches anything, mAP rises to 100. Refused in both modes.
- R1 reads the first listed window, AP sorts by score: an unsorted list answers each metric with another window.
  Strict takes the worse of both readings for every metric.
- Several rows for one query: their windows are pooled for AP, ten of each. Refused in both modes.
- An empty window list leaves the mAP mean instead of counting 0 (the R1 part then fails). Counts 0.
- A repeated window can take a second true window that it also overlaps. Strict lets it match nothing.
- Missing saliency is filled with 0.0, above most scores of most models, or below all of a model with positive ones.
  Strict refuses, except one missing clip, which the reference's own output shows in one video of a hundred.
- Saliency that is the same everywhere still hits with the first clip. Strict counts 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from momentret.metrics import highlights
from momentret.metrics.moments import average_precision, best_iou, find_repeats, mean_over_queries, pack, recall_at
from momentret.metrics.rules import AP_THRESHOLDS, Rules, find_rules
from momentret.metrics.submission import MAX_WINDOWS, Submission, check_submission
from momentret.metrics.truth import GroundTruth
from momentret.records import Annotation, Prediction
from momentret.spans import hull_iou, iou

__all__ = ["Evaluation", "evaluate", "score"]

Columns = dict[str, Any]
"""A tree of names whose leaves are ``(Q,)`` values in [0, 1], NaN for queries that do not count."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The report, and the per-query values behind its headline metrics."""

    report: dict[str, Any]
    """In the official structure; percent with two decimals, None where no query counts."""
    headline: Mapping[str, np.ndarray]
    """Metric of the ``brief`` part -> ``(Q, C)`` in percent, NaN for queries that do not count; the metric is the mean
    over the C columns of their means over queries."""
    warnings: Mapping[str, int]


def evaluate(
    predictions: Sequence[Prediction],
    annotations: Sequence[Annotation],
    dataset: str = "qvhighlights",
    *,
    legacy: bool = False,
    inclusive: bool = True,
) -> dict[str, Any]:
    """Return the report of `predictions` as the `momentret evaluate` command prints it with ``--json``.

    Args:
        predictions: exactly one for every annotation, in any order.
        annotations: the ground truth.
        dataset: a key of `rules.DATASETS`.
        legacy: the official scripts' arithmetic, with their tolerance for odd saliency lengths and windows.
        inclusive: whether an IoU equal to the threshold counts as recalled.

    Raises:
        PredictionError: the predictions are not legal; one line names the first problems and counts all.
        AnnotationError: the ground truth lacks what the dataset scores.
        ValueError: there is no such dataset.
    """
    truth = GroundTruth.of(annotations, find_rules(dataset))
    rows = [(i, _plain_row(prediction)) for i, prediction in enumerate(predictions, start=1)]
    submission = check_submission(rows, truth, legacy=legacy, place="prediction")
    return score(submission, truth, legacy=legacy, inclusive=inclusive).report


def _plain_row(prediction: Prediction) -> dict[str, Any]:
    """Return the submission row with plain floats, whatever number type a model left in it."""
    row = prediction.to_row()
    row["pred_relevant_windows"] = [list(map(float, window)) for window in row["pred_relevant_windows"]]
    if prediction.saliency is not None:
        row["pred_saliency_scores"] = list(map(float, prediction.saliency))
    return row


def score(submission: Submission, truth: GroundTruth, *, legacy: bool = False, inclusive: bool = True) -> Evaluation:
    """Score a checked submission; see `evaluate` for the switches."""
    tree: Columns = {}
    keys: list[str] = []
    if submission.windows is not None:
        tree |= _moment_columns(submission, truth, legacy, inclusive)
        keys += sorted(truth.rules.brief)
    if submission.saliency is not None and truth.rules.levels:
        levels = _level_columns(submission, truth, legacy)
        tree |= levels
        keys += [f"{level}-{metric[3:]}" for level, part in levels.items() for metric in part]
    report = _map(dict(sorted(tree.items())), lambda values: _percent(100 * mean_over_queries(values)))
    brief = {key: _find(report, key) for key in keys}
    headline = {key: 100 * _find(tree, key)[:, None] for key in keys}
    if submission.saliency is not None and truth.rules.domain_metric:
        domains = _domain_columns(submission, truth, legacy)
        means = {name: _fraction(mean_over_queries(values)) for name, values in domains.items()}
        report |= {name: {"mAP": mean, "videos": _count(truth, name)} for name, mean in means.items()}
        brief["mAP"] = _percent(100 * mean_over_queries(np.array(list(means.values()), float)))
        headline["mAP"] = 100 * np.stack(list(domains.values()), axis=1)
    facts = {"data": _facts(truth, inclusive)} if truth.rules.facts else {}
    return Evaluation({"brief": brief, **facts, **report}, headline, submission.warnings)


def _moment_columns(submission: Submission, truth: GroundTruth, legacy: bool, inclusive: bool) -> Columns:
    """Return AP, R@n and IoU of every query for every range of window lengths."""
    lengths = truth.windows[..., 1] - truth.windows[..., 0]
    readings = list(_readings(submission, truth, legacy))
    tree: Columns = {}
    for name, (low, high) in truth.rules.ranges.items():
        in_range = truth.windows_valid & (low < lengths) & (lengths <= high)
        precision = np.minimum.reduce([r.precision(in_range) for r in readings if r.for_precision])
        overlap = np.minimum.reduce([r.best_so_far(in_range) for r in readings if r.for_recall])
        part = _range_columns(precision, overlap, truth.rules, inclusive)
        tree[name] = _map(part, partial(_only, in_range.any(1)))
    return tree


def _range_columns(precision: np.ndarray, overlap: np.ndarray, rules: Rules, inclusive: bool) -> Columns:
    """Name the columns of AP ``(Q, T)`` and of the best IoU up to each rank ``(Q, P)``."""
    part: Columns = {"MR-mAP": {str(t): precision[:, i] for i, t in enumerate(AP_THRESHOLDS)}}
    part["MR-mAP"]["average"] = precision.mean(1)
    for rank in rules.recall_ranks:
        recall = recall_at(overlap, rank, rules.recall_thresholds, inclusive=inclusive)
        part[f"MR-R{rank}"] = {str(t): recall[:, i] for i, t in enumerate(rules.recall_thresholds)}
    if rules.mean_iou:
        part["MR-mIoU"] = overlap[:, 0]
    return part


@dataclass(frozen=True, eq=False)
class _Reading:
    """One order in which the windows of a submission can be read."""

    overlap: np.ndarray
    """``(Q, P, G)`` intersection over union."""
    hull: np.ndarray
    """``(Q, P, G)`` intersection over hull."""
    countable: np.ndarray
    """``(Q, P)``: what may match."""
    for_precision: bool = True
    for_recall: bool = True

    def precision(self, truth_valid: np.ndarray) -> np.ndarray:
        return average_precision(self.overlap, self.countable, truth_valid, AP_THRESHOLDS)

    def best_so_far(self, truth_valid: np.ndarray) -> np.ndarray:
        """Return the best IoU of the first windows up to each place, ``(Q, P)`` with at least one place."""
        best = best_iou(self.overlap, self.hull, truth_valid)
        return np.maximum.accumulate(best, axis=1) if best.shape[1] else np.zeros((len(best), 1))


def _readings(submission: Submission, truth: GroundTruth, legacy: bool) -> Iterator[_Reading]:
    """Yield the order that counts; several where the list is not sorted by score."""
    assert submission.windows is not None

    def read(listed: np.ndarray, valid: np.ndarray, **use: bool) -> _Reading:
        windows = listed[:, :, :2]
        countable = valid if legacy else valid & ~find_repeats(windows, valid)
        return _Reading(iou(windows, truth.windows), hull_iou(windows, truth.windows), countable, **use)

    counts = submission.window_counts
    listed, valid = pack(submission.windows, counts, MAX_WINDOWS)
    if not submission.unsorted:
        yield read(listed, valid)
    elif legacy:  # R1 as listed; AP the ten first listed, by score
        order = np.argsort(np.where(valid, -listed[:, :, 2], np.inf), axis=1, kind="stable")
        yield read(listed, valid, for_precision=False)
        yield read(np.take_along_axis(listed, order[:, :, None], 1), valid, for_recall=False)
    else:
        order = np.lexsort((-submission.windows[:, 2], np.repeat(np.arange(len(counts)), counts)))
        yield read(listed, valid)
        yield read(*pack(submission.windows[order], counts, MAX_WINDOWS))


def _level_columns(submission: Submission, truth: GroundTruth, legacy: bool) -> Columns:
    """Return QVHighlights' HL-mAP and HL-Hit1 of every query for every level."""
    assert submission.saliency is not None
    scores, valid = pack(submission.saliency, submission.saliency_counts)
    labelled = truth.clips_valid
    padded = np.zeros_like(labelled, dtype=float)  # the official fill of missing clips
    common = min(scores.shape[1], labelled.shape[1])
    padded[:, :common] = np.where(valid[:, :common], scores[:, :common], 0.0)
    counts = np.where(submission.constant & (not legacy), 0.0, 1.0)
    saliency = truth.saliency()
    tree: Columns = {}
    for name, level in truth.rules.levels.items():
        labels = (saliency >= level) & labelled[..., None]
        precision = highlights.average_precision(padded, labels, labelled).mean(1)
        hits = highlights.hit_at_1(scores, valid, labels)
        tree[f"HL-min-{name}"] = {"HL-mAP": counts * precision, "HL-Hit1": counts * hits}
    return tree


def _domain_columns(submission: Submission, truth: GroundTruth, legacy: bool) -> Columns:
    """Return, for every domain, the value of each of its videos.

    Where nothing can be found the original script counts 0, and so does strict scoring; Lighthouse, like `--legacy`,
    leaves the video out.
    """
    assert submission.saliency is not None
    metric = highlights.DOMAIN_METRICS[truth.rules.domain_metric or ""]
    lists = np.split(submission.saliency, np.cumsum(submission.saliency_counts)[:-1])
    labels = [np.array(annotation.clip_labels) for annotation in truth.annotations]
    values = np.array([metric(*pair) for pair in zip(lists, labels, strict=True)])
    if not legacy:
        values = np.where(submission.constant | np.isnan(values), 0.0, values)
    domains = np.array([annotation.domain for annotation in truth.annotations])
    return {str(name): _only(domains == name, values) for name in np.unique(domains)}


def _count(truth: GroundTruth, domain: str) -> int:
    return sum(annotation.domain == domain for annotation in truth.annotations)


def _find(tree: Columns, key: str) -> Any:
    """Return the leaf of a headline key: ``MR-full-R1@0.5``, ``MR-long-mAP``, ``HL-min-Good-Hit1``."""
    name, _, threshold = key.partition("@")
    part, _, metric = name.rpartition("-")
    kind, _, group = part.partition("-")
    found = tree[group if kind == "MR" else part][f"{kind}-{metric}"]
    return found[threshold or "average"] if isinstance(found, dict) else found


def _only(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return ``(Q,)`` values with NaN for the queries that do not count."""
    return np.where(counts, values, np.nan)


def _map(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return the tree with `function` applied to every leaf."""
    return {k: _map(v, function) for k, v in tree.items()} if isinstance(tree, dict) else function(tree)


def _percent(value: float) -> float | None:
    """Round as the official script prints: two decimals of the binary value; None for the mean of nothing."""
    return None if np.isnan(value) else float(f"{value:.2f}")


def _fraction(value: float) -> float | None:
    """Round to five decimals, ties to even; exact ties such as 0.314375 are not left to the last bit of a sum."""
    return None if np.isnan(value) else float(np.round(round(value, 12), 5))


def _facts(truth: GroundTruth, inclusive: bool) -> dict[str, Any]:
    """Return what a reader needs to compare: how many were scored, and by which comparison."""
    facts: dict[str, Any] = {
        "queries": len(truth.annotations),
        "videos": len({annotation.video_id for annotation in truth.annotations}),
    }
    if truth.rules.ranges:
        facts |= {"operator": ">=" if inclusive else ">"}
    if truth.rules.note:
        facts |= {"note": truth.rules.note}
    return facts
