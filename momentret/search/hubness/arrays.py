"""NumPy and torch arrays as one, and exact top-k.

Everything of this room computes with torch; what came as NumPy goes back as NumPy. Matrices in blocks: `rows`.
"""

from __future__ import annotations

import mmap
import warnings
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from momentret.errors import DataError

__all__ = [
    "Array",
    "MappedPages",
    "PickedArray",
    "TurnedArray",
    "as_tensor",
    "count_listed",
    "numpy_alike",
    "origin",
    "pick_rows",
    "top_k",
    "uncorrected",
]

Array = Any
"""A NumPy array, a memory map, an HDF5 data set, or a torch tensor: two axes, numbers."""

DROP_BYTES = 64 << 20  # pages of a memory map are given back after so many bytes
TILE_BYTES = 8 << 20  # of pages, turned at a time
AROUND_BYTES = 1 << 16  # what the system maps around a page that is read
GROUPS = 64  # of columns, in `top_k`

F = TypeVar("F")


def as_tensor(array: Array, device: torch.device | str | None = None) -> Tensor:
    """Return float32 or float64 numbers as a tensor, without a copy where none is needed.

    float16, bfloat16, bool and integers become float32; a read-only array is shared and must not be written to.

    Raises:
        DataError: complex numbers, text or objects.
    """
    if isinstance(array, Tensor):
        if array.is_complex():
            raise DataError(f"an array holds {array.dtype} numbers, expected real ones")
        keep = array.dtype in (torch.float32, torch.float64, torch.bool)
        array = array if keep else array.float()
        return array if device is None else array.to(device)
    values = np.asarray(array)
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise DataError(f"an array holds {values.dtype} values, expected real numbers")
    if values.dtype.kind != "f" or values.dtype.itemsize == 2:
        values = values.astype(np.float32)
    if not values.dtype.isnative or any(step < 0 for step in values.strides):
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a read-only array; nothing here writes to its inputs
        tensor = torch.from_numpy(values)
    return tensor if device is None else tensor.to(device)


