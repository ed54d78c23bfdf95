from __future__ import annotations

from pathlib import Path

import pytest

from momentret import Annotation, Moment, Prediction
from momentret.errors import AnnotationError, PredictionError
from momentret.records import read_predictions, write_predictions

from .helpers import write_lines


def prediction(**changes: object) -> Prediction:
    values = {
        "query_id": "s1_0",
        "video_id": "v\n1",
        "query": "a cat",
        "moments": (Moment(2.0, 4.0, 0.9), Moment(0.0, 2.0, 0.1)),
        "saliency": (0.5, -1.0),
    }
    return Prediction(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("saliency", [(0.5, -1.0), None])
def test_predictions_round_trip(tmp_path: Path, saliency: tuple[float, ...] | None) -> None:
    original = [prediction(saliency=saliency)]
    write_predictions(tmp_path / "p.jsonl", original)
    assert read_predictions(str(tmp_path / "p.jsonl")) == original


@pytest.mark.parametrize(
    ("start", "end", "score"), [(float("nan"), 1, 0), (0, float("inf"), 0), (3, 2, 0), (0, 1, float("nan"))]
)
def test_a_moment_is_checked_at_birth(start: float, end: float, score: float) -> None:
    with pytest.raises(PredictionError, match="moment"):
        Moment(start, end, score)


def test_moments_must_come_best_first() -> None:
    with pytest.raises(PredictionError, match="not sorted"):
        prediction(moments=(Moment(0, 1, 0.1), Moment(0, 1, 0.2)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"vid": "v", "pred_relevant_windows": []}, "'qid' is missing"),
        ({"qid": 1, "vid": "v", "pred_relevant_windows": [[1, 2]]}, "expected"),
        ({"qid": 1, "vid": "v", "pred_relevant_windows": None}, "expected"),
        ({"qid": 1, "vid": "v", "pred_relevant_windows": [], "pred_saliency_scores": [float("nan")]}, "finite"),
    ],
)
def test_a_bad_prediction_row_is_named_with_its_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write_lines(tmp_path / "p.jsonl", [row])
    with pytest.raises(PredictionError, match=f"p.jsonl, line 1: .*{message}"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 0.0}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"windows": ((5.0, 5.0),)}, "window"),
        ({"windows": ((5.0, 11.0),)}, "window"),
        ({"windows": ((-1.0, 5.0),)}, "window"),
        ({"relevant_clips": (1,), "saliency": ((1, 2, 3), (1, 2, 3))}, "as many"),
    ],
)
def test_an_annotation_is_checked_at_birth(changes: dict[str, object], message: str) -> None:
    values = {"query_id": 1, "video_id": "v", "query": "q", "duration": 10.0, **changes}
    with pytest.raises(AnnotationError, match=message):
        Annotation(**values)  # type: ignore[arg-type]
