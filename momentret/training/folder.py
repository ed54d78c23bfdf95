"""What a run leaves behind: checkpoints, predictions, metrics, history, curves, and the state to resume from.

config.yaml              the resolved recipe
best.safetensors         the checkpoint with the best selection score; best_predictions.jsonl, best_metrics.json
last.safetensors         the newest validated one;                     last_predictions.jsonl, last_metrics.json
history.csv, curves.png  losses of every epoch, metrics of every validation
resume.ckpt              optimiser, scheduler and counters after the newest epoch
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from momentret.features import StoreManifest
from momentret.files import atomic_write, write_json
from momentret.metrics import GroundTruth, evaluate, find_rules
from momentret.metrics.baseline import score_blindly
from momentret.models.checkpoint import save_checkpoint
from momentret.plots.training import plot_training
from momentret.predict import Predictor
from momentret.records import Annotation, Prediction, write_predictions
from momentret.training.config import RunConfig
from momentret.training.data import MomentData
from momentret.training.module import MomentModule

__all__ = ["ResumeIO", "RunFolder", "report_split"]

logger = logging.getLogger(__name__)

SELECTION = ("MR-full-mAP", "mAP")  # what the best checkpoint is best in: the first that the data set's report has
DRAWN = (*SELECTION, "MR-full-R1@0.5", "MR-full-R1@0.7", "HL-min-VeryGood-mAP", "HL-min-VeryGood-Hit1")


class ResumeIO(TorchCheckpointIO):
    """Lightning's training state, read back without unpickling code, and never half written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with atomic_write(Path(path), "wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state


class RunFolder(Callback):
    """Validates through the one `Predictor`, keeps the best and the last, and writes the folder."""

    def __init__(self, run: RunConfig, data: MomentData) -> None:
        self.run, self.data, self.folder = run, data, run.output
        self.best, self.stale = float("-inf"), 0
        self.history: list[dict[str, float]] = []
        self._metrics: dict[str, float] = {}
        self._blind: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._blind = blind_baseline(self.run.data.dataset, self.data.selection, self.data.train)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.stale, self.history = state_dict["best"], state_dict["stale"], state_dict["history"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == self.run.train.epochs:
            trainer.check_val_every_n_epoch = 1  # the last epoch is always validated

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        predictor = self._predictor(pl_module)
        predictions = predictor.predict(self.data.selection, self.data.store)
        report = report_split(self.run, self.data.selection, predictions, self.run.data.select_on)
        report["blind"] = self._blind
        self._metrics = {name: value for name, value in report["brief"].items() if value is not None}
        score = next(self._metrics[name] for name in SELECTION if name in self._metrics)
        self._write("last", trainer, pl_module, predictions, report)
        self.stale += 1
        if score > self.best:
            self.best, self.stale = score, 0
            self._write("best", trainer, pl_module, predictions, report)
        if self.run.train.patience is not None and self.stale > self.run.train.patience:
            logger.info("no better validation in %d: stopping", self.stale)
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MomentModule)
        epoch = trainer.current_epoch + 1
        losses = pl_module.mean_losses("train") | pl_module.mean_losses("val")
        self.history.append({"epoch": epoch, **losses, **self._metrics})
        for destination in trainer.loggers:
            destination.log_metrics({**losses, **self._metrics}, step=epoch)
        self._write_history()
        if self._metrics:  # drawing takes as long as an epoch on a GPU
            self._draw()
        self._metrics = {}
        keep = self.run.train.keep_every
        if keep is not None and epoch % keep == 0:
            self._save(self.folder / f"epoch_{epoch:04d}.safetensors", epoch, pl_module)
        trainer.save_checkpoint(self.folder / "resume.ckpt")

    def _predictor(self, module: LightningModule) -> Predictor:
        data = self.run.data
        return Predictor(
            module.model,
            data.inputs,
            clip_length=data.clip_length,
            postprocess=self.run.postprocess,
            device=module.device,
            batch_size=self.run.train.eval_batch_size,
        )

    def _write(
        self,
        name: str,
        trainer: Trainer,
        module: LightningModule,
        predictions: list[Prediction],
        report: dict[str, Any],
    ) -> None:
        epoch = trainer.current_epoch + 1
        write_predictions(self.folder / f"{name}_predictions.jsonl", predictions)
        write_json(self.folder / f"{name}_metrics.json", {"epoch": epoch, **report})
        self._save(self.folder / f"{name}.safetensors", epoch, module)

    def _save(self, path: Path, epoch: int, module: LightningModule) -> None:
        run, manifest = self.run, self.data.store.manifest
        save_checkpoint(path, module.model, **checkpoint_fields(run, manifest, epoch))

    def _write_history(self) -> None:
        columns = list(dict.fromkeys(name for row in self.history for name in row))
        with atomic_write(self.folder / "history.csv") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.history)

    def _draw(self) -> None:
        columns = dict.fromkeys(name for row in self.history for name in row if name != "epoch")
        curves = {name: [(int(row["epoch"]), row[name]) for row in self.history if name in row] for name in columns}
        losses = {name: curve for name, curve in curves.items() if name in ("train/loss", "val/loss")}
        metrics = {name: curves[name] for name in DRAWN if name in curves}
        title = f"{self.run.model_name} on {self.run.data.dataset}"
        plot_training(self.folder / "curves.png", losses, metrics, self._blind, title)


def blind_baseline(dataset: str, annotations: list[Annotation], train: list[Annotation]) -> dict[str, float]:
    """Return the headline metrics of an answer that knows where windows lie in training, and nothing else."""
    truth, fitted_on = (GroundTruth.of(part, find_rules(dataset)) for part in (annotations, train))
    return {name: value for name, value in score_blindly(truth, fitted_on).items() if value is not None}


def checkpoint_fields(run: RunConfig, manifest: StoreManifest, epoch: int) -> dict[str, Any]:
    """Return what a checkpoint of this run says about itself."""
    values = run.to_dict()
    return {
        "model_name": run.model_name,
        "config": values[run.model_name],
        "inputs": values["data"]["inputs"],
        "features": manifest.to_dict(),
        "postprocess": values["postprocess"],
        "trained_on": {
            "dataset": run.data.dataset,
            "clip_length": run.data.clip_length,
            "selected_on": run.data.select_on,
            "epoch": epoch,
            "seed": run.train.seed,
        },
    }


def report_split(
    run: RunConfig, annotations: list[Annotation], predictions: list[Prediction], split: str
) -> dict[str, Any]:
    """Score predictions, and stamp what the checkpoint was selected on."""
    report = evaluate(predictions, annotations, run.data.dataset)
    stamp = {"split": split, "selected_on": run.data.select_on}
    if run.data.select_on == "test":
        stamp["warning"] = "the checkpoint was selected on the test split: this is not a test result"
    return {**stamp, **report}