class PickedArray:
    """Some rows of an array, read when they are asked for, so that what is on disk stays there."""

    def __init__(self, array: Array, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows
        self.shape, self.dtype = (len(rows), *array.shape[1:]), array.dtype

    def __getitem__(self, part: slice) -> Array:
        rows = self.rows[part]
        if not len(rows):
            return self.array[:0]
        first, last = int(rows[0]), int(rows[-1]) + 1
        if last - first == len(rows):
            return self.array[first:last]
        if last - first <= 2 * len(rows):  # in one piece, which files read faster than one row at a time
            return self.array[first:last][rows - first]
        return self.array[rows]


def pick_rows(array: Array, rows: np.ndarray) -> PickedArray:
    """Return the rows of an array at rising positions."""
    return PickedArray(array.array, array.rows[rows]) if isinstance(array, PickedArray) else PickedArray(array, rows)


def origin(array: Array, row: int) -> int:
    """Return the position of a row in the array that rows were picked from."""
    return int(array.rows[row]) if isinstance(array, PickedArray) else row


class TurnedArray:
    """The columns of an array on disk as rows, copied some at a time when they are asked for."""

    def __init__(self, array: Array) -> None:
        self.array, self.dtype = array, array.dtype
        self.shape = (int(array.shape[1]), int(array.shape[0]))
        self._pages = MappedPages(array)

    def __getitem__(self, part: Any) -> np.ndarray:
        if not isinstance(part, slice):
            chosen: np.ndarray = self.array[:].T[part]
            return chosen
        columns = range(*part.indices(self.shape[0]))
        out = np.empty((len(columns), self.shape[1]), self.dtype)
        width = max(out[:, :1].nbytes, AROUND_BYTES)  # of a row
        step = max(1, TILE_BYTES // width)
        for start in range(0, self.shape[1], step):
            out[:, start : start + step] = self.array[start : start + step, part].T
            self._pages.touched(step * width)
        return out


class MappedPages:
    """The pages of a memory map: asked for before they are needed, given back when they were used.

    Without the first a disk is read page by page at a thirtieth of its speed; without the second every page counts as
    resident. Arrays that are no memory maps are left alone, and so are maps whose changes are in memory alone (mode
    ``c``): giving those pages back would undo the changes.
    """

    def __init__(self, array: Array) -> None:
        self._map: mmap.mmap | None = getattr(array, "_mmap", None)
        if not hasattr(self._map, "madvise") or array.mode == "c":  # not on Windows
            self._map = None
        self._array, self._bytes = array, 0

    def want(self, start: int, stop: int) -> None:
        """Let the system begin to read rows ``[start, stop)``."""
        if self._map is not None and start < stop and self._array.flags.c_contiguous:
            first = np.frombuffer(self._map, np.uint8).ctypes.data
            rows = self._array[start:stop]
            begin = (rows.ctypes.data - first) // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, begin, rows.ctypes.data + rows.nbytes - first - begin)

    def touched(self, count: int) -> None:
        """Note that `count` bytes were read or written."""
        self._bytes += count
        if self._map is not None and self._bytes > DROP_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._bytes = 0


def numpy_alike(function: F) -> F:
    """Let a function of tensors take NumPy arrays too; then its tensors come back as NumPy arrays."""

    @wraps(function)  # type: ignore[arg-type]
    def call(*arguments: Any, **options: Any) -> Any:
        arrays = [value for value in (*arguments, *options.values()) if _is_array(value)]
        tensors = [as_tensor(value) if _is_array(value) else value for value in arguments]
        result = function(*tensors, **{k: as_tensor(v) if _is_array(v) else v for k, v in options.items()})  # type: ignore[operator]
        return result if any(isinstance(value, Tensor) for value in arrays) else _to_numpy(result)

    return call  # type: ignore[return-value]


def _is_array(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "b"  # a mask stays one
    return isinstance(value, Tensor)


def _to_numpy(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_numpy(part) for part in value)
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def uncorrected(bias: Tensor, masked: Tensor) -> Tensor:
    """Return the bias with the mean of the others where an item is masked: centred that is 0, no correction."""
    return torch.where(masked, bias[~masked].mean().nan_to_num(), bias) if bool(masked.any()) else bias


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest entries of every row, best first; of equal ones the lowest index.

    Args:
        scores: ``(B, N)``, no NaN.
        k: at least 1; clipped to N.

    Returns:
        values ``(B, k)`` and int64 indices ``(B, k)``.
    """
    k = min(k, scores.shape[1])
    if k == 1 and scores.device.type == "cpu":
        best = torch.from_numpy(scores.numpy().argmax(axis=1))[:, None]  # the first of equals; five times torch's speed
        return scores.gather(1, best), best
    values, indices, unsure = _top_k_of_groups(scores, k)
    if bool(unsure.any()):
        ordered, places = scores[unsure].sort(dim=1, descending=True, stable=True)
        values[unsure], indices[unsure] = ordered[:, :k], places[:, :k]
    return values, indices


def count_listed(values: Tensor, places: Tensor, width: int) -> Tensor:
    """Return in how many lists of `top_k` every column is, ``(width,)`` int64; a masked entry (-inf) is in none."""
    return places[values > -torch.inf].bincount(minlength=width)


def _top_k_of_groups(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the top k within the k groups of columns of the largest maxima; also says which rows have ties.

    Column j belongs to group j % G: the maxima of all groups are one vectorised pass, and all but k groups drop out.
    """
    rows, width = scores.shape
    groups = max(GROUPS, 8 * k)
    depth = width // groups  # columns of a group; the rest of the columns are candidates anyway
    if depth < 4:
        values, indices = scores.topk(min(k + 1, width), dim=1)
        return values[:, :k], indices[:, :k], _has_ties(values)
    maxima = scores[:, : depth * groups].view(rows, depth, groups).amax(1)  # (B, G)
    chosen = maxima.topk(k, dim=1).indices  # (B, k)
    columns = chosen[:, None] + groups * torch.arange(depth, device=scores.device)[:, None]  # (B, depth, k)
    rest = torch.arange(depth * groups, width, device=scores.device).expand(rows, -1)
    columns = torch.cat([columns.flatten(1), rest], dim=1)
    values, places = scores.gather(1, columns).topk(k + 1, dim=1)
    outside = (maxima >= values[:, k - 1 : k]).sum(1) > k  # a group left out holds an equal of the k-th value
    return values[:, :k], columns.gather(1, places[:, :k]), _has_ties(values) | outside


def _has_ties(values: Tensor) -> Tensor:
    return (values[:, 1:] == values[:, :-1]).any(1)
