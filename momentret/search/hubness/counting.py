"""One pass over the queries: raw and corrected lists side by side, the matrix written, everything counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from momentret.progress import Progress, silent
from momentret.search.hubness.arrays import count_listed, top_k
from momentret.search.hubness.diagnosis import bad_occurrence, hubness_statistics, worst_hubs
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import ranks
from momentret.search.hubness.rows import Rows
from momentret.search.hubness.validity import require_no_nan

__all__ = ["Ledger", "PassResult", "run_pass"]

PASS_BYTES = 4 << 20


class Ledger:
    """Counts one ranking, block by block.

    Args:
        width: gallery size.
        ks: list lengths whose N_k is counted.
        pairs: ``(M, 2)`` ground truth, or None.
        keep: length of the lists kept for a TREC run; 0 keeps none.
        ties: rank of a positive among items of its score, a name of `retrieval.TIES`.
    """

    def __init__(
        self, width: int, ks: Sequence[int], pairs: np.ndarray | None = None, keep: int = 0, ties: str = "average"
    ) -> None:
        self.ks, self.pairs, self.keep, self.ties = tuple(ks), pairs, keep, ties
        self.queries, self.max_abs = 0, 0.0
        self.counts = {k: np.zeros(width, np.int64) for k in self.ks}
        self.bad = np.zeros(width, np.int64)
        self.tops: list[np.ndarray] = []
        self.ranks: list[np.ndarray] = []
        self.lists: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, start: int, block: Tensor) -> None:
        """Count the lists of a block of queries."""
        width = block.shape[1]
        values, places = top_k(block, max(*self.ks, self.keep, 1))
        for k in self.ks:
            self.counts[k] += count_listed(values[:, :k], places[:, :k], width).cpu().numpy()
        self.tops.append(places[:, 0].cpu().numpy())
        if self.keep:
            self.lists.append((places[:, : self.keep].cpu().numpy(), values[:, : self.keep].cpu().numpy()))
        if self.pairs is not None:
            inside = (self.pairs[:, 0] >= start) & (self.pairs[:, 0] < start + len(block))
            own = self.pairs[inside] - np.array([start, 0])
            self.ranks.append(ranks(block, own, self.ties))
            self.bad += bad_occurrence(block, max(self.ks), own)
        self.queries += len(block)

    def note_size(self, block: Tensor) -> None:
        """Note the largest magnitude; masked entries have none."""
        low, high = (float(value) for value in block.aminmax())
        if math.isinf(low):
            low = -float(torch.where(block.isinf(), 0.0, block).abs().max())
        self.max_abs = max(self.max_abs, -low, high if math.isfinite(high) else 0.0)

    @property
    def best(self) -> np.ndarray:
        """The best item of every query, ``(queries,)``."""
        return np.concatenate(self.tops)

    def hubness(self, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the statistics of every N_k, with its ten worst hubs by id."""
        found = {}
        for k, counts in self.counts.items():
            statistics = asdict(hubness_statistics(counts, self.queries, k))
            hubs = [
                {"id": ids[i] if ids else str(i), "occurrences": int(counts[i])} for i in worst_hubs(counts).tolist()
            ]
            found[str(k)] = {**statistics, "top_hubs": hubs}
        return found

    @property
    def found_ranks(self) -> np.ndarray | None:
        """0-based ranks of the positives, None without ground truth."""
        return np.concatenate(self.ranks) if self.ranks else None


@dataclass(frozen=True)
class PassResult:
    """What one pass over the queries counted."""

    raw: Ledger
    corrected: Ledger | None


def run_pass(
    S: Rows,
    normaliser: HubnessNormaliser | None,
    ks: Sequence[int],
    pairs: np.ndarray | None = None,
    keep: int = 0,
    output: IO[bytes] | None = None,
    ties: str = "average",
    progress: Progress = silent,
) -> PassResult:
    """Correct, count and write, reading every similarity once.

    Args:
        S: test queries × gallery.
        normaliser: a fitted one; None only counts the raw lists.
        ks: list lengths whose N_k is counted.
        pairs: ground truth.
        keep: length of the lists kept for a TREC run.
        output: a binary file that gets the corrected matrix as .npy.
        ties: a name of `retrieval.TIES`.
        progress: wraps the loop.
    """
    raw = Ledger(S.shape[1], ks, pairs, 0 if normaliser else keep, ties)
    corrected = Ledger(S.shape[1], ks, pairs, keep, ties) if normaliser else None
    apply = normaliser.prepare(S, progress=progress) if normaliser else None
    total = -(-S.shape[0] // max(1, PASS_BYTES // (S.shape[1] * S.dtype.itemsize)))
    for start, block in progress(S.blocks(PASS_BYTES), "correcting" if normaliser else "counting", total):
        require_no_nan(block, S)
        raw.add(start, block)
        raw.note_size(block)
        if apply is not None and corrected is not None:
            scores = apply(block)
            corrected.add(start, scores)
            if output is not None:
                if start == 0:
                    _write_header(output, S.shape, scores.dtype)
                output.write(scores.cpu().numpy().tobytes())
    return PassResult(raw, corrected)


def _write_header(file: IO[bytes], shape: tuple[int, int], dtype: torch.dtype) -> None:
    descr = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
    header = {"descr": np.lib.format.dtype_to_descr(descr), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
