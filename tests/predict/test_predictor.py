"""The one inference path, with a model that finds what is planted: what is tested is everything around the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from momentret import Annotation
from momentret.errors import FeatureError, MismatchError
from momentret.features import FeatureStore, SourceManifest, StoreManifest
from momentret.inputs import Batch, InputConfig
from momentret.postprocess import PostprocessConfig
from momentret.predict import Predictor

CLIP, SIZE, WIDTH = 2.0, 20, 4


class Finder(torch.nn.Module):
    """Proposes every run of clips whose first feature is positive; saliency is that feature."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"signal": batch["video"][..., 0].masked_fill(~batch["video_mask"], -1)}

    def decode(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        windows, scores = torch.zeros(len(outputs["signal"]), 6, 2), torch.full((len(outputs["signal"]), 6), 0.01)
        for i, (signal, mask) in enumerate(zip(outputs["signal"], batch["video_mask"], strict=True)):
            edges = np.flatnonzero(np.diff(np.r_[0, (signal > 0).numpy().astype(int), 0]))
            for slot, (first, last) in enumerate(edges.reshape(-1, 2)):
                windows[i, slot] = torch.tensor([first, last]) / mask.sum() * batch["duration"][i]
                scores[i, slot] = 0.9
        return {"windows": windows, "scores": scores, "saliency": outputs["signal"]}


class Memory:
    """Features of one family, held in a dict."""

    def __init__(self, family: str, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        width = next(iter(arrays.values())).shape[1]
        self.manifest = SourceManifest(family=family, dimension=width, clip_length=CLIP)

    def ids(self) -> list[str]:
        return list(self.arrays)

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def read(self, name: str) -> np.ndarray:
        return self.arrays[name]


def video(clips: int, moments: list[tuple[int, int]]) -> np.ndarray:
    """Return ``(clips, WIDTH)`` with a positive first feature in the given clip ranges."""
    rows = np.random.default_rng(clips).standard_normal((clips, WIDTH)).astype(np.float32)
    rows[:, 0] = -1
    for first, last in moments:
        rows[first:last, 0] = 1
    return rows


def store(videos: dict[str, np.ndarray]) -> FeatureStore:
    text = {str(i): np.ones((3, WIDTH), dtype=np.float16) for i in range(len(videos))}
    return FeatureStore([Memory("clip", videos)], Memory("clip", text))


def annotations(videos: dict[str, np.ndarray]) -> list[Annotation]:
    return [
        Annotation(query_id=i, video_id=name, query="q", duration=len(rows) * CLIP)
        for i, (name, rows) in enumerate(videos.items())
    ]


def predictor(**options: Any) -> Predictor:
    inputs = InputConfig(max_clips=SIZE, normalise_video=False)
    settings = {"clip_length": CLIP, "postprocess": PostprocessConfig(), "batch_size": 2, **options}
    return Predictor(Finder(), inputs, **settings)


def confident(prediction: Any) -> list[tuple[float, float]]:
    return sorted((moment.start, moment.end) for moment in prediction.moments if moment.score > 0.5)


@pytest.mark.parametrize("moment", [(3, 7), (8, 12), (9, 11), (10, 20), (18, 22), (35, 44), (5, 40), (0, 97), (95, 97)])
def test_a_moment_in_a_long_video_is_found_once_and_whole(moment: tuple[int, int]) -> None:
    videos = {"long": video(97, [moment])}
    (prediction,) = predictor().predict(annotations(videos), store(videos))
    assert confident(prediction) == [(moment[0] * CLIP, moment[1] * CLIP)]


def test_a_long_video_has_one_curve_and_no_limit_of_150_seconds() -> None:
    videos = {"long": video(300, [(280, 290)])}
    (prediction,) = predictor().predict(annotations(videos), store(videos))
    assert confident(prediction) == [(560.0, 580.0)]
    np.testing.assert_allclose(prediction.saliency, videos["long"][:, 0], atol=1e-3)


def test_answers_come_in_the_asked_order_whatever_the_lengths() -> None:
    videos = {f"v{i}": video(n, [(2, 5)]) for i, n in enumerate((10, 50, 20, 22, 23, 7))}
    predictions = predictor().predict(annotations(videos), store(videos))
    assert [p.video_id for p in predictions] == list(videos)
    assert all(confident(p) == [(4.0, 10.0)] for p in predictions)


def test_an_answer_does_not_depend_on_the_batch() -> None:
    videos = {f"v{i}": video(n, [(1, 4)]) for i, n in enumerate((10, 15, 20, 7, 3))}
    together = predictor(batch_size=5).predict(annotations(videos), store(videos))
    assert together == predictor(batch_size=1).predict(annotations(videos), store(videos))


def test_a_model_in_training_goes_on_as_it_was() -> None:
    asking = predictor()
    videos = {"v": video(15, [(3, 6)])}
    for training in (True, False):
        asking.model.train(training)
        asking.predict(annotations(videos), store(videos))
        assert asking.model.training == training


def test_a_row_or_two_too_many_is_no_long_video() -> None:
    videos = {"v": video(SIZE + 2, [(4, 6)])}
    asked = [Annotation(query_id=0, video_id="v", query="q", duration=SIZE * CLIP)]
    (prediction,) = predictor().predict(asked, store(videos))
    assert confident(prediction) == [(8.0, 12.0)]
    assert prediction.saliency is not None
    assert len(prediction.saliency) == SIZE


def test_one_video_can_be_asked_without_a_store() -> None:
    answer = predictor().predict_one([video(15, [(3, 6)])], np.ones((2, WIDTH)), query="a cat", video_id="mine")
    assert (answer.query, answer.video_id, confident(answer)) == ("a cat", "mine", [(6.0, 12.0)])


def test_top_keeps_the_best() -> None:
    videos = {"v": video(15, [(3, 6), (8, 9)])}
    (prediction,) = predictor(top=1).predict(annotations(videos), store(videos))
    assert len(prediction.moments) == 1


def test_features_that_the_model_was_not_trained_on_are_refused() -> None:
    trained = StoreManifest(
        video=(SourceManifest(family="slowfast", dimension=8, clip_length=CLIP),),
        text=SourceManifest(family="clip", dimension=WIDTH, clip_length=None),
    )
    videos = {"v": video(15, [(3, 6)])}
    with pytest.raises(MismatchError, match="slowfast"):
        predictor(features=trained).predict(annotations(videos), store(videos))
    with pytest.raises(FeatureError, match="8"):
        predictor(features=trained).predict_one([videos["v"]], np.ones((2, WIDTH)))
