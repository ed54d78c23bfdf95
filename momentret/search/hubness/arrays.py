"""NumPy and torch arrays as one, exact top-k, and similarities that come in blocks of rows.

Everything of this room computes with torch; what came as NumPy goes back as NumPy. A `Rows` is a matrix
(queries or bank × gallery) of which one block is in memory at a time: a slice of an array, or a product of embeddings.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterator, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from momentret.errors import DataError, MismatchError

__all__ = [
    "BLOCK_BYTES",
    "Array",
    "JoinedRows",
    "MappedPages",
    "MatrixRows",
    "ProductRows",
    "Rows",
    "as_rows",
    "as_tensor",
    "numpy_alike",
    "require_no_nan",
    "top_k",
]

Array = Any
"""A NumPy array, a memory map, an HDF5 data set, or a torch tensor: two axes, numbers."""

BLOCK_BYTES = 16 << 20  # one block of similarities: beside it nothing of its size is held
DROP_BYTES = 64 << 20  # pages of a memory map are given back after so many bytes
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


def require_no_nan(block: Tensor, name: str, first_row: int = 0) -> None:
    """Refuse NaN and +inf; -inf is a masked entry.

    Raises:
        DataError: with the count in this block and the first place.
    """
    if bool(block.numel()) and not bool(block.amax() < torch.inf):
        bad = ~(block < torch.inf)
        row, column = (int(i) for i in bad.nonzero()[0][-2:]) if block.ndim == 2 else (0, int(bad.nonzero()[0]))
        raise DataError(
            f"{name} holds NaN or +inf (first at row {first_row + row}, column {column}; {int(bad.sum())} near it); "
            "repair the model's output, or write -inf where an entry is masked"
        )


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
        """Return one uint64 a row that depends on the row's content alone."""
        ...

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        """Return the entries at the given rows and columns, ``(rows, columns)``."""
        ...

    def part(self, start: int, stop: int) -> Rows:
        """Return rows ``[start, stop)`` as rows of their own."""
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


class MappedPages:
    """The pages of a memory map: asked for before they are needed, given back when they were used.

    Without the first a disk is read page by page at a thirtieth of its speed; without the second every page counts as
    resident. Arrays that are no memory maps are left alone.
    """

    def __init__(self, array: Array) -> None:
        self._map: mmap.mmap | None = getattr(array, "_mmap", None)
        if not hasattr(self._map, "madvise"):  # not on Windows
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


