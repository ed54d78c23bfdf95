"""A GPU that is none: tensors that say they lie on it, are computed by the processor, and do not mix with others.

What runs here without an error moves all that it should to the device and back. Speed, rounding and CUDA's own
limits are left to the tests marked ``gpu``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["pretended_gpu"]

DEVICE = torch.device("cuda:0")
MIXING = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default, torch.ops.aten.index.Tensor)
"""What takes tensors of two devices on a real GPU too."""


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let torch believe in a GPU inside the block."""
    torch._C._ensureCUDADeviceGuardSet()
    with pytest.MonkeyPatch.context() as patch, _Dispatch():
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch, "inference_mode", torch.no_grad)  # its tensors cannot be wrapped
        yield


class _Dispatch(TorchDispatchMode):
    """Sees what is made on the device or moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Pretended(Tensor):
    """A tensor on the device that is none."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _Pretended:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: _Pretended = Tensor._make_wrapper_subclass(cls, held.shape, device=DEVICE, **layout)
        made.held = held
        return made

    def __getitem__(self, key: Any) -> Any:  # torch moves a list by itself, past us
        return super().__getitem__(torch.tensor(key) if isinstance(key, list) else key)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = [value for value in tensors if isinstance(value, _Pretended)]
    elsewhere = [value for value in tensors if not isinstance(value, _Pretended) and value.dim()]
    if there and elsewhere and func not in MIXING:
        raise RuntimeError(f"{func} got tensors of two devices: {[(tuple(v.shape), str(v.device)) for v in tensors]}")
    device = kwargs.get("device")
    lands_there = bool(there) if device is None else torch.device(device).type == DEVICE.type
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if func._schema.is_mutable and func._schema.name.endswith("_"):
        return args[0]
    own = {id(value.held): value for value in there}
    return tree_map(lambda value: _wrapped(value, own), out) if lands_there else out


def _held(value: Any) -> Any:
    return value.held if isinstance(value, _Pretended) else value


def _wrapped(value: Any, own: dict[int, _Pretended]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return own[id(value)] if id(value) in own else _Pretended(value)
