"""Entries that are no numbers: refused with their count and first place, or left out with their whole row.

In similarities -inf is a masked entry; in embeddings it is no number either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from momentret.errors import DataError
from momentret.progress import Progress, silent

if TYPE_CHECKING:
    from momentret.search.hubness.rows import Rows

__all__ = ["BLOCK_BYTES", "all_finite", "invalid_error", "require_finite", "require_no_nan", "valid_rows"]

BLOCK_BYTES = 16 << 20  # one block of similarities: beside it nothing of its size is held


def require_no_nan(block: Tensor, rows: Rows) -> None:
    """Refuse a block of `rows` that holds NaN or +inf; -inf is a masked entry.

    Raises:
        DataError: how many there are in all rows, and where the first one is.
    """
    if bool(block.numel()) and not bool(block.amax() < torch.inf):
        raise invalid_error(rows)


def all_finite(values: Tensor) -> bool:
    """Tell whether all are numbers; the sum, forty times as fast, is a number only if they are."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def require_finite(embeddings: Tensor, name: str) -> None:
    """Refuse embeddings that are not all numbers; `DataError` says how many and where."""
    if not all_finite(embeddings):
        raise _not_numbers([(0, ~embeddings.isfinite())], name, maskable=False)


def invalid_error(rows: Rows, maskable: bool = True) -> DataError:
    """Read all rows and return what is wrong with them; `maskable`: their entries may be masked."""
    return _not_numbers(_masks(rows, silent), rows.name, rows.origin, maskable)


def _not_numbers(
    masks: Iterable[tuple[int, Tensor]],
    name: str,
    origin: Callable[[int], int] = lambda row: row,
    maskable: bool = True,
) -> DataError:
    count, first = 0, None
    for start, mask in masks:
        count += int(mask.sum())
        if first is None and bool(mask.any()):
            row, column = divmod(int(mask.flatten().int().argmax()), mask.shape[1])
            first = (origin(start + row), column)
    if first is None:
        return DataError(f"{name} make products that are no numbers; scale the embeddings down, or use metric cosine")
    hints = ["repair the model's output"]
    hints += ["write -inf where an entry is masked"] if maskable else []
    hints += ["leave such rows out with --nan drop-bank-rows"] if "bank" in name else []
    place = f"first at row {first[0]}, column {first[1]}"
    return DataError(f"{name}: NaN or +inf ({place}; {count} in all); {', or '.join(hints)}")


def valid_rows(rows: Rows, progress: Progress = silent) -> np.ndarray:
    """Read all rows, a block at a time, and return a mask ``(M,)`` of those that are all numbers."""
    return np.concatenate([(~mask.any(1)).cpu().numpy() for _, mask in _masks(rows, progress)])


def _masks(rows: Rows, progress: Progress) -> Iterator[tuple[int, Tensor]]:
    size = rows.block_rows(BLOCK_BYTES)
    starts = range(0, rows.shape[0], size)
    for start in progress(starts, f"checking {rows.name}", len(starts)):
        yield start, rows.invalid(start, min(start + size, rows.shape[0]))