class MatrixRows(_Blocks):
    """Rows of an array: in memory, memory-mapped, or an HDF5 data set."""

    def __init__(self, array: Array, name: str = "the similarities", device: torch.device | str | None = None) -> None:
        _require_matrix(array, name)
        self.array, self.name = array, name
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        double = array.dtype in (torch.float64, np.dtype(np.float64))
        self.dtype = torch.float64 if double else torch.float32
        self.device = torch.device(device or (array.device if isinstance(array, Tensor) else "cpu"))
        self._pages = MappedPages(array)

    def read(self, start: int, stop: int) -> Tensor:
        block = as_tensor(self.array[start:stop]).to(self.device)
        self._pages.touched(block.nbytes)
        return block

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
        size = self.block_rows(block_bytes)
        self._pages.want(0, size)
        for start in range(0, self.shape[0], size):
            self._pages.want(start + size, min(start + 2 * size, self.shape[0]))
            yield start, self.read(start, min(start + size, self.shape[0]))

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        places, parts = torch.from_numpy(columns).to(self.device), []
        for i in rows.tolist():
            self._pages.want(i, i + 1)
            parts.append(self.read(i, i + 1)[:, places])
        return torch.cat(parts)

    def part(self, start: int, stop: int) -> Rows:
        return MatrixRows(self.array[start:stop], self.name, self.device)

    def keys(self, start: int, stop: int) -> np.ndarray:
        step = -(-self.shape[1] // 64)
        return _row_keys(as_tensor(self.array[start:stop])[:, ::step])


class ProductRows(_Blocks):
    """Rows of ``left @ right.T``, computed block by block: embeddings ``(M, D)`` against a gallery ``(N, D)``.

    Args:
        left: embeddings of queries or of a bank.
        right: embeddings of the gallery.
        metric: ``"cosine"`` normalises both (the gallery is then copied once), ``"dot"`` takes them as they are.
        name: what the rows are, for messages.
        device: where the products are computed; default: where `right` lies.
    """

    def __init__(
        self,
        left: Array,
        right: Array,
        metric: str = "cosine",
        name: str = "the embeddings",
        device: torch.device | str | None = None,
    ) -> None:
        _require_matrix(left, name)
        _require_matrix(right, "the gallery")
        if left.shape[1] != right.shape[1]:
            raise MismatchError(
                f"{name} have shape {tuple(left.shape)}, the gallery {tuple(right.shape)}: widths differ"
            )
        if metric not in ("cosine", "dot"):
            raise ValueError(f"metric is {metric!r}, expected 'cosine' or 'dot'")
        self.left, self.metric, self.name = left, metric, name
        self.device = torch.device(device or (right.device if isinstance(right, Tensor) else "cpu"))
        self.right = as_tensor(right, self.device)
        self.dtype = self.right.dtype
        require_no_nan(self.right, "the gallery")
        if metric == "cosine":
            self.right = unit_rows(self.right, "the gallery")
        self.shape = (int(left.shape[0]), int(right.shape[0]))

    def embeddings(self, start: int, stop: int) -> Tensor:
        """Return rows ``[start, stop)`` of the left embeddings as they enter the product."""
        rows = as_tensor(self.left[start:stop], self.device).to(self.dtype)
        require_no_nan(rows, self.name, start)
        return unit_rows(rows, self.name, start) if self.metric == "cosine" else rows

    def read(self, start: int, stop: int) -> Tensor:
        return self.embeddings(start, stop) @ self.right.T

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, Tensor]]:
        size = self.block_rows(block_bytes)
        buffer = torch.empty(size, self.shape[1], dtype=self.dtype, device=self.device)  # one for all: no new pages
        for start in range(0, self.shape[0], size):
            left = self.embeddings(start, min(start + size, self.shape[0]))
            yield start, torch.mm(left, self.right.T, out=buffer[: len(left)])

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        left = torch.cat([self.embeddings(i, i + 1) for i in rows])
        return left @ self.right[torch.from_numpy(columns).to(self.device)].T

    def part(self, start: int, stop: int) -> Rows:
        return ProductRows(self.left[start:stop], self.right, self.metric, self.name)

    def keys(self, start: int, stop: int) -> np.ndarray:
        return _row_keys(as_tensor(self.left[start:stop]))


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
        return torch.cat([part.read(start, stop).to(self.dtype) for part in self.parts], dim=1)

    def sample(self, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        inside = columns < self.parts[0].shape[1]
        right = self.parts[1].sample(rows, columns[~inside] - self.parts[0].shape[1])
        return torch.cat([self.parts[0].sample(rows, columns[inside]), right], dim=1)

    def part(self, start: int, stop: int) -> Rows:
        return JoinedRows(*(part.part(start, stop) for part in self.parts))

    def keys(self, start: int, stop: int) -> np.ndarray:
        return self.parts[0].keys(start, stop)


def as_rows(source: Array | Rows, name: str = "the similarities") -> Rows:
    """Return `source` if it comes in rows already, else rows of the array."""
    return source if hasattr(source, "blocks") else MatrixRows(source, name)


def unit_rows(rows: Tensor, name: str, first_row: int = 0) -> Tensor:
    """Return rows of length 1.

    Raises:
        DataError: a row is zero, with its number.
    """
    norms = rows.norm(dim=1, keepdim=True)
    zero = (norms[:, 0] == 0).nonzero()[:, 0]
    if len(zero):
        shown = ", ".join(str(first_row + int(i)) for i in zero[:5])
        raise DataError(f"{name} has zero vectors (row {shown}), which have no cosine; remove them or use metric dot")
    return rows / norms


def _require_matrix(array: Array, name: str) -> None:
    shape: Sequence[int] = tuple(array.shape)
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{name} has shape {tuple(shape)}, expected two axes, none of them empty")


def _row_keys(rows: Tensor) -> np.ndarray:
    """Hash every row: the same numbers give the same key wherever they stand."""
    bits = np.ascontiguousarray(rows.float().cpu().numpy()).view(np.uint32).astype(np.uint64)
    weights = np.random.default_rng(0).integers(1, 1 << 62, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    keys = (bits * weights).sum(axis=1)  # modulo 2**64
    mixed: np.ndarray = (keys ^ (keys >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return mixed
