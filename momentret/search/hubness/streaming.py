"""The sums that bank methods need, in one pass over the rows of a bank; never more than one block in memory.

For every gallery item: log-sum-exp states at any number of temperatures, split over eight sub-banks; its k best bank
similarities; in how many bank rows it is among the best. States of two banks can be merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from momentret.errors import DataError
from momentret.progress import Progress, silent
from momentret.search.hubness.arrays import count_listed, top_k, uncorrected
from momentret.search.hubness.methods import top_mean
from momentret.search.hubness.rows import Rows
from momentret.search.hubness.validity import BLOCK_BYTES, require_no_nan

__all__ = ["SUB_BANKS", "BankSums", "collect", "half_biases", "merge", "sample_sigma", "sinkhorn_bias"]

SUB_BANKS = 8  # 35 ways to cut them into halves
CACHE_ELEMENTS = 1 << 18  # of float32 are 1 MB: the passes over a strip stay in the cache
SAMPLE = (512, 1024)  # rows and columns that a temperature is estimated from
_TINY = 1e-38


@dataclass(frozen=True)
class BankSums:
    """What one bank says about every gallery item.

    ``sums[i, h, j] = sum over rows b of sub-bank h of exp(betas[i] * (P_bj - reference_j))``.
    """

    betas: tuple[float, ...]
    rows: int
    reference: Tensor
    """``(N,)`` float64, -inf where every entry was masked."""
    sums: Tensor
    """``(betas, SUB_BANKS or 1, N)`` float64."""
    keys: np.ndarray
    """One uint64 a row; equal rows have equal keys."""
    members: np.ndarray
    """The sub-bank of every row; equal rows share one."""
    best: Tensor | None = None
    """``(k, N)``, the largest entries of every column, in no order beyond that."""
    hits: Tensor | None = None
    """``(N,)`` int64: rows in whose top k the item is."""

    def bias(self, i: int = 0) -> Tensor:
        """Return the IS bias at ``betas[i]``, ``(N,)`` float64, not centred; see `arrays.uncorrected`."""
        return _bias(self.reference, self.sums[i].sum(0), self.betas[i])

    def top_mean(self, k: int) -> Tensor:
        """Return the mean of the k largest entries of every column, ``(N,)`` float64; see `methods.top_mean`."""
        assert self.best is not None
        return top_mean(self.best.double(), k)

    @property
    def duplicates(self) -> int:
        """Rows that repeat another row."""
        return self.rows - len(np.unique(self.keys))


def collect(
    rows: Rows,
    betas: Sequence[float],
    top: int = 0,
    activation: int = 0,
    split: bool = True,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = silent,
) -> BankSums:
    """Read a bank once.

    Args:
        rows: bank × gallery.
        betas: inverse temperatures of the log-sum-exp states, at least one.
        top: keep so many of the largest entries of every column.
        activation: count items in the top so many of every row.
        split: keep the sub-banks apart, for `half_biases`.
        block_bytes: size of a block; changes no result beyond rounding.
        progress: wraps the loop.

    Raises:
        DataError: NaN or +inf, with the first place.
    """
    width = rows.shape[1]
    reference = torch.full((width,), -torch.inf, dtype=torch.float64, device=rows.device)
    sums = torch.zeros(len(betas), SUB_BANKS if split else 1, width, dtype=torch.float64, device=rows.device)
    best = torch.empty(0, width, dtype=rows.dtype, device=rows.device) if top else None
    hits = torch.zeros(width, dtype=torch.int64, device=rows.device) if activation else None
    keys: list[np.ndarray] = []
    members: list[np.ndarray] = []
    first: dict[int, int] = {}
    total = -(-rows.shape[0] // max(1, block_bytes // (width * rows.dtype.itemsize)))
    for start, block in progress(rows.blocks(block_bytes), f"reading {rows.name}", total):
        keys.append(rows.keys(start, start + len(block)))
        members.append(_sub_banks(keys[-1], start, first))
        reference = _add_exponentials(block, members[-1], reference, sums, betas, rows)
        if hits is not None:
            for strip in block.split(_strip_rows(block)):
                hits += count_listed(*top_k(strip, activation), width)
        if best is not None:
            merged = torch.cat([best, block])
            best = merged.topk(min(top, len(merged)), dim=0, sorted=False).values
    return BankSums(
        tuple(betas), rows.shape[0], reference, sums, np.concatenate(keys), np.concatenate(members), best, hits
    )


def _add_exponentials(
    block: Tensor,
    members: np.ndarray,
    reference: Tensor,
    sums: Tensor,
    betas: Sequence[float],
    rows: Rows,
) -> Tensor:
    """Add a block to `sums`; returns the reference, raised where it had to be.

    The maximum of the first block serves as reference as long as nothing overflows: a pass less over all later blocks.
    """
    unseen = reference.isneginf()  # their sums are 0, the others' belong to their reference
    if bool(unseen.any()):
        reference = torch.where(unseen, block.amax(0).double(), reference)
    member = _membership(members).to(block) if sums.shape[1] > 1 else None  # (SUB_BANKS, rows)
    parts = _exponentials(block, member, reference, betas)
    if not bool(parts.isfinite().all()):
        require_no_nan(block, rows)
        raised = torch.maximum(reference, block.amax(0).double())
        for i, beta in enumerate(betas):
            sums[i] *= torch.nan_to_num(beta * (reference - raised), nan=0.0).exp()  # nan: both -inf, and sums are 0
        reference = raised
        parts = _exponentials(block, member, reference, betas)
    sums += parts
    return reference


def _exponentials(block: Tensor, member: Tensor | None, reference: Tensor, betas: Sequence[float]) -> Tensor:
    """Return the block's share of the sums, ``(betas, SUB_BANKS or 1, N)`` float64.

    They are powers of two, which torch computes three times as fast as those of e; what the offsets lose to rounding
    is the same for a whole column and is put back at the end.
    """
    shift = torch.where(reference.isneginf(), 0.0, reference)
    parts = block.new_zeros(len(betas), 1 if member is None else len(member), block.shape[1])
    size = _strip_rows(block)
    buffer = block.new_empty(size, block.shape[1])
    rates = [float(torch.tensor(beta / math.log(2), dtype=block.dtype)) for beta in betas]
    offsets = [(-rate * shift).to(block.dtype) for rate in rates]
    for start in range(0, len(block), size):
        strip = block[start : start + size]
        powers = buffer[: len(strip)]
        for part, rate, offset in zip(parts, rates, offsets, strict=True):
            torch.add(offset, strip, alpha=rate, out=powers).exp2_()
            if member is None:
                part[0] += powers.sum(0)
            else:
                part.addmm_(member[:, start : start + size], powers)
    lost = torch.stack([offset + rate * shift for rate, offset in zip(rates, offsets, strict=True)])  # float64
    return parts.double() * (-lost).exp2()[:, None]


def _sub_banks(keys: np.ndarray, start: int, first: dict[int, int]) -> np.ndarray:
    """Shuffle rows into sub-banks by their number; a repeated row goes where its first one went.

    Similarities and the embeddings they come from are cut alike, and so is a bank at any scale.
    """
    rows = np.array([first.setdefault(key, start + i) for i, key in enumerate(keys.tolist())], np.uint64)
    mixed: np.ndarray = (rows + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(61)).astype(np.int64)


def _membership(members: np.ndarray) -> Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(members), SUB_BANKS).T


def _strip_rows(block: Tensor) -> int:
    return len(block) if block.is_cuda else max(1, min(len(block), CACHE_ELEMENTS // block.shape[1]))


def _bias(reference: Tensor, total: Tensor, beta: float) -> Tensor:
    return uncorrected(reference + total.clamp(min=_TINY).log() / beta, reference.isneginf())


def merge(first: BankSums, second: BankSums) -> BankSums:
    """Return the sums of two banks of one gallery together."""
    if first.betas != second.betas or first.reference.shape != second.reference.shape:
        raise ValueError(
            f"banks at betas {first.betas} and {second.betas}, of {len(first.reference)} and {len(second.reference)} "
            "gallery items: expected the same"
        )
    reference = torch.maximum(first.reference, second.reference)
    betas = torch.tensor(first.betas, dtype=torch.float64, device=reference.device)[:, None, None]
    sums = sum(
        part.sums * torch.nan_to_num(betas * (part.reference - reference), nan=0.0).exp() for part in (first, second)
    )
    best = hits = None
    if first.best is not None and second.best is not None:
        joined = torch.cat([first.best, second.best])
        best = joined.topk(min(len(joined), max(len(first.best), len(second.best))), dim=0).values
    if first.hits is not None and second.hits is not None:
        hits = first.hits + second.hits
    keys, members = (np.concatenate([getattr(part, name) for part in (first, second)]) for name in ("keys", "members"))
    rows = first.rows + second.rows
    return BankSums(first.betas, rows, reference, torch.as_tensor(sums), keys, members, best, hits)


def half_biases(bank: BankSums, i: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return the IS biases of all pairs of complementary halves of the bank, 4 sub-banks each, neither empty."""
    filled = np.bincount(bank.members, minlength=SUB_BANKS) > 0
    pairs: list[tuple[Tensor, Tensor]] = []
    for rest in combinations(range(1, SUB_BANKS), SUB_BANKS // 2 - 1):
        half = [0, *rest]
        other = [h for h in range(SUB_BANKS) if h not in half]
        if filled[half].any() and filled[other].any():
            sums = bank.sums[i]
            first, second = (_bias(bank.reference, sums[part].sum(0), bank.betas[i]) for part in (half, other))
            pairs.append((first, second))
    return pairs


def sample_sigma(rows: Rows, seed: int = 0) -> float:
    """Return the mean over gallery items of the standard deviation over rows, from a sample of `SAMPLE`.

    Masked entries are left out. 0.0: nothing varies.
    """
    random = np.random.default_rng(seed)
    places = [
        np.sort(random.choice(size, min(size, most), replace=False))
        for size, most in zip(rows.shape, SAMPLE, strict=True)
    ]
    values = rows.sample(*places).double()
    require_no_nan(values, rows)
    valid = ~values.isneginf()
    count = valid.sum(0)
    centre = torch.where(valid, values, 0.0).sum(0) / count.clamp(min=1)
    variance = torch.where(valid, values - centre, 0.0).square().sum(0) / count.clamp(min=1)
    return float(variance.sqrt()[count > 0].mean()) if bool((count > 0).any()) else 0.0


def sinkhorn_bias(
    rows: Rows,
    tau: float,
    iterations: int = 10,
    keep: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = silent,
) -> Tensor:
    """Return the Sinkhorn potential of the first `keep` columns, ``(N,)`` float64; one pass an iteration.

    The query half-step of a row needs the last potential and that row alone, so both half-steps share a block.
    """
    if iterations == 0:
        return collect(rows, (1 / tau,), block_bytes=block_bytes, progress=progress).bias()[:keep]
    height, width = rows.shape
    potential = torch.zeros(width, dtype=torch.float64, device=rows.device)
    for _ in progress(range(iterations), "Sinkhorn iterations", iterations):
        total = torch.full_like(potential, -torch.inf)
        for _, block in rows.blocks(block_bytes // 2):
            require_no_nan(block, rows)
            scaled = block.double() / tau
            query = -math.log(height) - torch.logsumexp(scaled + potential, dim=1)
            total = torch.logaddexp(total, torch.logsumexp(scaled + query[:, None], dim=0))
        potential = -math.log(width) - total
    if not bool(potential.isfinite().all()):
        raise DataError(f"{rows.name} have a row or column that is masked altogether, which Sinkhorn cannot balance")
    return -tau * potential[:keep]
