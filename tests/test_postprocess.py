from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from momentret import Annotation, Moment, Prediction
from momentret.errors import ConfigError, PredictionError
from momentret.postprocess import PostprocessConfig, postprocess, to_predictions

from .helpers import GOLDEN

# Source: the official post-processing and NMS on synthetic head outputs; every number must be equal.
REFERENCE = json.loads((GOLDEN / "moment_detr_postprocess.json").read_text())


def queries(count: int) -> list[Annotation]:
    return [Annotation(query_id=i, video_id=f"v{i}", query=f"q{i}", duration=150.0) for i in range(count)]


def decoded() -> list[Prediction]:
    spans = torch.tensor(REFERENCE["pred_spans_cxw"])
    centre, half = spans[..., 0], 0.5 * spans[..., 1]
    windows = torch.stack((centre - half, centre + half), -1) * torch.tensor(REFERENCE["durations"])[:, None, None]
    scores = torch.tensor(REFERENCE["pred_logits"]).softmax(-1)[..., 0]
    saliency = torch.tensor(REFERENCE["saliency_scores"])
    arrays = (windows.numpy(), scores.numpy(), saliency.numpy())
    return to_predictions(queries(len(windows)), *arrays, REFERENCE["valid_lengths"])


def rows(predictions: list[Prediction]) -> list[list[list[float]]]:
    return [prediction.to_row()["pred_relevant_windows"] for prediction in predictions]


def one(*moments: tuple[float, float, float]) -> Prediction:
    return Prediction(query_id=1, video_id="v", query="q", moments=tuple(Moment(*m) for m in moments))


def test_ranked_windows_equal_the_reference() -> None:
    assert rows(decoded()) == REFERENCE["before_rounding"]


def test_submissions_equal_the_reference() -> None:
    found = [postprocess(prediction, PostprocessConfig()).to_row() for prediction in decoded()]
    assert found == REFERENCE["submission"]


@pytest.mark.parametrize("name", sorted(REFERENCE["after_nms"]))
def test_suppression_equals_the_reference(name: str) -> None:
    threshold, *limits = name.replace("before", "").replace("after", "").split("_")
    options: dict[str, Any] = dict(zip(("max_before_nms", "max_after_nms"), map(int, limits), strict=False))
    config = PostprocessConfig(nms_threshold=float(threshold), **options)
    assert rows([postprocess(prediction, config) for prediction in decoded()]) == REFERENCE["after_nms"][name]


def test_halves_go_to_the_even_multiple() -> None:
    found = postprocess(one((1.0, 3.0, 0.9), (5.0, 7.0, 0.8)), PostprocessConfig())
    assert [(m.start, m.end) for m in found.moments] == [(0.0, 4.0), (4.0, 8.0)]


def test_switched_off_steps_change_nothing() -> None:
    prediction = one((-3.25, 171.5, 0.9), (5.125, 7.0, 0.8))
    assert postprocess(prediction, PostprocessConfig(clamp=None, round_to=None)) == prediction


def test_no_moments_stay_no_moments() -> None:
    assert postprocess(one(), PostprocessConfig(nms_threshold=0.5)) == one()


def test_ties_keep_slot_order() -> None:
    windows = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]], dtype=np.float32)
    found = to_predictions(queries(1), windows, np.full((1, 3), 0.5, np.float32), np.zeros((1, 2)), [2])[0]
    assert [m.start for m in found.moments] == [1.0, 3.0, 5.0]


@pytest.mark.parametrize("field", ["windows", "scores", "saliency"])
def test_an_output_that_is_not_finite_is_refused_by_query(field: str) -> None:
    values = {"windows": np.ones((2, 1, 2)), "scores": np.ones((2, 1)), "saliency": np.zeros((2, 3))}
    values[field][1, 0] = np.nan
    with pytest.raises(PredictionError, match="query 1: the model's output is not finite"):
        to_predictions(queries(2), **values, lengths=[3, 3])


def test_padding_and_overflow_do_not_reach_the_saliency() -> None:
    saliency = np.array([[1e9, -1e9, np.nan]], dtype=np.float32)
    found = to_predictions(queries(1), np.ones((1, 1, 2)), np.ones((1, 1)), saliency, [2])[0]
    assert found.saliency == (65504.0, -65504.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clamp": [5.0, 1.0]}, "clamp"),
        ({"clamp": [5.0]}, "clamp"),
        ({"round_to": 0.0}, "round_to"),
        ({"nms_threshold": 1.5}, "nms_threshold"),
        ({"max_after_nms": 0}, "max_after_nms"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"postprocess.{message}"):
        PostprocessConfig(**options)
