from __future__ import annotations

import numpy as np
import pytest

from momentret.metrics.moments import average_precision, best_iou, find_repeats, mean_over_queries, pack, recall_at
from momentret.spans import hull_iou, iou

THRESHOLDS = (0.5, 0.7, 0.95)


def precision(predicted: list[list[float]], truth: list[list[float]]) -> list[float]:
    windows, true = np.array(predicted, float).reshape(1, -1, 2), np.array(truth, float).reshape(1, -1, 2)
    valid = np.ones(windows.shape[:2], bool), np.ones(true.shape[:2], bool)
    return average_precision(iou(windows, true), *valid, THRESHOLDS)[0].tolist()


def test_rows_are_packed_by_query_and_cut() -> None:
    values, valid = pack(np.arange(6), np.array([2, 0, 4]), limit=3)
    assert values.tolist() == [[0, 1, 0], [0, 0, 0], [2, 3, 4]]
    assert valid.tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_average_precision_by_hand() -> None:
    # ranks: hit, miss, hit of two true windows -> 1/2 * 1 + 1/2 * 2/3; at 0.95 only the first hits
    predicted = [[0, 10], [50, 60], [20, 32]]
    assert precision(predicted, [[0, 10], [20, 30]]) == pytest.approx([5 / 6, 5 / 6, 0.5])


def test_a_window_whose_best_match_is_taken_may_take_the_second() -> None:
    assert precision([[0, 10], [0, 12]], [[0, 10], [0, 14]])[0] == 1.0
    assert precision([[0, 10], [0, 10]], [[0, 10], [40, 50]])[0] == 0.5


def test_equal_overlaps_take_the_later_true_window_first() -> None:
    # [0, 20] takes [10, 20], so [10, 20] finds nothing; the other way round both would match.
    assert precision([[0, 20], [10, 20]], [[0, 10], [10, 20]])[0] == 0.5
    assert precision([[0, 20], [0, 10]], [[0, 10], [10, 20]])[0] == 1.0


def test_no_predictions_and_no_truth_have_precision_0() -> None:
    assert precision([], [[0, 10]]) == [0.0, 0.0, 0.0]
    nothing = average_precision(np.zeros((1, 2, 1)), np.ones((1, 2), bool), np.zeros((1, 1), bool), THRESHOLDS)
    assert nothing.tolist() == [[0.0, 0.0, 0.0]]


def plain_average_precision(predicted: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """The definition as loops: visit, take, count, make precision non-increasing, sum over recall."""
    taken: set[int] = set()
    found = [0]
    for window in predicted:
        overlaps = iou(window[None], truth)[0]
        free = [g for g in range(len(truth)) if g not in taken and overlaps[g] >= threshold]
        if free:
            taken.add(max(free, key=lambda g: (overlaps[g], g)))
        found.append(len(taken))
    precisions = [found[k] / k for k in range(1, len(found))]
    steps = [(found[k] - found[k - 1]) / len(truth) for k in range(1, len(found))]
    return sum(step * max(precisions[k:]) for k, step in enumerate(steps))


def test_vectorised_precision_equals_plain_loops() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 9, 40), generator.integers(1, 6, 40)
    flat = [np.sort(generator.integers(0, 15, (n.sum(), 2)), axis=1) + np.array([0.0, 1.0]) for n in counts]
    (windows, valid), (truth, truth_valid) = pack(flat[0], counts[0]), pack(flat[1], counts[1])
    values = average_precision(iou(windows, truth), valid, truth_valid, THRESHOLDS)
    for q in range(40):
        for t, threshold in enumerate(THRESHOLDS):
            plain = plain_average_precision(windows[q][valid[q]], truth[q][truth_valid[q]], threshold)
            assert values[q, t] == pytest.approx(plain, abs=1e-12)


def test_repeats_are_found_after_their_first() -> None:
    windows = np.array([[[0, 2], [4, 6], [0, 2], [0, 2], [0, 0]]], float)
    valid = np.array([[True] * 4 + [False]])
    assert find_repeats(windows, valid).tolist() == [[False, False, True, True, False]]


def test_recall_counts_the_best_of_the_first_windows() -> None:
    overlap = np.array([[0.2, 0.5, 0.9], [0.0, 0.0, 0.0]])
    assert recall_at(overlap, 1, (0.1, 0.5)).tolist() == [[1, 0], [0, 0]]
    assert recall_at(overlap, 2, (0.1, 0.5)).tolist() == [[1, 1], [0, 0]]
    assert recall_at(overlap, 2, (0.1, 0.5), inclusive=False).tolist() == [[1, 0], [0, 0]]


def test_iou_is_with_the_true_window_that_overlaps_most() -> None:
    windows, truth = np.array([[[0.0, 10.0], [90.0, 95.0]]]), np.array([[[8.0, 10.0], [0.0, 8.0]]])
    values = best_iou(iou(windows, truth), hull_iou(windows, truth), np.ones((1, 2), bool))
    np.testing.assert_allclose(values, [[0.8, 0.0]])
    only_first = best_iou(iou(windows, truth), hull_iou(windows, truth), np.array([[True, False]]))
    np.testing.assert_allclose(only_first, [[0.2, 0.0]])


def test_queries_that_do_not_count_leave_the_mean() -> None:
    assert mean_over_queries(np.array([1.0, np.nan, 0.0])) == 0.5
    assert np.isnan(mean_over_queries(np.array([np.nan])))
