"""The LightningModule: it calls the model's contract, logs and steps; nothing is computed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from momentret.inputs import Batch
from momentret.training.config import TrainConfig

__all__ = ["MomentModule", "seed_epoch"]


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed torch's generators from (seed, epoch) alone, so that an epoch can be run again to the bit."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1))


class MomentModule(LightningModule):
    """Trains any model of `momentret.models.MODELS`."""

    def __init__(self, model: torch.nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:  # not at the epoch's start: making a loader draws a random number in between
            seed_epoch(self.config.seed, self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._losses(batch, "train")["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._losses(batch, "val")

    def _losses(self, batch: Batch, stage: str) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model.compute_loss(self.model(batch), batch)
        # batch_size=1: every step counts the same in an epoch's mean, as in the reference's logs
        logged = {f"{stage}/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=1)
        return losses

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip by the whole norm; Lightning's own way refuses fused optimisers in mixed precision."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)

    def configure_optimizers(self) -> Any:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        config = self.config
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, config.lr_drop, gamma=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}
