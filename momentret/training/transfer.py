"""How a batch travels from the process that made it, into pinned memory and to a device: in one piece.

Each tensor of its own would cost messages between the processes, a file descriptor and a transfer: for the few small
ones of a batch several times the work of the large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from momentret.inputs import Batch, collate, to_device

__all__ = ["Parcel", "collate_to_send", "receive"]


@dataclass(frozen=True)
class Parcel:
    """A batch whose tensors lie one after the other in one block of bytes."""

    block: Tensor
    """``(bytes,)`` uint8."""
    layout: Sequence[tuple[str, torch.dtype, torch.Size]]
    """Name, type and shape of each tensor, in their order in the block: the widest type first, so all are aligned."""
    rest: dict[str, Any]
    """What are no tensors."""

    @classmethod
    def of(cls, batch: Batch) -> Parcel:
        """Pack a batch."""
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        names = sorted(tensors, key=lambda name: -tensors[name].element_size())
        block = torch.cat([tensors[name].reshape(-1).view(torch.uint8) for name in names])
        layout = [(name, tensors[name].dtype, tensors[name].shape) for name in names]
        return cls(block, layout, {name: value for name, value in batch.items() if name not in tensors})

    def pin_memory(self) -> Parcel:
        """Return the parcel in memory that a GPU reads by itself; the loader asks for it."""
        return Parcel(self.block.pin_memory(), self.layout, self.rest)

    def open(self, device: torch.device) -> Batch:
        """Return the batch, on a device: views of the block."""
        sizes = [kind.itemsize * shape.numel() for _, kind, shape in self.layout]
        parts = self.block.to(device, non_blocking=True).split(sizes)
        tensors = {
            name: part.view(kind).view(shape) for (name, kind, shape), part in zip(self.layout, parts, strict=True)
        }
        return {**tensors, **self.rest}


def collate_to_send(items: Sequence[dict[str, Any]]) -> Batch | Parcel:
    """Make a batch: as a parcel in a loader's worker, as itself where it stays in the process."""
    batch = collate(items)
    return batch if get_worker_info() is None else Parcel.of(batch)


def receive(batch: Batch | Parcel, device: torch.device) -> Batch:
    """Return what `collate_to_send` made as a batch on a device."""
    return batch.open(device) if isinstance(batch, Parcel) else to_device(batch, device)
