from __future__ import annotations

import copy

import numpy as np

from momentret.metrics import score
from momentret.metrics.baseline import answer_blindly, fit_fractions

from .examples import make_query, make_random, make_truth


def test_the_first_window_is_where_most_true_windows_lie() -> None:
    rows = [make_query(i, [[30, 60]]) for i in range(3)] + [make_query(9, [[0, 6]])]
    assert fit_fractions(make_truth(rows))[0].tolist() == [0.5, 1.0]


def test_each_further_window_adds_what_is_still_missed() -> None:
    rows = [make_query(i, [[30, 60]]) for i in range(3)] + [make_query(9, [[0, 6]])]
    fractions = fit_fractions(make_truth(rows))
    assert fractions[1].tolist() == [0.0, 0.1]
    assert len({tuple(window) for window in fractions.tolist()}) == 10


def test_every_query_gets_the_same_fractions_of_its_duration() -> None:
    truth = make_truth([make_query(1, [[0, 20]], 60), make_query(2, [[0, 20]], 120)])
    blind = answer_blindly(truth, np.array([[0.0, 0.5], [0.5, 1.0]]))
    assert blind.windows is not None
    assert blind.windows.tolist() == [[0, 30, 0], [30, 60, -1], [0, 60, 0], [60, 120, -1]]
    assert blind.saliency_counts.tolist() == [30, 60]


def test_it_sees_no_video_and_no_text() -> None:
    rows, _ = make_random(0)
    renamed = copy.deepcopy(rows)
    for row in renamed:
        row |= {"query": "", "vid": "same"}
    np.testing.assert_array_equal(fit_fractions(make_truth(rows)), fit_fractions(make_truth(renamed)))


def test_its_saliency_scores_chance() -> None:
    truth = make_truth([make_query(1, [[30, 60]])])
    report = score(answer_blindly(truth, None), truth, legacy=True).report
    assert report["HL-min-Fair"] == {"HL-mAP": 50.0, "HL-Hit1": 0.0}
