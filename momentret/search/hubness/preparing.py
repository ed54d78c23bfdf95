"""What is done with banks before they are used: a sample of their rows, holes and repetitions left out, products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from momentret.errors import ConfigError, DataError
from momentret.progress import Progress, silent
from momentret.search.hubness.rows import ProductRows, Rows, row_keys
from momentret.search.hubness.validity import BLOCK_BYTES, valid_rows

if TYPE_CHECKING:
    from momentret.search.hubness.opening import Inputs

__all__ = ["DUPLICATES", "NAN", "Preparing", "prepare_banks"]

NAN = ("error", "drop-bank-rows")
DUPLICATES = ("auto", "drop", "keep")
PARALLEL = {"query_bank": ("query_bank", "cross_bank"), "gallery_bank": ("gallery_bank",)}  # of the same bank items


@dataclass(frozen=True)
class Preparing:
    """How banks are prepared, and where everything is computed."""

    nan: str = "error"
    """``drop-bank-rows`` leaves bank rows with NaN or +inf out; anywhere else they stay an error."""
    duplicates: str = "auto"
    """Bank rows that repeat another, and so count as often: ``drop`` them, ``keep`` them, or ``auto``: drop them where
    they are embeddings; a bank of similarities would have to be read twice."""
    sample: int | None = None
    """Use so many rows of each bank, drawn at random; None: all."""
    seed: int = 0
    cross: bool = False
    """Compare banks of embeddings with each other too (dbsn)."""
    device: str = "cpu"
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.nan not in NAN:
            raise ConfigError(f"--nan is {self.nan!r}, expected {' or '.join(NAN)}")
        if self.duplicates not in DUPLICATES:
            raise ConfigError(f"--duplicates is {self.duplicates!r}, expected {', '.join(DUPLICATES)}")


def prepare_banks(rows: dict[str, Rows], inputs: Inputs, preparing: Preparing) -> None:
    """Replace the banks among `rows` by what is used of them; what was left out goes into the inputs' facts."""
    for bank, names in PARALLEL.items():
        parts = [rows[name] for name in names if name in rows]
        if bank in rows:
            kept = _kept(parts, inputs.facts[bank], inputs, preparing)
            if len(kept) < rows[bank].shape[0]:
                rows.update({name: rows[name].pick(kept) for name in names if name in rows})
    query, gallery = rows.get("query_bank"), rows.get("gallery_bank")
    if preparing.cross and isinstance(query, ProductRows) and isinstance(gallery, ProductRows):
        right = gallery.left[:]
        rows["cross_bank"] = ProductRows(
            query.left, right, query.metric, "the cross bank", preparing.device, gallery.name
        )


def _kept(parts: Sequence[Rows], facts: dict[str, Any], inputs: Inputs, preparing: Preparing) -> np.ndarray:
    """Return the positions of the rows that are used."""
    size = parts[0].shape[0]
    kept: np.ndarray = np.arange(size)
    if preparing.sample is not None and preparing.sample < size:
        kept = np.sort(np.random.default_rng(preparing.seed).choice(size, preparing.sample, replace=False))
        facts["sampled_rows"] = {"count": len(kept), "seed": preparing.seed}
        parts = [part.pick(kept) for part in parts]
    if preparing.nan != "error":
        good = np.logical_and.reduce([valid_rows(part, preparing.progress) for part in parts])
        kept = _leave_out(~good, kept, "hold NaN or +inf", "dropped_rows", parts[0].name, facts, inputs)
        parts = [part.pick(np.flatnonzero(good)) for part in parts]
    if preparing.duplicates == "drop" or (preparing.duplicates == "auto" and isinstance(parts[0], ProductRows)):
        repeated = _repeats(parts[0])
        kept = _leave_out(repeated, kept, "repeat another", "duplicates_removed", parts[0].name, facts, inputs)
    return kept


def _leave_out(
    bad: np.ndarray, kept: np.ndarray, what: str, fact: str, name: str, facts: dict[str, Any], inputs: Inputs
) -> np.ndarray:
    """Return the positions without the bad ones, which are counted and warned of."""
    dropped = kept[bad]
    facts[fact] = {"count": len(dropped), "first": int(dropped[0]) if len(dropped) else None}
    if len(dropped) == len(kept):
        raise DataError(f"{name}: all {len(kept)} rows {what}, so no bank is left; repair the model's output")
    if len(dropped):
        inputs.warn(f"{name}: {len(dropped)} of {len(kept)} rows {what} (first: row {dropped[0]}): left out")
    return kept[~bad]


def _repeats(rows: Rows) -> np.ndarray:
    """Return a mask of the rows that are equal to an earlier one, as float32 numbers and in every column."""
    if isinstance(rows, ProductRows):
        size = rows.block_rows(BLOCK_BYTES)
        keys = [rows.keys(start, min(start + size, rows.shape[0])) for start in range(0, rows.shape[0], size)]
    else:
        keys = [row_keys(block) for _, block in rows.blocks()]
    repeated = np.ones(rows.shape[0], dtype=bool)
    repeated[np.unique(np.concatenate(keys), return_index=True)[1]] = False
    return repeated
