from __future__ import annotations

import numpy as np
import pytest

from momentret.metrics.bootstrap import intervals, p_values, resample


def column(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"m": values[:, None]}


def test_intervals_have_the_width_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(50, 10, 400)
    ((low, high),) = intervals(resample(column(values), 4000)).values()
    assert low is not None
    assert high is not None
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1)
    assert high == pytest.approx(values.mean() + half, abs=0.1)


def test_chunks_draw_what_one_long_loop_would() -> None:
    values = np.random.default_rng(0).random(30)
    drawn = np.random.default_rng(5).integers(0, 30, (500, 30))
    np.testing.assert_allclose(resample(column(values), 700, seed=5)["m"][:500], values[drawn].mean(1))


def test_queries_that_do_not_count_are_left_out() -> None:
    values = np.array([4.0, np.nan, 4.0, np.nan])
    samples = resample(column(values), 200)["m"]
    assert set(samples[~np.isnan(samples)]) == {4.0}
    assert np.isnan(samples).any()  # some rounds draw only the queries that do not count


def test_columns_are_averaged_after_their_means() -> None:
    values = np.array([[1.0, np.nan], [1.0, np.nan], [1.0, np.nan], [np.nan, 3.0]])
    samples = resample({"m": values}, 3000)["m"]
    assert set(samples) == {1.0, 2.0, 3.0}


def test_a_metric_that_no_query_counts_in_has_no_interval() -> None:
    assert intervals(resample(column(np.full(5, np.nan)), 50)) == {"m": [None, None]}


def test_seeds_repeat_and_differ() -> None:
    values = column(np.random.default_rng(0).random(50))
    np.testing.assert_array_equal(resample(values, 20, seed=1)["m"], resample(values, 20, seed=1)["m"])
    assert (resample(values, 20, seed=1)["m"] != resample(values, 20, seed=2)["m"]).any()


def p(ours: np.ndarray, theirs: np.ndarray) -> float:
    return p_values(resample(column(ours), 1000), resample(column(theirs), 1000))["m"]


def test_equal_submissions_cannot_be_told_apart() -> None:
    values = np.random.default_rng(0).random(60)
    assert p(values, values) == 1.0


def test_a_paired_comparison_sees_what_two_intervals_hide() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(50, 20, 300)
    better = values + 1 + generator.normal(0, 2, 300)
    assert p(better, values) == pytest.approx(2 / 1001)
    assert p(values, better) == pytest.approx(2 / 1001)


def test_p_values_are_uniform_when_nothing_differs() -> None:
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(200):
        values = generator.normal(size=60)
        rejected += p(values, values + generator.normal(size=60)) < 0.05
    assert 2 <= rejected <= 24  # 10 expected; the bootstrap of 60 queries is slightly liberal


def test_rounds_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rounds is 0"):
        resample(column(np.ones(3)), 0)
