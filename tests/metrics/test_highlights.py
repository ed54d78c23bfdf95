from __future__ import annotations

import numpy as np
import pytest

from momentret.metrics.highlights import average_precision, hit_at_1, ranked_precision, top5_precision


def precision(scores: list[float], labels: list[int]) -> float:
    values = np.array([scores], float)
    return float(average_precision(values, np.array(labels, bool)[None, :, None], np.ones_like(values, bool))[0, 0])


def test_average_precision_by_hand() -> None:
    # ranked labels 1 0 1: precision 1 at recall 1/2, 2/3 at recall 1
    assert precision([0.9, 0.5, 0.1], [1, 0, 1]) == pytest.approx((1 + 2 / 3) / 2)
    # ranked labels 0 1 1: both levels see the better precision 2/3 at full recall
    assert precision([0.9, 0.5, 0.1], [0, 1, 1]) == pytest.approx(2 / 3)


def test_tied_positives_are_one_recall_level() -> None:
    # {1} then the tie {1, 1, 0}: levels 1/3 and 1, precision 1 and 3/4
    assert precision([0.9, 0.5, 0.5, 0.5], [1, 1, 1, 0]) == pytest.approx((1 + 3 / 4) / 2)


def test_all_or_no_positives() -> None:
    assert precision([0.3, 0.1], [0, 0]) == 0.0
    assert precision([0.3, 0.1], [1, 1]) == 1.0


def test_constant_saliency_scores_the_share_of_positives() -> None:
    assert precision([0.0, 0.0, 0.0, 0.0], [0, 1, 0, 0]) == 0.25


def test_padding_does_not_change_a_query() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(3, 7)), generator.random((3, 7, 2)) < 0.4
    alone = average_precision(scores, labels, np.ones((3, 7), bool))
    wide = np.concatenate([scores, np.full((3, 4), 9.0)], axis=1)
    wide_labels = np.concatenate([labels, np.ones((3, 4, 2), bool)], axis=1)
    padded = average_precision(wide, wide_labels, np.arange(11) < np.full((3, 1), 7))
    np.testing.assert_array_equal(alone, padded)


def test_a_hit_needs_one_annotator_and_a_clip_of_the_video() -> None:
    labels = np.array([[[False, True], [False, False]]] * 4)
    scores = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.1, 0.2, 0.9], [0.5, 0.5, 0.5]])
    valid = np.array([[True] * 3] * 3 + [[True, True, False]])
    assert hit_at_1(scores, valid, labels).tolist() == [1, 0, 0, 1]


def test_ranked_precision_by_hand() -> None:
    # ranked 1 0 1: trapezoids (1 + 1) / 2 / 2 and, from precision 1/2 to 2/3, (2/3 + 1/2) / 2 / 2
    labels = np.array([[1], [0], [1]])
    assert ranked_precision(np.array([3.0, 2.0, 1.0]), labels) == pytest.approx(0.5 + (2 / 3 + 1 / 2) / 4)
    assert ranked_precision(np.array([3.0, 2.0, 1.0, 9.0]), labels) == pytest.approx(0.5 + (2 / 3 + 1 / 2) / 4)
    assert ranked_precision(np.array([3.0]), labels) == 1.0
    assert np.isnan(ranked_precision(np.array([1.0, 2.0]), np.zeros((2, 1))))


def test_top5_counts_scores_above_the_lower_median() -> None:
    # six clips, scores 1 1 2 2 3 3: the lower median is 2, so only the threes are positive
    labels = np.array([[1.0], [1.0], [2.0], [2.0], [3.0], [3.0]])
    assert top5_precision(np.array([0.0, 0.1, 0.2, 0.3, 0.9, 0.8]), labels) == 1.0
    assert top5_precision(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.0]), labels) == pytest.approx((0 + 1 / 5) / 2)
