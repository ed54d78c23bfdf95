from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from momentret.errors import ConfigError
from momentret.spans import (
    generalised_iou,
    hull_iou,
    iou,
    non_maximum_suppression,
    parse_window,
    spans_to_windows,
    windows_to_spans,
)

window = st.tuples(st.floats(0, 100), st.floats(0.5, 100)).map(lambda w: (w[0], w[0] + w[1]))
windows = st.lists(window, min_size=1, max_size=6).map(np.array)


def test_spans_and_windows_by_hand() -> None:
    np.testing.assert_allclose(spans_to_windows(np.array([[0.5, 0.2]]), 100.0), [[40.0, 60.0]])
    np.testing.assert_allclose(windows_to_spans(np.array([[40.0, 60.0]]), 100.0), [[0.5, 0.2]])


@given(windows)
def test_windows_survive_the_round_trip(values: np.ndarray) -> None:
    np.testing.assert_allclose(spans_to_windows(windows_to_spans(values, 200.0), 200.0), values, atol=1e-9)


def test_overlap_by_hand() -> None:
    a, b = np.array([[0.0, 10.0]]), np.array([[5.0, 15.0], [10.0, 20.0], [30.0, 40.0], [0.0, 10.0], [5.0, 5.0]])
    np.testing.assert_allclose(iou(a, b), [[5 / 15, 0, 0, 1, 0]])
    np.testing.assert_allclose(hull_iou(a, b), [[5 / 15, 0, 0, 1, 0]])
    np.testing.assert_allclose(generalised_iou(a, b), [[5 / 15, 0, -20 / 40, 1, 0]])


@pytest.mark.parametrize("overlap", [iou, hull_iou, generalised_iou])
def test_two_windows_of_no_length_do_not_divide_by_zero(overlap: object) -> None:
    point = np.array([[3.0, 3.0]])
    assert overlap(point, point) == 0  # type: ignore[operator]


@given(windows, windows)
def test_numpy_and_torch_agree(a: np.ndarray, b: np.ndarray) -> None:
    for overlap in (iou, hull_iou, generalised_iou):
        np.testing.assert_allclose(overlap(a, b), overlap(torch.from_numpy(a), torch.from_numpy(b)).numpy())


@given(windows, windows)
def test_generalised_iou_is_at_most_iou_and_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    assert (generalised_iou(a, b) <= iou(a, b) + 1e-12).all()
    np.testing.assert_allclose(iou(a, b), iou(b, a).T)


def test_suppression_drops_what_overlaps_more_than_the_threshold() -> None:
    values = np.array([[0.0, 10.0], [1.0, 10.0], [5.0, 15.0], [20.0, 30.0]])
    scores = np.array([0.5, 0.9, 0.8, 0.1])
    assert non_maximum_suppression(values, scores, threshold=0.5, keep=10) == [1, 2, 3]
    assert non_maximum_suppression(values, scores, threshold=0.5, keep=2) == [1, 2]
    assert non_maximum_suppression(np.zeros((0, 2)), np.zeros(0), threshold=0.5, keep=2) == []


def test_windows_are_seconds_or_clock_times() -> None:
    assert parse_window(" 1:02:03.5 - 1:02:04 ") == (3723.5, 3724.0)
    assert parse_window(".5-0:01") == (0.5, 1.0)
    for text in ("", "1", "a-b", "1-2-3", "-1-2", "1e3-2e3", "nan-inf", "٣-٤"):
        with pytest.raises(ConfigError, match="is not START-END"):
            parse_window(text)
