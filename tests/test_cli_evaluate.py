"""`momentret evaluate`: what goes to stdout, what is refused, what is saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from momentret.metrics import DATASETS

from .helpers import GOLDEN, momentret, write_lines
from .metrics.examples import make_answer, make_query, make_random

Files = tuple[Path, Path]
STRESS = (GOLDEN / "qvhighlights_eval_synthetic_preds.jsonl", GOLDEN / "qvhighlights_eval_synthetic_gt.jsonl")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A clean submission and its ground truth."""
    truth, answers = make_random(3, queries=20)
    return write_lines(tmp_path / "preds.jsonl", answers), write_lines(tmp_path / "truth.jsonl", truth)


def evaluate_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert momentret("evaluate", *arguments, "--json") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_json_is_the_official_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("evaluate", *STRESS, "--json", "--legacy") == 0
    captured = capsys.readouterr()
    expected = json.loads((GOLDEN / "qvhighlights_eval_synthetic_metrics.json").read_text())
    assert json.dumps(json.loads(captured.out)) == json.dumps(expected)
    assert "warning: unsorted_scores, 17 queries: " in captured.err


def test_the_stress_set_is_refused_in_strict_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("evaluate", *STRESS) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "28 problems, nothing scored: line 5, query 1004: 69 saliency scores for 74 clips" in captured.err


def test_the_table_shows_the_blind_baseline_and_the_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_lines(tmp_path / "truth.jsonl", [make_query(1, [[0, 20]])])
    answers = write_lines(tmp_path / "preds.jsonl", [make_answer(1, [[0, 20, 0.9], [0, 20, 0.8]])])
    assert momentret("evaluate", answers, truth) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "qvhighlights: 1 query, strict scoring"
    assert any("MR-full-R1@0.5" in line and line.count("100.00") == 2 for line in lines)
    assert lines[-1].startswith("warning: repeated_windows, 1 query: a window comes again")


def test_swapped_files_are_told_apart(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    answers, truth = files
    assert momentret("evaluate", truth, answers) == 1
    assert "preds.jsonl holds predictions, and ground truth was expected; predictions come" in capsys.readouterr().err


def test_the_table_says_what_the_blind_baseline_was_fitted_on(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert momentret("evaluate", *files) == 0
    assert "blind: fitted on the evaluated windows themselves" in capsys.readouterr().out
    train = write_lines(tmp_path / "train.jsonl", [make_query(1, [[0, 20]])])
    assert momentret("evaluate", *files, "--train", train) == 0
    assert f"blind: fitted on {train}" in capsys.readouterr().out


def test_the_baseline_can_be_fitted_on_other_annotations(files: Files, tmp_path: Path) -> None:
    train = write_lines(tmp_path / "train.jsonl", [make_query(i, [[58, 60]]) for i in range(5)])
    outputs = []
    for name, options in (("own", ()), ("train", ("--train", train))):
        assert momentret("evaluate", *files, "--output", tmp_path / name, *options) == 0
        outputs.append(json.loads((tmp_path / name).read_text())["baseline"]["MR-full-R1@0.5"])
    assert outputs[1] < outputs[0]


def test_intervals_hold_the_value_and_p_values_tell_submissions_apart(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = [json.loads(line) for line in files[0].read_text().splitlines()]
    for row in poor:
        row["pred_relevant_windows"] = [[0.0, 2.0, 0.5]]
    other = write_lines(tmp_path / "poor.jsonl", poor)
    report = evaluate_json(capsys, *files, "--bootstrap", 500, "--compare", other)
    for name, (low, high) in report["bootstrap"].items():
        assert low <= report["brief"][name] <= high
    assert report["comparison"]["MR-full-mAP"]["p"] < 0.01 < report["comparison"]["HL-min-Fair-mAP"]["p"]
    assert momentret("evaluate", *files, "--compare", other) == 0
    assert "difference" in capsys.readouterr().out


def test_the_record_is_saved_and_not_overwritten(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.json"
    report = evaluate_json(capsys, *files, "--output", target)
    saved = json.loads(target.read_text())
    assert report.items() <= saved.items()
    assert set(saved) - set(report) == {"legacy", "warnings", "baseline"}
    assert momentret("evaluate", *files, "--output", target) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert momentret("evaluate", *files, "--output", target, "--overwrite") == 0


def test_a_malformed_line_is_named_by_number(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    lines = files[0].read_text().splitlines()
    files[0].write_text("\n".join([*lines[:2], lines[2][:-5], *lines[3:]]))
    assert momentret("evaluate", *files) == 1
    assert "preds.jsonl, line 3: not valid JSON" in capsys.readouterr().err


def test_a_file_without_predictions_is_one_problem(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    files[0].write_text("\n")
    assert momentret("evaluate", *files) == 1
    error = capsys.readouterr().err
    assert error.endswith("preds.jsonl: no predictions; expected one a query, 20 in all\n")
    assert "problem" not in error


def test_a_missing_file_is_one_line(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("evaluate", tmp_path / "absent.jsonl", files[1]) == 1
    assert "absent.jsonl: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--dataset", "qvhighlight"], "did you mean 'qvhighlights'"), (["--operator", "=>"], "neither '>=' nor '>'")],
)
def test_wrong_options_are_usage_errors(
    files: Files, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert momentret("evaluate", *files, *options) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_every_dataset_is_scored_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DATASETS
    labels = {
        "tvsum": {"label": [[1.0] * 20, [3.0] * 20] * 15, "domain": "BK", "duration": 30},
        "youtube_highlights": {"label": [[0], [1]] * 15, "domain": "dog", "match": [-1, 1] * 15, "frames": 1800.0},
    }
    for dataset in DATASETS:
        query = make_query(1, [[0, 20]])
        if dataset in labels:
            clips = [[60 * i, 60 * i + 60] for i in range(30)]
            hidden = {"relevant_windows": None, "relevant_clip_ids": None, "clip": clips, "fps": 30.0}
            query = {k: v for k, v in query.items() if k != "saliency_scores"} | hidden | labels[dataset]
        truth = write_lines(tmp_path / f"{dataset}.jsonl", [query])
        answer = make_answer(1, [[0, 20, 0.9]], [float(clip) for clip in range(30)])
        report = evaluate_json(capsys, write_lines(tmp_path / "p.jsonl", [answer]), truth, "--dataset", dataset)
        assert all(value is None or 0 <= value <= 100 for value in report["brief"].values())
        assert report["brief"]


def test_the_verb_needs_no_heavy_library(files: Files) -> None:
    heavy = ["torch", "lightning", "pandas", "scipy", "matplotlib"]
    code = (
        f"import sys; from momentret import cli; status = cli.run(['evaluate', {str(files[0])!r}, {str(files[1])!r}]); "
        f"print(status, [m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
