"""Similarities that come in blocks of rows: queries or a bank × gallery, of which one block is in memory at a time.

A slice of an array, a product of embeddings, or two of them side by side. What is no number is refused, or left out
with its whole row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from momentret.errors import DataError, MismatchError
from momentret.search.hubness.arrays import Array, MappedPages, PickedArray, as_tensor, origin, pick_rows
from momentret.search.hubness.validity import BLOCK_BYTES, all_finite, invalid_error, require_finite, require_no_nan

__all__ = [
    "BLOCK_BYTES",
    "JoinedRows",
    "MatrixRows",
    "ProductRows",
    "Rows",
    "as_rows",
    "content_hash",
    "row_keys",
    "unit_rows",
]


class Rows(Protocol):
    """A matrix of similarities that is read in blocks of whole rows."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    name: str

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows ``[start, stop)`` as a ``(rows, N)`` tensor that the caller may not write to."""
        ...

    def keys(self, start: int, stop: int) -> np.ndarray:
        """Return one uint64 a row that depends on the row's content alone; of a matrix some columns have to do."""
        ...

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        """Return the entries at the given rows and columns, ``(rows, columns)``."""
        ...

    def pick(self, rows: np.ndarray) -> Rows:
        """Return the rows at rising positions as rows of their own; what is on disk stays there."""
        ...

    def origin(self, row: int) -> int:
        """Return the position of a row in the input that the rows were picked from."""
        ...

    def invalid(self, start: int, stop: int) -> Tensor:
        """Return where rows ``[start, stop)``, or the embeddings they come from, are not numbers: a mask."""
        ...

    def block_rows(self, block_bytes: int) -> int:
        """Return how many rows make a block of that size."""
        ...

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(first row, block)`` from top to bottom; a block lasts until the next one is asked for."""
        ...


class _Blocks:
    shape: tuple[int, int]
    dtype: torch.dtype

    def read(self, start: int, stop: int) -> Tensor:  # every kind of rows has its own
        raise NotImplementedError

    def block_rows(self, block_bytes: int) -> int:
        """Return how many rows make a block of that size."""
        return max(1, min(self.shape[0], block_bytes // (self.shape[1] * self.dtype.itemsize)))

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
        size = self.block_rows(block_bytes)
        for start in range(0, self.shape[0], size):
            yield start, self.read(start, min(start + size, self.shape[0]))


class MatrixRows(_Blocks):
    """Rows of an array: in memory, memory-mapped, or an HDF5 data set."""

    def __init__(self, array: Array, name: str = "the similarities", device: torch.device | str | None = None) -> None:
        _require_matrix(array, name)
        self.array, self.name = array, name
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        double = array.dtype in (torch.float64, np.dtype(np.float64))
        self.dtype = torch.float64 if double else torch.float32
        self.device = torch.device(device or (array.device if isinstance(array, Tensor) else "cpu"))
        self._pages = MappedPages(array.array if isinstance(array, PickedArray) else array)

    def _want(self, start: int, stop: int) -> None:
        if start < stop:
            self._pages.want(self.origin(start), self.origin(stop - 1) + 1)

    def read(self, start: int, stop: int) -> Tensor:
        block = as_tensor(self.array[start:stop]).to(self.device)
        self._pages.touched(block.nbytes)
        return block

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
        size = self.block_rows(block_bytes)
        self._want(0, size)
        for start in range(0, self.shape[0], size):
            self._want(start + size, min(start + 2 * size, self.shape[0]))
            yield start, self.read(start, min(start + size, self.shape[0]))

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        places, parts = torch.from_numpy(columns).to(self.device), []
        for i in rows.tolist():
            self._want(i, i + 1)
            parts.append(self.read(i, i + 1)[:, places])
        return torch.cat(parts)

    def pick(self, rows: np.ndarray) -> Rows:
        return MatrixRows(pick_rows(self.array, rows), self.name, self.device)

    def origin(self, row: int) -> int:
        return origin(self.array, row)

    def invalid(self, start: int, stop: int) -> Tensor:
        return ~(self.read(start, stop) < torch.inf)  # -inf is a masked entry

    def keys(self, start: int, stop: int) -> np.ndarray:
        rows = as_tensor(self.array[start:stop])
        some = rows[:, :: -(-self.shape[1] // 64)]
        keys, alike = row_keys(some), (some == some[:, :1]).all(1).cpu()
        if bool(alike.any()):  # masked ones, for instance, which say nothing of the row
            keys[alike.numpy()] = row_keys(rows[alike])
        return keys


class ProductRows(_Blocks):
    """Rows of ``left @ right.T``, computed block by block: embeddings ``(M, D)`` against a gallery ``(N, D)``.

    Args:
        left: embeddings of queries or of a bank.
        right: embeddings of the gallery.
        metric: ``"cosine"`` normalises both (the gallery is then copied once), ``"dot"`` takes them as they are.
        name: what the rows are, for messages.
        device: where the products are computed; default: where `right` lies.
        right_name: what the gallery is, for messages.
    """

    def __init__(
        self,
        left: Array,
        right: Array,
        metric: str = "cosine",
        name: str = "the embeddings",
        device: torch.device | str | None = None,
        right_name: str = "the gallery",
    ) -> None:
        _require_matrix(right, right_name)
        if metric not in ("cosine", "dot"):
            raise ValueError(f"metric is {metric!r}, expected 'cosine' or 'dot'")
        self.metric, self.right_name = metric, right_name
        self.device = torch.device(device or (right.device if isinstance(right, Tensor) else "cpu"))
        self.right = as_tensor(right, self.device)
        self.dtype = self.right.dtype
        require_finite(self.right, right_name)
        if metric == "cosine":
            self.right = unit_rows(self.right, right_name)
        self._take(left, name)

    def _take(self, left: Array, name: str) -> None:
        _require_matrix(left, name)
        if left.shape[1] != self.right.shape[1]:
            shapes = f"{tuple(left.shape)}, {self.right_name} {tuple(self.right.shape)}"
            raise MismatchError(f"{name} have shape {shapes}: widths differ")
        self.left, self.name = left, name
        self.shape = (int(left.shape[0]), int(self.right.shape[0]))

    def beside(self, left: Array, name: str) -> ProductRows:
        """Return the products of other embeddings with the same gallery, which is shared."""
        other = copy(self)
        other._take(left, name)
        return other

    def embeddings(self, start: int, stop: int) -> Tensor:
        """Return rows ``[start, stop)`` of the left embeddings as they enter the product."""
        rows = as_tensor(self.left[start:stop], self.device).to(self.dtype)
        if not all_finite(rows):
            raise invalid_error(self, maskable=False)
        return unit_rows(rows, self.name, lambda i: self.origin(start + i)) if self.metric == "cosine" else rows

    def origin(self, row: int) -> int:
        return origin(self.left, row)

    def invalid(self, start: int, stop: int) -> Tensor:
        return ~as_tensor(self.left[start:stop], self.device).to(self.dtype).isfinite()

    def read(self, start: int, stop: int) -> Tensor:
        return self.embeddings(start, stop) @ self.right.T

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
        size = self.block_rows(block_bytes)
        buffer = torch.empty(size, self.shape[1], dtype=self.dtype, device=self.device)  # one for all: no new pages
        for start in range(0, self.shape[0], size):
            left = self.embeddings(start, min(start + size, self.shape[0]))
            yield start, torch.mm(left, self.right.T, out=buffer[: len(left)])

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        left = self.pick(rows).embeddings(0, len(rows))
        return left @ self.right[torch.from_numpy(columns).to(self.device)].T

    def pick(self, rows: np.ndarray) -> ProductRows:
        return self.beside(pick_rows(self.left, rows), self.name)

    def keys(self, start: int, stop: int) -> np.ndarray:
        return row_keys(as_tensor(self.left[start:stop]))


class JoinedRows(_Blocks):
    """Two matrices with the same rows, side by side."""

    def __init__(self, left: Rows, right: Rows) -> None:
        if left.shape[0] != right.shape[0]:
            raise MismatchError(
                f"{left.name} have {left.shape[0]} rows, {right.name} {right.shape[0]}: expected as many"
            )
        self.parts = (left, right)
        self.shape = (left.shape[0], left.shape[1] + right.shape[1])
        self.dtype, self.device, self.name = left.dtype, left.device, left.name

    def read(self, start: int, stop: int) -> Tensor:
        blocks = [part.read(start, stop).to(self.dtype) for part in self.parts]
        for block, part in zip(blocks, self.parts, strict=True):
            require_no_nan(block, part)  # here it still has its own name
        return torch.cat(blocks, dim=1)

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        inside = columns < self.parts[0].shape[1]
        right = self.parts[1].sample(rows, columns[~inside] - self.parts[0].shape[1])
        return torch.cat([self.parts[0].sample(rows, columns[inside]), right], dim=1)

    def pick(self, rows: np.ndarray) -> Rows:
        return JoinedRows(*(part.pick(rows) for part in self.parts))

    def origin(self, row: int) -> int:
        return self.parts[0].origin(row)

    def invalid(self, start: int, stop: int) -> Tensor:
        return torch.cat([part.invalid(start, stop) for part in self.parts], dim=1)

    def keys(self, start: int, stop: int) -> np.ndarray:
        return self.parts[0].keys(start, stop)


def as_rows(source: Array | Rows, name: str = "the similarities") -> Rows:
    """Return `source` if it comes in rows already, else rows of the array."""
    return source if hasattr(source, "blocks") else MatrixRows(source, name)


def unit_rows(rows: Tensor, name: str, origin: Callable[[int], int] = lambda row: row) -> Tensor:
    """Return rows of length 1.

    Raises:
        DataError: a row is zero, with its number.
    """
    norms = rows.norm(dim=1, keepdim=True)
    zero = (norms[:, 0] == 0).nonzero()[:, 0]
    if len(zero):
        shown = ", ".join(str(origin(int(i))) for i in zero[:5])
        raise DataError(f"{name} has zero vectors (row {shown}), which have no cosine; remove them or use metric dot")
    return rows / norms


def _require_matrix(array: Array, name: str) -> None:
    shape: Sequence[int] = tuple(array.shape)
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{name} has shape {tuple(shape)}, expected two axes, none of them empty")


def row_keys(rows: Tensor) -> np.ndarray:
    """Hash every row: the same numbers give the same key wherever they stand."""
    bits = np.ascontiguousarray(rows.float().cpu().numpy()).view(np.uint32).astype(np.uint64)
    weights = np.random.default_rng(0).integers(1, 1 << 62, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    keys = (bits * weights).sum(axis=1)  # modulo 2**64
    mixed: np.ndarray = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return mixed


def content_hash(array: Array) -> str:
    """Return a hash of the float32 numbers of a matrix, whatever file and format they come from."""
    digest, size = hashlib.sha256(), max(1, BLOCK_BYTES // (8 * array.shape[1]))
    for start in range(0, array.shape[0], size):
        digest.update(row_keys(as_tensor(array[start : start + size])).tobytes())
    return digest.hexdigest()
