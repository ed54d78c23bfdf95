"""What is refused, in which words; what is accepted with which warning."""

from __future__ import annotations

from typing import Any

import pytest

from momentret.errors import PredictionError
from momentret.metrics import check_submission
from momentret.metrics.submission import WARNINGS

from .examples import Row, make_answer, make_query, make_truth

NAN, INF = float("nan"), float("inf")
TRUTH = [make_query(1, [[0, 20]]), make_query(2, [[10, 30]])]
CLEAN = [
    make_answer(1, [[0.0, 20.0, 0.9], [20.0, 40.0, 0.5]], [float(clip % 7) for clip in range(30)]),
    make_answer(2, [[0.0, 20.0, 0.9], [20.0, 40.0, 0.5]], [float(clip % 7) for clip in range(30)]),
]


def with_first(**changes: Any) -> list[Row]:
    return [{**CLEAN[0], **changes}, CLEAN[1]]


def refusal(rows: list[Row], dataset: str = "qvhighlights", *, legacy: bool = False) -> str:
    with pytest.raises(PredictionError) as caught:
        check_submission(list(enumerate(rows, start=1)), make_truth(TRUTH, dataset), legacy=legacy, source="p.jsonl")
    return str(caught.value)


def warnings(rows: list[Row], dataset: str = "qvhighlights", *, legacy: bool = False) -> dict[str, int]:
    numbered = list(enumerate(rows, start=1))
    return dict(check_submission(numbered, make_truth(TRUTH, dataset), legacy=legacy).warnings)


def test_clean_rows_have_no_warnings() -> None:
    assert warnings(CLEAN) == {}


BAD_WINDOWS = [
    ([[NAN, 20.0, 0.9]], "not finite"),
    ([[0.0, INF, 0.9]], "not finite"),
    ([[INF, INF, 0.9]], "not finite"),
    ([[0.0, 20.0, NAN]], "not finite"),
    ([[20.0, 10.0, 0.9]], "ends before it starts"),
    ([[-2.0, 20.0, 0.9]], "outside the 60 s video"),
    ([[0.0, 152.0, 0.9]], "outside the 60 s video"),
    ([[2000.0, 20000.0, 0.9]], "are these milliseconds"),
    ([[0.0, 0.5, 0.9], [0.3, 1.0, 0.4]], "fractions of the duration"),
    ([[0.0, 1.0, 0.9]], "fractions of the duration"),
    ([[0.0, 20.0]], "not of the form"),
    ([["0", "20", "0.9"]], "not of the form"),
    ([[False, True, True]], "not of the form"),
    ([[0.0, 10**400, 0.9]], "not of the form"),
    ([0.0, 20.0, 0.9], "not of the form"),
    ("[[0, 20, 0.9]]", "not of the form"),
    ({"0": [0, 20, 0.9]}, "not of the form"),
    (None, "not of the form"),
]


@pytest.mark.parametrize(("windows", "message"), BAD_WINDOWS)
def test_bad_windows_are_refused_by_line_and_query(windows: Any, message: str) -> None:
    text = refusal(with_first(pred_relevant_windows=windows))
    assert text.startswith("p.jsonl: 1 problem, nothing scored: line 1, query 1: ")
    assert message in text


