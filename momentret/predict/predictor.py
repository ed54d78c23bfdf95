"""A trained model, its input preparation and its post-processing, as one thing that answers queries.

Evaluation during training, `momentret predict` and search all come through here. Videos longer than the model's
`max_clips` are slid over in overlapping views, see `sliding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momentret.config import find_device
from momentret.datasets.check import other_clip_length
from momentret.errors import CheckpointError, ConfigError, FeatureError, MismatchError
from momentret.features import FeatureStore, StoreManifest
from momentret.inputs import InputConfig, collate, prepare_text, prepare_video, to_device
from momentret.models.checkpoint import build_model, load_checkpoint
from momentret.postprocess import PostprocessConfig, postprocess, to_predictions
from momentret.predict.sliding import blend_saliency, merge_proposals, view_starts
from momentret.progress import Progress, silent
from momentret.records import Annotation, Prediction

__all__ = ["Predictor"]


class Predictor:
    """Answers queries with one model.

    Args:
        model: follows the contract of `momentret.models`; moved to `device`.
        inputs: how features are prepared; the one the model was trained with.
        clip_length: seconds per feature row.
        postprocess: what is done to the moments of videos that fit the model; longer videos are clamped to their own
            duration instead of a fixed one.
        features: manifest of what the model was trained on; stores that do not match are refused.
        device: where the model runs.
        batch_size: queries, or views of a long video, that go through the model at once.
        top: moments kept of one query; None keeps all slots.
    """

    dataset = "qvhighlights"
    """Name of the data set the model was trained on."""

    def __init__(
        self,
        model: torch.nn.Module,
        inputs: InputConfig,
        *,
        clip_length: float,
        postprocess: PostprocessConfig,
        features: StoreManifest | None = None,
        device: str | torch.device = "cpu",
        batch_size: int = 100,
        top: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.inputs, self.clip_length, self.postprocess, self.features = inputs, clip_length, postprocess, features
        self.batch_size, self.top = batch_size, top

    @classmethod
    def load(cls, path: Path | str, **options: Any) -> Predictor:
        """Read a checkpoint that `momentret train` or `momentret checkpoint convert` wrote.

        Args:
            path: the ``.safetensors`` file.
            options: `device` (also ``"auto"``), `batch_size`, `top`, `postprocess` as in the constructor.

        Raises:
            CheckpointError: the file cannot be read or is of another kind.
        """
        checkpoint = load_checkpoint(path)
        if "device" in options:
            options["device"] = find_device(str(options["device"]))
        try:
            inputs = InputConfig(**checkpoint.inputs)
            settings: dict[str, Any] = {
                "clip_length": checkpoint.clip_length,
                "postprocess": PostprocessConfig(**checkpoint.postprocess),
                "features": StoreManifest.from_dict(checkpoint.features) if checkpoint.features else None,
            }
        except (TypeError, ConfigError, FeatureError) as error:
            raise CheckpointError(f"{path}: its header is malformed ({error}); train or convert it again") from error
        predictor = cls(build_model(checkpoint), inputs, **{**settings, **options})
        predictor.dataset = str(checkpoint.trained_on.get("dataset", predictor.dataset))
        return predictor

    def predict(
        self, annotations: Sequence[Annotation], store: FeatureStore, progress: Progress = silent
    ) -> list[Prediction]:
        """Answer every query, in the given order.

        Args:
            annotations: only query, video and duration are read; labels are not looked at.
            store: features of the videos and the queries.
            progress: reports on the batches.

        Raises:
            MismatchError: the store is not what the model was trained on.
            FeatureError: features are missing or damaged.
        """
        if self.features is not None:
            self.features.require_match(store.manifest)
        other = other_clip_length(annotations, store, self.clip_length)
        if other:
            raise MismatchError(
                f"the model was trained with clip_length {self.clip_length:g} s, but {other}; use features made "
                "the same way, or a model trained on these"
            )
        starts = range(0, len(annotations), self.batch_size)
        predictions: list[Prediction] = []
        for start in progress(starts, "predict", len(starts)):
            chunk = annotations[start : start + self.batch_size]
            predictions += self._predict_chunk(chunk, store)
        return predictions

    def predict_one(
        self, video: Sequence[np.ndarray], text: np.ndarray, *, query: str = "", video_id: str = ""
    ) -> Prediction:
        """Answer one query about one video.

        Args:
            video: one array ``(L, D_i)`` a feature source, in the trained order, not normalised.
            text: token states ``(T, D)``, not normalised.
            query: kept in the answer.
            video_id: kept in the answer.
        """
        self._require_widths(video, text)
        duration = min(len(rows) for rows in video) * self.clip_length
        annotation = Annotation(query_id=0, video_id=video_id, query=query, duration=duration)
        if self._is_long(annotation, video):
            return self._slide(annotation, video, text)
        return self._predict_short([annotation], [self._item(annotation, video, text)])[0]

    def _require_widths(self, video: Sequence[np.ndarray], text: np.ndarray) -> None:
        if self.features is None or self.features.text is None:
            return
        expected = [source.dimension for source in self.features.video], self.features.text.dimension
        found = [rows.shape[-1] for rows in video], text.shape[-1]
        if found != expected:
            raise FeatureError(
                f"video and text features are {found[0]} and {found[1]} wide; the model was trained on "
                f"{expected[0]} and {expected[1]}; extract them with the same encoders, in the same order"
            )

    def _predict_chunk(self, annotations: Sequence[Annotation], store: FeatureStore) -> list[Prediction]:
        answers: dict[int, Prediction] = {}
        short: list[tuple[int, Annotation, dict[str, Any]]] = []
        for i, annotation in enumerate(annotations):
            video, text = store.read_video(annotation.video_id), store.read_text(annotation.query_id)
            if self._is_long(annotation, video):
                answers[i] = self._slide(annotation, video, text)
            else:
                short.append((i, annotation, self._item(annotation, video, text)))
        if short:
            places, asked, items = zip(*short, strict=True)
            answers.update(zip(places, self._predict_short(asked, items), strict=True))
        return [answers[i] for i in range(len(annotations))]

    def _is_long(self, annotation: Annotation, video: Sequence[np.ndarray]) -> bool:
        """Say whether a video is longer than one view; a feature row or two past its end do not make it so."""
        size = self.inputs.max_clips
        if size is None:
            return False
        return min(len(rows) for rows in video) > size and annotation.duration > size * self.clip_length

    def _item(self, annotation: Annotation, video: Sequence[np.ndarray], text: np.ndarray) -> dict[str, Any]:
        return {
            "video": prepare_video(video, self.inputs),
            "text": prepare_text(text, self.inputs),
            "duration": annotation.duration,
        }

    def _predict_short(self, annotations: Sequence[Annotation], items: Sequence[dict[str, Any]]) -> list[Prediction]:
        decoded = self._run(items)
        lengths = [len(item["video"]) for item in items]
        predictions = to_predictions(annotations, decoded["windows"], decoded["scores"], decoded["saliency"], lengths)
        return [self._finish(prediction, self.postprocess) for prediction in predictions]

    def _finish(self, prediction: Prediction, config: PostprocessConfig) -> Prediction:
        prediction = postprocess(prediction, config)
        return replace(prediction, moments=prediction.moments[: self.top])

    @torch.inference_mode()
    def _run(self, items: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Return windows ``(B, S, 2)`` in seconds, scores ``(B, S)`` and saliency ``(B, L)`` of one batch."""
        batch = to_device(collate(items), self.device)
        training = self.model.training
        self.model.eval()
        decoded = self.model.decode(self.model(batch), batch)
        self.model.train(training)  # a model in training goes on as it was
        return {name: value.float().cpu().numpy() for name, value in decoded.items()}

    def _slide(self, annotation: Annotation, video: Sequence[np.ndarray], text: np.ndarray) -> Prediction:
        """Answer one query about a video that is longer than the model sees at once."""
        size, clips = self.inputs.max_clips, min(len(rows) for rows in video)
        assert size is not None
        starts = view_starts(clips, size)
        view = Annotation(query_id=0, video_id="", query="", duration=size * self.clip_length)
        found: dict[str, list[np.ndarray]] = {"windows": [], "scores": [], "saliency": []}
        for first in range(0, len(starts), self.batch_size):
            cuts = [[rows[s : s + size] for rows in video] for s in starts[first : first + self.batch_size]]
            for name, values in self._run([self._item(view, cut, text) for cut in cuts]).items():
                found[name].append(values)
        offsets = starts * self.clip_length
        windows, scores = merge_proposals(
            np.concatenate(found["windows"]) + offsets[:, None, None],
            np.concatenate(found["scores"]),
            np.stack((offsets, offsets + size * self.clip_length), axis=1),
            tolerance=self.clip_length,
            top=self.top or found["scores"][0].shape[1],
        )
        saliency = blend_saliency(np.concatenate(found["saliency"]), starts, clips)
        prediction = to_predictions([annotation], windows[None], scores[None], saliency[None], [clips])[0]
        return self._finish(prediction, replace(self.postprocess, clamp=(0.0, annotation.duration)))
