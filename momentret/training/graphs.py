"""CUDA graphs: the kernels of a training step are recorded once and replayed, instead of launched one by one.

A step of a small model is hundreds of kernels of a few microseconds, which take longer to launch than to run. Replaying
needs batches of one shape: they are padded to the largest that the recipe allows, and a batch of another size, the last
of an epoch, takes the usual way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from momentret.inputs import Batch
from momentret.models.matching import match

__all__ = ["BatchShape", "RecordedStep", "record"]

PADDED = {"video": "clips", "video_mask": "clips", "text": "words", "text_mask": "words", "spans": "windows"}
READ = (*PADDED, "saliency_positive", "saliency_negative")

Action = Callable[[], None]


@dataclass(frozen=True)
class BatchShape:
    """What every recorded batch is padded to."""

    items: int
    clips: int
    words: int
    windows: int


def record(practice: Action, *actions: Action) -> list[Action]:
    """Record what each action makes the GPU do, without doing it, and return what replays it.

    Actions leave their results in the same tensors at every replay, and find those of the earlier ones there.

    Args:
        practice: done for real before: kernels are loaded when they are first launched, which cannot be recorded.
        actions: replayed in this order, over and over.
    """
    stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.random.fork_rng([torch.cuda.current_device()]):
        practice()
    replays = []
    for action in actions:
        graph = torch.cuda.CUDAGraph()
        # other threads, such as a loader's, may go on using the GPU meanwhile
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            action()
        replays.append(graph.replay)
    return replays


class RecordedStep:
    """A training step of a model, from the batch to the new weights, as recorded with the first batch that it takes.

    It is recorded in two parts, since the matching between them is worked out off the GPU.

    Args:
        model: on its device; its losses must not depend on padding (`pads_freely`).
        optimizer: fused, with one group of parameters; its learning rate may change between steps.
        shape: of the batches that are replayed.
        grad_clip: the largest norm of the gradient.
        precision: of autocast; None computes in the weights' own.
        record: `record`, or a stand-in for it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        shape: BatchShape,
        grad_clip: float,
        precision: torch.dtype | None = None,
        record: Callable[..., list[Action]] = record,
    ) -> None:
        self.model, self.optimizer, self.shape = model, optimizer, shape
        self.grad_clip, self.precision, self._record = grad_clip, precision, record
        [self._group] = optimizer.param_groups
        self._batch: Batch = {}
        self._outputs: dict[str, Tensor] = {}
        self._losses: dict[str, Tensor] = {}
        self._replays: list[Action] = []

    def takes(self, batch: Batch) -> bool:
        """Tell whether it is a full batch; none is taken before the optimiser has made its state in a step."""
        return len(batch["video"]) == self.shape.items and bool(self.optimizer.state)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Step with a batch, and return what ``compute_loss`` returns, without gradients, valid until the next step."""
        if not self._replays:
            self._prepare(batch)
        self._fill(batch)
        forward, update = self._replays
        forward()
        self._match(batch["span_counts"])
        update()
        return self._losses

    def _prepare(self, batch: Batch) -> None:
        """Make the tensors that recorded kernels read, and record them."""
        for name in READ:
            shape = list(batch[name].shape)
            if name in PADDED:
                shape[1] = getattr(self.shape, PADDED[name])
            self._batch[name] = batch[name].new_zeros(shape)
        self._rate = torch.zeros((), device=batch["video"].device)
        self._fill(batch)
        self._replays = self._record(self._practise, self._forward, self._update)

    def _fill(self, batch: Batch) -> None:
        for name in READ:
            held, given = self._batch[name], batch[name]
            if given.shape != held.shape:
                held.zero_()
                held = held[:, : given.shape[1]]
            held.copy_(given)
        self._rate.fill_(self._group["lr"])

    def _practise(self) -> None:
        self._forward()
        self._match([self.shape.windows] * self.shape.items)
        self._backward()

    def _forward(self) -> None:
        with self._autocast():
            self._outputs = self.model(self._batch)
        self._cost = self.model.matching_cost(self._outputs, self._batch)

    def _match(self, counts: list[int]) -> None:
        for name, values in match(self._cost, counts).named().items():
            self._batch.setdefault(name, values).copy_(values)

    def _update(self) -> None:
        self._backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        with self._rate_on_device():
            self.optimizer.step()

    def _backward(self) -> None:
        self.optimizer.zero_grad()
        with self._autocast():
            losses = self.model.compute_loss(self._outputs, self._batch)
        with torch.autocast(self._rate.device.type, enabled=False):
            losses["loss"].backward()
        self._losses = {name: value.detach() for name, value in losses.items()}

    def _autocast(self) -> Any:
        """Return a context without the cache of casts, which would reach out of a recording."""
        device, wanted = self._rate.device.type, self.precision is not None
        return torch.autocast(device, self.precision, enabled=wanted, cache_enabled=False)

    @contextmanager
    def _rate_on_device(self) -> Iterator[None]:
        """Let the optimiser read its learning rate from the device: a number would be recorded as it is."""
        usual = {name: self._group[name] for name in ("lr", "capturable")}
        self._group.update(lr=self._rate, capturable=True)
        try:
            yield
        finally:
            self._group.update(usual)
