"""Annotations + features -> training examples: the map-style data set that a loader reads.

An example is asked for by ``epoch * len(examples) + i``: the epoch rides in the key, so random choices depend on
(seed, epoch, i) alone, whatever the number of workers and wherever a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from momentret.datasets.targets import TargetConfig, saliency_pairs, span_targets
from momentret.errors import AnnotationError
from momentret.features import FeatureStore
from momentret.inputs import InputConfig, prepare_text, prepare_video
from momentret.records import Annotation

__all__ = ["EpochSampler", "Examples"]


class Examples(Dataset[dict[str, Any]]):
    """Inputs and targets of annotated queries.

    Raises:
        AnnotationError: an annotation has none of the labels that `targets` asks for.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        store: FeatureStore,
        inputs: InputConfig,
        targets: TargetConfig,
        *,
        clip_length: float,
        text_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.annotations, self.store, self.inputs, self.targets = list(annotations), store, inputs, targets
        self.clip_length, self.text_dropout, self.seed = clip_length, text_dropout, seed
        for annotation in self.annotations:
            _require_labels(annotation, targets)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: int) -> dict[str, Any]:
        epoch, i = divmod(key, len(self.annotations))
        annotation, random = self.annotations[i], np.random.default_rng((self.seed, epoch, i))
        video = prepare_video(self.store.read_video(annotation.video_id), self.inputs)
        text = prepare_text(self.store.read_text(annotation.query_id), self.inputs)
        dropped = round(len(text) * self.text_dropout)
        if dropped:
            text[random.choice(len(text), dropped, replace=False)] = 0
        positive, negative = saliency_pairs(annotation, len(video), self.clip_length, self.targets, random)
        return {
            "video": video,
            "text": text,
            "duration": annotation.duration,
            "spans": span_targets(annotation.windows, len(video), self.clip_length, self.targets, random),
            "saliency_positive": positive,
            "saliency_negative": negative,
        }


def _require_labels(annotation: Annotation, targets: TargetConfig) -> None:
    labels = {
        "scores": annotation.saliency and annotation.windows,
        "window": annotation.windows,
        "labels": annotation.clip_labels,
    }
    if not labels[targets.saliency]:
        raise AnnotationError(
            f"query {annotation.query_id!r} has no labels for targets.saliency={targets.saliency!r}; "
            "train on an annotated split, or choose another kind"
        )


class EpochSampler(Sampler[int]):
    """A new order every epoch, from (seed, epoch) alone; keys carry the epoch to `Examples`."""

    def __init__(self, length: int, seed: int, shuffle: bool = True) -> None:
        self.length, self.seed, self.shuffle, self.epoch = length, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws (the loop calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        keys = np.arange(self.length) + self.epoch * self.length
        return iter(
            (np.random.default_rng((self.seed, self.epoch)).permutation(keys) if self.shuffle else keys).tolist()
        )
