"""The whole report against reference values, and what strict scoring does where it differs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from momentret import Moment, Prediction
from momentret.errors import AnnotationError, PredictionError
from momentret.metrics import DATASETS, evaluate

from ..helpers import GOLDEN, SHARED
from .examples import (
    QVHIGHLIGHTS_VAL,
    SAMPLE,
    make_answer,
    make_query,
    make_random,
    make_truth,
    read_rows,
    score_rows,
    to_annotation,
)

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="real annotations are not bundled")


def synthetic(kind: str) -> list[dict[str, Any]]:
    return read_rows(GOLDEN / f"qvhighlights_eval_synthetic_{kind}.jsonl")


def test_legacy_equals_the_official_script_on_the_stress_set() -> None:
    # Source: qvhighlights_eval_synthetic_metrics.json, the official script's output. Tolerance: none, no digit differs.
    expected = json.loads((GOLDEN / "qvhighlights_eval_synthetic_metrics.json").read_text())
    report = score_rows(synthetic("preds"), make_truth(synthetic("gt")), legacy=True).report
    assert json.dumps(report) == json.dumps(expected)


@needs_shared
@pytest.mark.parametrize("legacy", [False, True])
def test_both_modes_equal_the_official_script_on_a_real_submission(legacy: bool) -> None:
    # Source: the official repository's sample submission and its published metrics. Tolerance: none.
    expected = json.loads((SHARED / "golden" / "qvhighlights_sample_val_preds_metrics.json").read_text())
    report = score_rows(read_rows(SAMPLE), make_truth(read_rows(QVHIGHLIGHTS_VAL)), legacy=legacy).report
    assert json.dumps(report) == json.dumps(expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_grounding_recall_equals_its_golden(legacy: bool) -> None:
    # Source: grounding_recall_synthetic.json, made with a public grounding evaluator. Tolerance: none.
    golden = json.loads((GOLDEN / "grounding_recall_synthetic.json").read_text())
    full = score_rows(golden["predictions"], make_truth(golden["ground_truth"], "charades_sta"), legacy=legacy).report
    for part in ("R1", "R5", "mIoU"):
        assert full["full"][f"MR-{part}"] == golden["expected"][part]


@needs_shared
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("tvsum", "tvsum_hl_eval"),
        ("tvsum", "tvsum_hl_eval_train"),
        ("youtube_highlights", "youtube_highlights_hl_eval"),
    ],
)
def test_domain_metrics_equal_their_goldens(dataset: str, name: str) -> None:
    # Source: <name>.json, made with the public evaluators; some lists are 2 shorter or 3 longer than the labels.
    golden = json.loads((SHARED / "golden" / f"{name}.json").read_text())
    rows = [row for row in read_rows(SHARED / golden["annotation_file"]) if row["vid"] in golden["scores"]]
    answers = [{"qid": row["qid"], "pred_saliency_scores": golden["scores"][row["vid"]]} for row in rows]
    report = score_rows(answers, make_truth(rows, dataset), legacy=True).report
    for domain, expected in golden["expected"].items():
        assert report[domain] == {"mAP": expected["mAP"], "videos": expected["n_videos"]}
    mean = sum(expected["mAP"] for expected in golden["expected"].values()) / len(golden["expected"])
    assert report["brief"]["mAP"] == round(100 * mean, 2)


@needs_shared
@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        ("qvhighlights", "qvhighlights/highlight_val_release.jsonl"),
        ("charades_sta", "charades_sta/charades_test_release.jsonl"),
        ("activitynet", "activitynet/activitynet_val_release.jsonl"),
        ("tacos", "tacos/tacos_test_release.jsonl"),
    ],
)
def test_the_perfect_submission_is_legal_and_scores_100(dataset: str, path: str) -> None:
    rows = read_rows(SHARED / "annotations" / path)
    for row in rows:
        row["relevant_windows"] = [[start, min(end, row["duration"])] for start, end in row["relevant_windows"]]
    answers = [make_answer(row["qid"], [[*w, 0.5] for w in row["relevant_windows"][:10]]) for row in rows]
    brief = score_rows(answers, make_truth(rows, dataset)).report["brief"]
    assert brief["MR-full-R1@0.7"] == 100.0
    assert brief["MR-full-mAP"] > 99.0  # ten windows cannot find up to 25 true ones


@pytest.mark.parametrize("seed", range(5))
def test_strict_equals_legacy_on_clean_submissions(seed: int) -> None:
    truth, answers = make_random(seed)
    strict, legacy = (score_rows(answers, make_truth(truth), legacy=mode) for mode in (False, True))
    assert strict.report == legacy.report
    assert strict.warnings == {}


def test_the_order_of_rows_does_not_matter() -> None:
    truth, answers = make_random(0)
    assert score_rows(answers[::-1], make_truth(truth)).report == score_rows(answers, make_truth(truth)).report


def test_an_unsorted_list_gets_the_worse_of_both_readings() -> None:
    truth = make_truth([make_query(1, [[0, 20]])])
    listed_first = [make_answer(1, [[0, 20, 0.1], [30, 50, 0.9]])]
    scored_first = [make_answer(1, [[30, 50, 0.1], [0, 20, 0.9]])]
    assert score_rows(listed_first, truth, legacy=True).report["brief"]["MR-full-R1@0.5"] == 100.0
    assert score_rows(scored_first, truth, legacy=True).report["brief"]["MR-full-mAP"] == 100.0
    for answers in (listed_first, scored_first):
        brief = score_rows(answers, truth).report["brief"]
        assert (brief["MR-full-R1@0.5"], brief["MR-full-mAP"]) == (0.0, 50.0)


def test_a_repeated_window_cannot_match_twice() -> None:
    truth = make_truth([make_query(1, [[0, 20], [20, 40]])])
    once, twice = [make_answer(1, [[0, 40, 0.9]])], [make_answer(1, [[0, 40, 0.9], [0, 40, 0.8]])]
    gain = [score_rows(rows, truth, legacy=True).report["brief"]["MR-full-mAP@0.5"] for rows in (once, twice)]
    assert gain == [50.0, 100.0]
    assert score_rows(twice, truth).report["brief"]["MR-full-mAP@0.5"] == 50.0


def test_an_empty_list_counts_0_and_an_unreached_range_is_none() -> None:
    truth = make_truth([make_query(1, [[0, 20]]), make_query(2, [[0, 20]])])
    result = score_rows([make_answer(1, [[0, 20, 0.9]]), make_answer(2, [])], truth)
    brief = result.report["brief"]
    assert (brief["MR-full-R1@0.5"], brief["MR-full-mAP"], brief["MR-long-mAP"]) == (50.0, 50.0, None)
    assert result.warnings == {"no_windows": 1}
    nothing = score_rows([make_answer(1, []), make_answer(2, [])], truth).report["brief"]
    assert (nothing["MR-full-R1@0.5"], nothing["MR-full-mAP"]) == (0.0, 0.0)


def test_constant_saliency_counts_0() -> None:
    truth = make_truth([make_query(1, [[0, 20]])])
    rows = [make_answer(1, [[0, 20, 0.9]], [0.0] * 30)]
    assert score_rows(rows, truth, legacy=True).report["HL-min-Fair"] == {"HL-mAP": 33.33, "HL-Hit1": 100.0}
    assert score_rows(rows, truth).report["HL-min-Fair"] == {"HL-mAP": 0.0, "HL-Hit1": 0.0}


def test_the_half_that_was_not_submitted_is_left_out() -> None:
    truth = make_truth([make_query(1, [[0, 20]])])
    assert "HL-min-Fair" not in score_rows([make_answer(1, [[0, 20, 0.9]])], truth).report
    assert "full" not in score_rows([{"qid": 1, "pred_saliency_scores": [*range(30)]}], truth).report


def test_the_operator_decides_about_equality() -> None:
    truth = make_truth([make_query(1, [[0, 20]])], "charades_sta")
    reports = [score_rows([make_answer(1, [[0, 10, 0.9]])], truth, inclusive=flag).report for flag in (True, False)]
    assert [report["brief"]["MR-full-R1@0.5"] for report in reports] == [100.0, 0.0]
    assert [report["data"]["operator"] for report in reports] == [">=", ">"]


def test_predictions_in_memory_score_like_rows() -> None:
    truth, answers = make_random(1)
    predictions = [Prediction.from_row(row) for row in answers]
    report = evaluate(predictions, [to_annotation(row) for row in truth])
    assert report == score_rows(answers, make_truth(truth)).report


def test_predictions_in_memory_are_checked_by_name() -> None:
    far = Prediction(1, "v1", "query 1", (Moment(900.0, 950.0, 0.5),))
    with pytest.raises(PredictionError, match=r"1 problem, .*prediction 1, query 1: .*outside the 60 s video"):
        evaluate([far], [to_annotation(make_query(1, [[0, 20]]))])
    with pytest.raises(ValueError, match="did you mean 'qvhighlights'"):
        evaluate([far], [to_annotation(make_query(1, [[0, 20]]))], "qvhighlight")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no queries"),
        ([make_query(1, [[0, 20]])] * 2, "comes twice"),
        ([{**make_query(1, [[0, 20]]), "relevant_windows": []}], "hidden"),
        ([{**make_query(1, [[0, 2]]), "relevant_clip_ids": [99]}], "outside its 30 clips"),
        ([{**make_query(1, [[0, 4]]), "saliency_scores": [[4, 4], [4]]}], "different numbers of annotators"),
    ],
)
def test_ground_truth_that_cannot_be_scored_is_refused(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        make_truth(rows)


def test_every_brief_key_of_every_dataset_is_in_its_report() -> None:
    assert DATASETS
    for dataset, rules in DATASETS.items():
        query = {**make_query(1, [[0, 20]]), "label": [[1], [2]] * 15, "domain": "dog"}
        answer = make_answer(1, [[0, 20, 0.9]], [float(clip) for clip in range(30)])
        report = score_rows([answer], make_truth([query], dataset)).report
        assert report["brief"]
        assert set(rules.brief) <= set(report["brief"])


def test_scoring_needs_no_heavy_library() -> None:
    heavy = ["torch", "lightning", "pandas", "scipy", "sklearn"]
    code = f"import momentret.metrics, sys; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
