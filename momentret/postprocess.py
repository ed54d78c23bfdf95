"""Decoded model outputs -> predictions, and prediction -> prediction: clamp, round to clips, suppress.

The numbers of the QVHighlights submission format live here: four decimals, saliency through float16. Whoever wants the
slots in their own order (to look at what each has learned) takes a model's ``decode``: a `Prediction` is always ranked.

Source: Lei, Berg, Bansal, NeurIPS 2021, and its released code for the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from momentret.config import require
from momentret.errors import ConfigError, PredictionError
from momentret.records import Annotation, Moment, Prediction
from momentret.spans import non_maximum_suppression

__all__ = ["PostprocessConfig", "postprocess", "to_predictions"]

LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class PostprocessConfig:
    """What is done to the moments of a prediction; the defaults are those of QVHighlights."""

    clamp: tuple[float, float] | None = (0.0, 150.0)
    """Earliest start and latest end, in seconds. None: as predicted."""
    round_to: float | None = 2.0
    """Starts and ends become multiples of so many seconds (halves to the even one). None: four decimals."""
    nms_threshold: float | None = None
    """Drop moments that overlap a better one by more, in [0, 1]. None: keep all."""
    max_before_nms: int = 10
    """Moments that enter suppression, best first."""
    max_after_nms: int = 10
    """Moments that suppression keeps at the most."""

    def __post_init__(self) -> None:
        if self.clamp is not None:
            object.__setattr__(self, "clamp", tuple(self.clamp))  # JSON brings a list
            if len(self.clamp) != 2 or not self.clamp[0] <= self.clamp[1]:
                raise ConfigError(f"postprocess.clamp is {self.clamp}, expected [start, end] in seconds or null")
        step, overlap = self.round_to, self.nms_threshold
        require(step is None or 0 < step < float("inf"), "postprocess.round_to", step, "seconds above 0 or null")
        require(overlap is None or 0 <= overlap <= 1, "postprocess.nms_threshold", overlap, "[0, 1] or null")
        for name in ("max_before_nms", "max_after_nms"):
            require(getattr(self, name) >= 1, f"postprocess.{name}", getattr(self, name), "at least 1")


def to_predictions(
    annotations: Sequence[Annotation],
    windows: np.ndarray,
    scores: np.ndarray,
    saliency: np.ndarray,
    lengths: Sequence[int],
) -> list[Prediction]:
    """Turn what a model decoded into predictions: ranked by score (ties keep slot order), rounded to four decimals.

    Args:
        annotations: the B queries that were asked; only their ids and texts are used.
        windows: ``(B, S, 2)`` in seconds, in slot order.
        scores: ``(B, S)``, higher is better.
        saliency: ``(B, L)``; rounded to float16, as in the reference's submissions.
        lengths: number of valid clips of each item; the rest of its saliency is cut.

    Raises:
        PredictionError: an output is not finite, naming the query.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = _four_decimals(np.take_along_axis(windows, order[..., None], axis=1)).tolist()
    ranked_scores = _four_decimals(np.take_along_axis(scores, order, axis=1)).tolist()
    halves = np.clip(saliency, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).tolist()
    finite = np.isfinite(windows).all(axis=(1, 2)) & np.isfinite(scores).all(axis=1)
    predictions = []
    for i, (annotation, length) in enumerate(zip(annotations, lengths, strict=True)):
        if not (finite[i] and np.isfinite(saliency[i, :length]).all()):
            raise PredictionError(
                f"query {annotation.query_id!r}: the model's output is not finite; its checkpoint is damaged, its "
                "training diverged, or the features are not those it was trained on"
            )
        predictions.append(
            Prediction(
                query_id=annotation.query_id,
                video_id=annotation.video_id,
                query=annotation.query,
                moments=tuple(Moment(a, b, s) for (a, b), s in zip(ranked[i], ranked_scores[i], strict=True)),
                saliency=tuple(halves[i][:length]),
            )
        )
    return predictions


def postprocess(prediction: Prediction, config: PostprocessConfig) -> Prediction:
    """Clamp the windows, round them to clips and suppress the overlapping ones, as `config` says.

    Windows are computed in float32 as in the reference; zero-length ones are possible and kept. Without suppression the
    number and the order of moments stay as they are.
    """
    if not prediction.moments:
        return prediction
    values = np.array([(moment.start, moment.end, moment.score) for moment in prediction.moments], dtype=np.float32)
    windows, scores = values[:, :2], _four_decimals(values[:, 2])
    if config.clamp is not None:
        windows = np.clip(windows, *np.array(config.clamp, dtype=np.float32))
    if config.round_to is not None:
        clip = np.float32(config.round_to)
        windows = np.rint(windows / clip) * clip  # halves to even
    windows = _four_decimals(windows)
    if config.nms_threshold is not None:
        first = slice(config.max_before_nms)
        kept = non_maximum_suppression(windows[first], scores[first], config.nms_threshold, config.max_after_nms)
        windows, scores = windows[kept], scores[kept]
    moments = (Moment(a, b, s) for (a, b), s in zip(windows.tolist(), scores.tolist(), strict=True))
    return replace(prediction, moments=tuple(moments))


def _four_decimals(values: np.ndarray) -> np.ndarray:
    """Return float64; exact for float32 values, whose product with 10,000 a float64 holds without loss."""
    rounded: np.ndarray = np.rint(values.astype(np.float64) * 1e4) / 1e4
    return rounded
