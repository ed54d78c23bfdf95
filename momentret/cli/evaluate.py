"""`momentret evaluate`: a submission and the ground truth -> the report of record."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from momentret.cli.console import print_json, print_table, progress_bar
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.metrics import Evaluation, GroundTruth

__all__ = ["evaluate"]

ROUNDS = 10_000
"""Of `--compare` where `--bootstrap` does not say."""


def evaluate(
    predictions: Path = typer.Argument(..., help="JSON lines in the QVHighlights submission format."),
    ground_truth: Path = typer.Argument(..., help="The annotation file, as downloaded."),
    dataset: str = typer.Option(
        "qvhighlights", help="qvhighlights, charades_sta, activitynet, tacos, tvsum or youtube_highlights."
    ),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="Print only the JSON object: the official structure, plus what --bootstrap and --compare add.",
    ),
    legacy: bool = typer.Option(
        False,
        "--legacy",
        help="The official scripts' arithmetic. It can be exploited: an unsorted list answers R1 with its first window "
        "and mAP with its best-scored one, repeats can match twice, missing saliency counts 0.0, a constant one hits.",
    ),
    bootstrap: int = typer.Option(0, min=0, help="Give 95 % intervals from this many resamplings of the queries."),
    compare: Path | None = typer.Option(
        None, help="Another submission: two-sided paired bootstrap p-values, 10000 resamplings unless --bootstrap says."
    ),
    train: Path | None = typer.Option(
        None,
        help="Annotations to fit the blind baseline on; without it the evaluated ones are used, an optimistic bound.",
    ),
    operator: str = typer.Option(">=", help="How recall compares IoU with the threshold: '>=', or '>' as 2D-TAN."),
    durations: list[Path] = typer.Option(
        [], help="Video durations, where the annotation file has none (Charades-STA text)."
    ),
    subset: str = typer.Option(
        "full", help="full, or inside: Charades-STA text without windows that end after the video."
    ),
    seed: int = typer.Option(0, min=0, help="Of the resampling."),
    output: Path | None = typer.Option(None, help="Also save the report, the warnings and the baseline as JSON."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Let --output replace a file."),
) -> None:
    """Score predictions against the ground truth, strictly: what is wrong with the file is named and refused.

    The table shows a blind baseline beside each metric: the same ten windows for every query, fitted on where true
    windows lie; it never sees a video or a text.
    """
    from momentret.datasets import read_annotations
    from momentret.errors import AnnotationError
    from momentret.files import refuse_existing, write_json
    from momentret.metrics import GroundTruth, find_rules
    from momentret.metrics.baseline import score_blindly

    if operator not in (">=", ">"):
        raise typer.BadParameter(f"{operator!r} is neither '>=' nor '>'", param_hint="--operator")
    try:
        rules = find_rules(dataset)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--dataset") from error
    if output is not None:
        refuse_existing(output, overwrite)

    def read(path: Path) -> GroundTruth:
        try:
            return GroundTruth.of(read_annotations(path, dataset, durations, subset), rules)
        except AnnotationError as error:
            if not _holds_predictions(path):
                raise
            raise AnnotationError(
                f"{path} holds predictions, and ground truth was expected; predictions come first: "
                "momentret evaluate PREDICTIONS GROUND_TRUTH"
            ) from error

    switches = {"legacy": legacy, "inclusive": operator == ">="}
    truth = read(ground_truth)
    ours = _score_file(predictions, truth, **switches)
    other = _score_file(compare, truth, **switches) if compare else None
    record = dict(ours.report)
    record |= _resampled(ours, other, bootstrap or (ROUNDS if compare else 0), seed)
    baseline = None
    if output is not None or not as_json:
        baseline = score_blindly(truth, read(train) if train else truth, inclusive=switches["inclusive"])
    if output is not None:
        extra = {"legacy": legacy, "warnings": dict(ours.warnings), "baseline": baseline}
        write_json(output, record | extra)
    if as_json:
        print_json(record)
    else:
        typer.echo(
            f"{dataset}: {count_of(len(truth.annotations), 'query')}, {'legacy' if legacy else 'strict'} scoring"
        )
        _print_table(record, baseline or {})
        if train is None:
            typer.echo(
                "blind: fitted on the evaluated windows themselves, an optimistic bound; --train fits it elsewhere"
            )
        else:
            typer.echo(f"blind: fitted on {train}")
    stream = sys.stderr if as_json else sys.stdout
    _report_warnings(ours, legacy, "", stream)
    if other is not None:
        _report_warnings(other, legacy, " (other)", stream)


def _holds_predictions(path: Path) -> bool:
    """Return whether the first line of a file is that of a submission."""
    from momentret.errors import DataError
    from momentret.files import json_rows

    try:
        return any(key.startswith("pred_") for _, row in islice(json_rows(path), 1) for key in row)
    except DataError:
        return False


def _score_file(path: Path, truth: GroundTruth, *, legacy: bool, inclusive: bool) -> Evaluation:
    from momentret.errors import PredictionError
    from momentret.files import json_rows
    from momentret.metrics import check_submission, score

    rows = list(json_rows(path, PredictionError))
    submission = check_submission(rows, truth, legacy=legacy, source=str(path))
    return score(submission, truth, legacy=legacy, inclusive=inclusive)


def _resampled(ours: Evaluation, other: Evaluation | None, rounds: int, seed: int) -> dict[str, Any]:
    """Return the ``bootstrap`` and ``comparison`` entries of the report."""
    if not rounds:
        return {}
    from momentret.metrics.bootstrap import intervals, p_values, resample

    samples = resample(ours.headline, rounds, seed=seed, progress=progress_bar)
    result: dict[str, Any] = {"bootstrap": intervals(samples)}
    if other is not None:
        p = p_values(samples, resample(other.headline, rounds, seed=seed, progress=progress_bar))
        values = other.report["brief"]
        result["comparison"] = {name: {"other": values[name], "p": round(p[name], 6)} for name in p}
    return result


def _print_table(record: dict[str, Any], baseline: dict[str, float | None]) -> None:
    """Print the headline metrics, and what a reader must know to compare them."""
    columns = ["metric", "value", "blind"]
    columns += ["95 % interval"] if "bootstrap" in record else []
    columns += ["other", "difference", "p"] if "comparison" in record else []
    print_table("", columns, [_table_row(name, record, baseline) for name in record["brief"]])
    if note := record.get("data", {}).get("note"):
        typer.echo(note)


def _table_row(name: str, record: dict[str, Any], baseline: dict[str, float | None]) -> list[str]:
    value = record["brief"][name]
    row = [name, _number(value), _number(baseline.get(name))]
    if "bootstrap" in record:
        low, high = record["bootstrap"][name]
        row.append(f"{_number(low)} – {_number(high)}")
    if "comparison" in record:
        versus = record["comparison"].get(name, {})
        there = versus.get("other")
        gap = None if value is None or there is None else value - there
        row += [_number(there), _number(gap, "+.2f"), _number(versus.get("p"), ".4f")]
    return row


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def _report_warnings(evaluation: Evaluation, legacy: bool, whose: str, stream: TextIO) -> None:
    """Write one line for each warning."""
    from momentret.metrics.submission import WARNINGS

    for name, count in evaluation.warnings.items():
        treatment = f"{WARNINGS[name].split(':')[0]}: scored as the official script does" if legacy else WARNINGS[name]
        stream.write(f"warning{whose}: {name}, {count_of(count, 'query')}: {treatment}\n")
