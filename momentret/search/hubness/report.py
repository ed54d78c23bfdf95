"""One pass over the queries: raw and corrected lists side by side, the matrix written, everything counted.

The report is a plain dictionary of stable keys; NaN never occurs in it, what is undefined is None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from momentret.errors import DataError
from momentret.progress import Progress, silent
from momentret.search.hubness.arrays import top_k
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.diagnosis import bad_occurrence, hubness_statistics, worst_hubs
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import compare_ranks, ranks, retrieval_metrics
from momentret.search.hubness.rows import Rows
from momentret.search.hubness.tuning import TuneResult
from momentret.search.hubness.validity import require_no_nan

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Ledger",
    "PassResult",
    "compare",
    "hub_table",
    "parameters",
    "read_tuned",
    "run_pass",
    "tune_report",
    "tune_table",
    "write_trec",
]

PASS_BYTES = 4 << 20


class Ledger:
    """Counts one ranking, block by block.

    Args:
        width: gallery size.
        ks: list lengths whose N_k is counted.
        pairs: ``(M, 2)`` ground truth, or None.
        keep: length of the lists kept for a TREC run; 0 keeps none.
    """

    def __init__(self, width: int, ks: Sequence[int], pairs: np.ndarray | None = None, keep: int = 0) -> None:
        self.ks, self.pairs, self.keep = tuple(ks), pairs, keep
        self.queries = 0
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
            self.counts[k] += places[:, :k].flatten().bincount(minlength=width).cpu().numpy()
        self.tops.append(places[:, 0].cpu().numpy())
        if self.keep:
            self.lists.append((places[:, : self.keep].cpu().numpy(), values[:, : self.keep].cpu().numpy()))
        if self.pairs is not None:
            inside = (self.pairs[:, 0] >= start) & (self.pairs[:, 0] < start + len(block))
            own = self.pairs[inside] - np.array([start, 0])
            self.ranks.append(ranks(block, own))
            self.bad += bad_occurrence(block, max(self.ks), own)
        self.queries += len(block)

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
        progress: wraps the loop.
    """
    raw = Ledger(S.shape[1], ks, pairs, 0 if normaliser else keep)
    corrected = Ledger(S.shape[1], ks, pairs, keep) if normaliser else None
    apply = normaliser.prepare(S, progress=progress) if normaliser else None
    total = -(-S.shape[0] // max(1, PASS_BYTES // (S.shape[1] * S.dtype.itemsize)))
    for start, block in progress(S.blocks(PASS_BYTES), "correcting" if normaliser else "counting", total):
        require_no_nan(block, S)
        raw.add(start, block)
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


def compare(result: PassResult, ids: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the keys hubness, retrieval and difference of a report, each raw beside normalised."""
    sides = {"raw": result.raw, "normalised": result.corrected}
    ledgers = {name: ledger for name, ledger in sides.items() if ledger is not None}
    report: dict[str, Any] = {"hubness": {name: ledger.hubness(ids) for name, ledger in ledgers.items()}}
    found = {name: ledger.found_ranks for name, ledger in ledgers.items()}
    report["retrieval"] = {name: None if r is None else retrieval_metrics(r) for name, r in found.items()}
    report["difference"] = None
    if result.corrected is not None:
        changed = np.concatenate(result.raw.tops) != np.concatenate(result.corrected.tops)
        before, after = found["raw"], found["normalised"]
        paired = {} if before is None or after is None else compare_ranks(before, after)
        report["difference"] = {**paired, "top1_changed_share": float(changed.mean())}
    return report


def hub_table(
    result: PassResult, normaliser: HubnessNormaliser | None, ids: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return a row per gallery item at the largest k: id, N_k before and after, its bias, its irrelevant share."""
    import pandas as pd

    k = max(result.raw.ks)
    before = result.raw.counts[k]
    table: dict[str, Any] = {"id": ids or [str(i) for i in range(len(before))], f"N_{k}_raw": before}
    if result.corrected is not None:
        table[f"N_{k}_normalised"] = result.corrected.counts[k]
    if normaliser is not None and normaliser.terms:
        table["bias"] = normaliser.bias().cpu().numpy()
    if result.raw.pairs is not None:
        table["bad_share_raw"] = result.raw.bad / np.maximum(before, 1)
    return pd.DataFrame(table).sort_values(f"N_{k}_raw", ascending=False, kind="stable")


def tune_report(result: TuneResult) -> dict[str, Any]:
    """Return the key selection of a report: the rule, the choice, and the whole grid."""
    trials = [_trial(trial) for trial in result.trials]
    return {"rule": result.rule, "chosen": _trial(result.chosen), "best": _trial(result.best), "curve": trials}


def _trial(trial: Any) -> dict[str, Any]:
    values = asdict(trial)
    config = values.pop("config")
    correction = values["correction"]
    return {**values, "correction": correction if np.isfinite(correction) else None, **config}


def tune_table(result: TuneResult) -> pd.DataFrame:
    """Return the grid as a table, a row a trial."""
    import pandas as pd

    return pd.DataFrame([_trial(trial) for trial in result.trials])


def read_tuned(path: Path) -> HubnessConfig:
    """Return the settings that a tuning run chose: its folder, or the tune.json in it."""
    path = path / "tune.json" if path.is_dir() else path
    try:
        chosen = json.loads(path.read_text(encoding="utf-8"))["selection"]["chosen"]
        return HubnessConfig(**{field.name: chosen[field.name] for field in fields(HubnessConfig)})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not what `momentret hubness tune` writes ({error!r}); tune again") from error


def write_trec(
    file: IO[str],
    ledger: Ledger,
    tag: str,
    query_ids: Sequence[str] | None = None,
    gallery_ids: Sequence[str] | None = None,
) -> None:
    """Write the kept lists as a TREC run: ``query Q0 item rank score tag``, readable by ranx and pytrec_eval."""
    query = 0
    for places, scores in ledger.lists:
        for line, values in zip(places.tolist(), scores.tolist(), strict=True):
            name = query_ids[query] if query_ids else str(query)
            for rank, (place, score) in enumerate(zip(line, values, strict=True), start=1):
                item = gallery_ids[place] if gallery_ids else str(place)
                file.write(f"{name} Q0 {item} {rank} {score!r} {tag}\n")
            query += 1


def parameters(config: HubnessConfig, normaliser: HubnessNormaliser) -> dict[str, Any]:
    """Return what was asked for and what it came to."""
    facts = asdict(normaliser.facts)
    guard = facts.pop("guard")
    fit = None if guard is None else normaliser.facts.guard is not None and normaliser.facts.guard.fit
    return {"params": asdict(config), "bank": {**facts, "guard": guard, "fit": fit}}