@pytest.mark.parametrize(
    ("saliency", "message"),
    [
        ([NAN] + [0.0] * 29, "saliency nan is not finite"),
        ([INF] * 30, "not finite"),
        ([0.5, 0.4] * 14, "28 saliency scores for 30 clips"),
        ([0.5] * 33, "33 saliency scores for 30 clips"),
        ([], "0 saliency scores"),
        ([[0.5]] * 30, "not of the form"),
        (["0.5"] * 30, "not of the form"),
        (None, "not of the form"),
    ],
)
def test_bad_saliency_is_refused(saliency: Any, message: str) -> None:
    assert message in refusal(with_first(pred_saliency_scores=saliency))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*CLEAN, CLEAN[0]], "line 3, query 1: was answered before, in line 1"),
        ([*CLEAN, {**CLEAN[0], "qid": "1"}], "line 3, query '1': was answered before"),
        (CLEAN[:1], "query 2: has no prediction"),
        ([*CLEAN, {**CLEAN[0], "qid": 3}], "query 3: is not in the ground truth"),
        (with_first(qid=1.0), "key 'qid' is missing or is no integer"),
        (with_first(qid=True), "key 'qid' is missing or is no integer"),
        (with_first(qid=[1]), "key 'qid' is missing or is no integer"),
        ([{k: v for k, v in CLEAN[0].items() if k != "pred_saliency_scores"}, CLEAN[1]], "is missing, other rows have"),
        (
            [CLEAN[0], {k: v for k, v in CLEAN[1].items() if k != "pred_relevant_windows"}],
            "is missing, other rows have",
        ),
        ([{"qid": 1}, {"qid": 2}], "no row has anything"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_rows_that_do_not_answer_each_query_once_are_refused(rows: list[Row], message: str, legacy: bool) -> None:
    assert message in refusal(rows, legacy=legacy)


def test_all_problems_are_counted_and_the_first_are_named() -> None:
    windows = [[20.0, 10.0, 0.9], [NAN, 1.0, 0.5], [0.0, 999.0, 0.4]]
    rows = [make_answer(i, windows, [NAN]) for i in (1, 2)]
    text = refusal(rows)
    assert "10 problems" in text
    assert text.count("line 1, query 1") == 5
    assert text.endswith("and 5 more")
    assert "\n" not in text


def test_a_hostile_name_stays_short_and_on_one_line() -> None:
    text = refusal([*CLEAN, {**CLEAN[0], "qid": "\x1b[2J\n" + "x" * 10_000}])
    assert len(text) < 300
    assert "\n" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"pred_relevant_windows": []}, "no_windows"),
        ({"pred_relevant_windows": [[0.0, 20.0, 0.1], [20.0, 40.0, 0.5]]}, "unsorted_scores"),
        ({"pred_relevant_windows": [[0.0, 20.0, 0.5], [20.0, 40.0, 0.5]]}, "equal_scores"),
        ({"pred_relevant_windows": [[0.0, 20.0, 0.9], [2.0, 40.0, 0.7], [0.0, 20.0, 0.5]]}, "repeated_windows"),
        ({"pred_relevant_windows": [[20.0, 20.0, 0.5]]}, "zero_width"),
        ({"pred_relevant_windows": [[0.0, 150.0, 0.5]]}, "outside_video"),
        ({"pred_relevant_windows": [[0.0, 2.0 + i, 1.0 / (i + 1)] for i in range(11)]}, "more_than_10_windows"),
        ({"pred_saliency_scores": [0.5, 0.4, 0.3] * 9 + [0.2, 0.1]}, "short_saliency"),
        ({"pred_saliency_scores": [0.5, 0.4] * 16}, "long_saliency"),
        ({"pred_saliency_scores": [0.5] * 30}, "constant_saliency"),
        ({"vid": "another"}, "other_video"),
    ],
)
def test_legal_oddities_are_warnings_with_counts(changes: Row, name: str) -> None:
    assert warnings(with_first(**changes)) == {name: 1}
    assert name in WARNINGS


def test_the_first_second_is_legal_where_true_windows_lie_there() -> None:
    queries = [make_query(i, [[0.0, 0.6]]) for i in range(5)]
    truth = make_truth(queries, "activitynet")
    answers = [make_answer(0, [[0.0, 0.6, 0.9]]), *(make_answer(i, [[0.0, 20.0, 0.9]]) for i in range(1, 5))]
    assert check_submission(list(enumerate(answers)), truth).warnings == {"first_second": 1}
    fractions = [make_answer(i, [[0.2, 0.6, 0.9]]) for i in range(5)]
    with pytest.raises(PredictionError, match=r"5 problems, .*fractions of the duration"):
        check_submission(list(enumerate(fractions)), truth)


def test_every_warning_is_tested_above() -> None:
    mark = next(m for m in test_legal_oddities_are_warnings_with_counts.pytestmark if m.name == "parametrize")
    assert {name for _, name in mark.args[1]} | {"first_second"} == set(WARNINGS)


def test_legacy_accepts_what_the_official_script_scores_by_rule() -> None:
    for windows in ([[-2.0, 500.0, 0.9]], [[0.0, 0.5, 0.9]]):
        assert set(warnings(with_first(pred_relevant_windows=windows), legacy=True)) <= {"outside_video"}
    assert warnings(with_first(pred_saliency_scores=[0.1, 0.2]), legacy=True) == {"short_saliency": 1}


@pytest.mark.parametrize("windows", [[], [[NAN, 1.0, 0.5]], [[4.0, 2.0, 0.5]], [[0.0, 1e300, 0.5]]])
def test_legacy_refuses_what_has_no_official_score(windows: Any) -> None:
    assert "nothing scored" in refusal(with_first(pred_relevant_windows=windows), legacy=True)


def test_unclamped_windows_are_legal_where_the_reference_does_not_clamp() -> None:
    rows = [make_answer(i, [[-20.0, 80.0, 0.9]]) for i in (1, 2)]
    assert warnings(rows, "tacos") == {"outside_video": 2}
    assert "outside the 60 s video" in refusal(rows, "charades_sta")
    assert "outside the 60 s video" in refusal([make_answer(i, [[-40.0, 80.0, 0.9]]) for i in (1, 2)], "tacos")


def test_one_second_windows_are_seconds_where_clips_last_one() -> None:
    assert warnings([make_answer(i, [[0.0, 1.0, 0.9]]) for i in (1, 2)], "charades_sta") == {}
    assert "fractions" in refusal([make_answer(i, [[0.2, 1.0, 0.9]]) for i in (1, 2)], "charades_sta")


def test_saliency_is_ignored_where_it_is_not_scored() -> None:
    assert warnings([make_answer(i, [[0.0, 20.0, 0.9]], [NAN]) for i in (1, 2)], "tacos") == {}
