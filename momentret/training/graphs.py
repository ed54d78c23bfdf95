"""CUDA graphs: the kernels of a training step are recorded once and replayed, instead of launched one by one.

A step of a small model is hundreds of kernels of a few microseconds, which take longer to launch than to run. Replaying
needs batches of one shape: they are padded to the largest that the recipe allows, and a batch of another size, the last
of an epoch, takes the usual way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from momentret.inputs import Batch

__all__ = ["BatchShape", "GraphedLosses"]

INPUTS = ("video", "video_mask", "text", "text_mask")
TARGETS = ("spans", "saliency_positive", "saliency_negative", "matched_slots", "matched")


@dataclass(frozen=True)
class BatchShape:
    """What every recorded batch is padded to."""

    items: int
    clips: int
    words: int
    windows: int


class GraphedLosses:
    """Computes the losses of a model in training, by replaying what it recorded with the first full batch.

    Args:
        model: on its device; its losses must not depend on padding (`pads_freely`).
        shape: of the batches that are replayed.
        precision: of autocast; None computes in the weights' own.
        record: turns callables and their sample arguments into graphed ones; `torch.cuda.make_graphed_callables`.
    """

    def __init__(
        self,
        model: nn.Module,
        shape: BatchShape,
        precision: torch.dtype | None = None,
        record: Callable[..., Any] = torch.cuda.make_graphed_callables,
    ) -> None:
        self.model, self.shape, self.precision, self._record = model, shape, precision, record
        self._network: _Network | None = None
        self._loss: _Loss | None = None

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return what ``compute_loss`` returns."""
        if len(batch["video"]) != self.shape.items:
            losses: dict[str, Tensor] = self.model.compute_loss(self.model(batch), batch)
            return losses
        batch = self._pad(batch)
        if self._network is None:
            self._capture(batch)
        assert self._network is not None
        assert self._loss is not None
        outputs = self._network(*(batch[name] for name in INPUTS))
        batch |= self.model.assign(dict(zip(self._network.names, outputs, strict=True)), batch)
        values = self._loss(*outputs, *(batch[name] for name in TARGETS))
        return dict(zip(self._loss.names, values.unbind(), strict=True))

    def _pad(self, batch: Batch) -> Batch:
        sizes = {"video": self.shape.clips, "video_mask": self.shape.clips, "spans": self.shape.windows}
        sizes |= {"text": self.shape.words, "text_mask": self.shape.words}
        return {**batch, **{name: _lengthen(batch[name], size) for name, size in sizes.items()}}

    def _capture(self, batch: Batch) -> None:
        """Record the network and the losses, each with its backward pass."""
        self._network = _Network(self.model)
        # a graph's own autocast: casts that are cached across calls would be outside of it
        with torch.autocast("cuda", self.precision, enabled=self.precision is not None, cache_enabled=False):
            inputs = tuple(batch[name] for name in INPUTS)
            with torch.no_grad():
                outputs = self._network(*inputs)
            batch = {**batch, **self.model.assign(dict(zip(self._network.names, outputs, strict=True)), batch)}
            self._loss = _Loss(self.model, self._network.names)
            targets = tuple(batch[name] for name in TARGETS)
            samples = (inputs, (*(output.clone().requires_grad_() for output in outputs), *targets))
            self._record((self._network, self._loss), samples, allow_unused_input=True)


class _Network(nn.Module):
    """A model's forward pass as graphs take it: tensors in, tensors out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.names = model, tuple[str, ...]()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: dict[str, Tensor] = self.model(dict(zip(INPUTS, inputs, strict=True)))
        self.names = tuple(outputs)
        return tuple(outputs.values())


class _Loss(nn.Module):
    """A model's losses, stacked; has no weights of its own."""

    def __init__(self, model: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.compute, self.outputs, self.names = model.compute_loss, outputs, tuple[str, ...]()

    def forward(self, *values: Tensor) -> Tensor:
        count = len(self.outputs)
        outputs, batch = dict(zip(self.outputs, values, strict=False)), dict(zip(TARGETS, values[count:], strict=True))
        losses: dict[str, Tensor] = self.compute(outputs, batch)
        self.names = tuple(losses)
        return torch.stack(list(losses.values()))


def _lengthen(values: Tensor, length: int) -> Tensor:
    """Append zeros (False) to the second axis."""
    missing = length - values.shape[1]
    return F.pad(values, (0, 0) * (values.dim() - 2) + (0, missing)) if missing else values
