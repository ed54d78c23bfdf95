"""The LightningModule: it calls the model's contract, adds up losses and steps; nothing is computed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from momentret.inputs import Batch
from momentret.training.config import TrainConfig
from momentret.training.graphs import BatchShape, RecordedStep

__all__ = ["MomentModule", "seed_epoch"]


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed torch's generators from (seed, epoch) alone, so that an epoch can be run again to the bit."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1))


class _Mean:
    """Adds up losses where they are, so that no step waits for a device."""

    def __init__(self) -> None:
        self.names, self.sums, self.steps = tuple[str, ...](), torch.zeros(()), 0

    @torch.no_grad()
    def add(self, losses: dict[str, Tensor]) -> None:
        values = torch.stack(list(losses.values())).double()
        self.sums = self.sums + values if self.steps else values
        self.names, self.steps = tuple(losses), self.steps + 1

    def values(self) -> dict[str, float]:
        return dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True)) if self.steps else {}


class MomentModule(LightningModule):
    """Trains any model of `momentret.models.MODELS`.

    Args:
        model: follows the contract of `momentret.models`.
        config: how it is trained.
        shape: of a full batch, if it has one; a GPU then replays a recorded step.
    """

    def __init__(self, model: torch.nn.Module, config: TrainConfig, shape: BatchShape | None = None) -> None:
        super().__init__()
        self.model, self.config, self.shape = model, config, shape
        self._recorded: RecordedStep | None = None
        self._replays = False
        """Whether the step in hand is a recorded one, which does all that Lightning would ask for after the loss."""
        self._running: dict[str, _Mean] = {}

    def on_train_start(self) -> None:
        if self.shape is not None and self.device.type == "cuda" and self.config.cuda_graphs and self.model.pads_freely:
            precision = torch.bfloat16 if self.config.precision == "bf16-mixed" else None
            optimizer: Any = self.optimizers(use_pl_optimizer=False)
            self._recorded = RecordedStep(self.model, optimizer, self.shape, self.config.grad_clip, precision)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:  # not at the epoch's start: making a loader draws a random number in between
            seed_epoch(self.config.seed, self.current_epoch)
        self._replays = self._recorded is not None and self._recorded.takes(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        step = self._recorded if self._recorded and self._replays else self._losses
        return self._add("train", step(batch))["loss"]

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if not self._replays:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self._replays:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        if self._replays:
            optimizer_closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._add("val", self._losses(batch))

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.compute_loss(self.model(batch), batch)
        return losses

    def _add(self, stage: str, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        self._running.setdefault(stage, _Mean()).add(losses)
        return losses

    def mean_losses(self, stage: str) -> dict[str, float]:
        """Return the mean of each loss over the steps since the last call, as ``<stage>/<loss>``; empty without steps.

        Every step counts the same, as in the reference's logs.
        """
        means = self._running.pop(stage, _Mean()).values()
        return {f"{stage}/{name}": value for name, value in means.items()}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip by the whole norm; Lightning's own way refuses fused optimisers in mixed precision."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)

    def configure_optimizers(self) -> Any:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        config = self.config
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, config.lr_drop, gamma=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}
