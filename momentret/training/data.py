"""The DataModule: which annotations train, select and report, and the loaders over them."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from momentret.datasets import read_annotations
from momentret.datasets.check import other_clip_length
from momentret.datasets.examples import EpochSampler, Examples
from momentret.datasets.splits import hold_out
from momentret.errors import FeatureError, MismatchError
from momentret.features import FeatureStore, open_store
from momentret.inputs import Batch
from momentret.machine import available_cores
from momentret.records import Annotation
from momentret.training.config import DataConfig, TrainConfig
from momentret.training.transfer import Parcel, collate_to_send, receive
from momentret.words import count_of, first_few

__all__ = ["MomentData"]

MOST_WORKERS = 8  # of their own accord; each makes a batch of 32 in some 25 ms, and a GPU takes one in 5


class MomentData(LightningDataModule):
    """Reads the splits of one run; constructed without I/O, filled by `setup`."""

    train: list[Annotation]
    selection: list[Annotation]
    """What chooses the best checkpoint."""
    test: list[Annotation]
    """Scored once with the chosen checkpoint; may be empty."""
    store: FeatureStore

    def __init__(self, data: DataConfig, train: TrainConfig) -> None:
        super().__init__()
        self.data, self.config = data, train
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Read annotations and open the features; missing files and labels are known before the first step."""
        if self._ready:
            return
        data = self.data
        self.train = self._read(data.annotations.train)
        self.train = self.train[: int(len(self.train) * data.train_share)] or self.train[:1]
        self.test = self._read(data.annotations.test) if data.annotations.test else []
        if data.select_on == "held_out":
            self.train, self.selection = hold_out(self.train, data.held_out_share)
        else:
            self.selection = self.test if data.select_on == "test" else self._read(data.annotations.val)
        self.store = open_store(data.features)
        annotations = [*self.train, *self.selection, *self.test]
        _require_features(self.store, annotations)
        _require_clip_length(self.store, annotations, data.clip_length)
        self._train_examples = self._examples(self.train, text_dropout=data.text_dropout)
        self._selection_examples = self._examples(self.selection, text_dropout=0.0)
        self._ready = True

    def _read(self, path: Path | None) -> list[Annotation]:
        assert path is not None
        return read_annotations(path, self.data.dataset, durations=self.data.annotations.durations)

    def train_dataloader(self) -> DataLoader[Batch | Parcel]:
        sampler = EpochSampler(len(self.train), self.config.seed)
        return self._loader(self._train_examples, sampler, self.config.batch_size)

    def val_dataloader(self) -> DataLoader[Batch | Parcel]:
        sampler = EpochSampler(len(self.selection), self.config.seed, shuffle=False)
        return self._loader(self._selection_examples, sampler, self.config.eval_batch_size)

    def transfer_batch_to_device(self, batch: Batch | Parcel, device: torch.device, dataloader_idx: int) -> Batch:
        return receive(batch, device)

    def _examples(self, annotations: list[Annotation], text_dropout: float) -> Examples:
        data = self.data
        return Examples(
            annotations,
            self.store,
            data.inputs,
            data.targets,
            clip_length=data.clip_length,
            text_dropout=text_dropout,
            seed=self.config.seed,
        )

    def _loader(self, examples: Examples, sampler: EpochSampler, size: int) -> DataLoader[Batch | Parcel]:
        on_gpu = self.config.on_gpu
        workers = self.config.workers
        if workers is None:
            workers = min(available_cores() - 1, MOST_WORKERS) if on_gpu else 0
        return DataLoader(
            examples,
            batch_size=size,
            sampler=sampler,
            collate_fn=collate_to_send,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_gpu,
        )


def _require_features(store: FeatureStore, annotations: list[Annotation]) -> None:
    """Refuse to start when features are missing: the first five and the count."""
    missing = store.missing({a.video_id for a in annotations}, {str(a.query_id) for a in annotations})
    if missing:
        raise FeatureError(f"{count_of(len(missing), 'feature file')} missing: {first_few(missing)}")


def _require_clip_length(store: FeatureStore, annotations: list[Annotation], clip_length: float) -> None:
    other = other_clip_length(annotations, store, clip_length)
    if other:
        raise MismatchError(
            f"data.clip_length is {clip_length:g} s, but {other}; set it to theirs, or "
            "data.features.clip_length if the layout is wrong about them"
        )
