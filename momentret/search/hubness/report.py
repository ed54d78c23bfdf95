"""What was counted as a report: a plain dictionary of stable keys, tables, TREC runs, a summary for people.

NaN never occurs in a report; what is undefined is None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from momentret.errors import DataError
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.counting import Ledger, PassResult
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import compare_ranks, retrieval_metrics
from momentret.search.hubness.tuning import TuneResult
from momentret.words import count_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "compare",
    "hub_table",
    "parameters",
    "read_tuned",
    "require_words",
    "short",
    "summary",
    "tune_report",
    "tune_table",
    "write_trec",
]

PERCENT = ("R1", "R5", "R10", "gmean")
SHOWN = ("skewness", "max", "hub_rate", "hub_occupancy", "antihub_rate", "robin_hood")


def compare(result: PassResult, ids: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the keys hubness, retrieval and difference of a report, each raw beside normalised."""
    sides = {"raw": result.raw, "normalised": result.corrected}
    ledgers = {name: ledger for name, ledger in sides.items() if ledger is not None}
    report: dict[str, Any] = {"hubness": {name: ledger.hubness(ids) for name, ledger in ledgers.items()}}
    found = {name: ledger.found_ranks for name, ledger in ledgers.items()}
    report["retrieval"] = {name: None if r is None else _rounded(retrieval_metrics(r)) for name, r in found.items()}
    report["difference"] = None
    if result.corrected is not None:
        changed = result.raw.best != result.corrected.best
        before, after = found["raw"], found["normalised"]
        paired = {} if before is None or after is None else _rounded(compare_ranks(before, after))
        report["difference"] = {**paired, "top1_changed_share": float(changed.mean())}
    return report


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with percentages as a report has them: four decimals resolve one query in a million."""
    percent = {name: round(values[name], 4) for name in PERCENT if values.get(name) is not None}
    if "ci95" in values:
        percent["ci95"] = [round(bound, 4) for bound in values["ci95"]]
    return {**values, **percent}


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
    return _rounded({**values, "correction": correction if np.isfinite(correction) else None, **config})


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


def require_words(ids: Sequence[str] | None, name: str) -> None:
    """Refuse ids that a TREC run, whose columns are separated by white space, cannot hold."""
    for text in ids or ():
        if text.split() != [text]:
            raise DataError(f"{name} id {text!r} holds white space, which a TREC run cannot; rename it, or no --trec")


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
                if score == -np.inf:  # masked, and so is all that follows
                    break
                item = gallery_ids[place] if gallery_ids else str(place)
                file.write(f"{name} Q0 {item} {rank} {score!r} {tag}\n")
            query += 1


def parameters(normaliser: HubnessNormaliser, chosen_by: str, result: PassResult | None = None) -> dict[str, Any]:
    """Return the keys params, selection, scale and bank of a report: what was asked for and what it came to.

    Args:
        normaliser: a fitted one.
        chosen_by: where its settings come from.
        result: what it was applied to, for the shares of open gates and the largest similarity.
    """
    config, facts, guard = normaliser.config, normaliser.facts, normaliser.facts.guard
    found = {name: getattr(facts, name) for name in ("beta_query", "beta_gallery", "tau")}
    spreads = {"query": facts.sigma_query, "gallery": facts.sigma_gallery}
    in_std = {f"beta_{side}_std_units": _times(found[f"beta_{side}"], sigma) for side, sigma in spreads.items()}
    told = (*found, "method", "units", "shrink")
    others = {name: value for name, value in asdict(config).items() if name not in told}
    return {
        "params": {**found, **in_std, **others},
        "selection": {"rule": chosen_by, "chosen": asdict(config)},
        "scale": {
            "sigma_query": facts.sigma_query,
            "sigma_gallery": facts.sigma_gallery,
            "max_abs": None if result is None else result.raw.max_abs,
        },
        "bank": {
            "n_query": facts.bank_queries,
            "n_gallery": facts.bank_gallery,
            "duplicates": facts.duplicates,
            "masked_items": facts.masked_items,
            **_gate_shares(normaliser, result),
            "reliability": facts.reliability,
            "guard_slope": guard and guard.slope,
            "guard_correlation": guard and guard.correlation,
            "guard_queries": guard and guard.queries,
            "fit": guard and guard.fit,
            "shrink": facts.shrink,
        },
    }


def _times(beta: float | None, sigma: float | None) -> float | None:
    return None if beta is None or sigma is None else beta * sigma


def _gate_shares(normaliser: HubnessNormaliser, result: PassResult | None) -> dict[str, Any]:
    """Return the share of items that a bank activates and of queries whose gate is open, by bank; None: no gates."""
    shares: dict[str, Any] = {"activated_share": None, "gated_share": None}
    if not normaliser.config.traits.gated:
        return shares
    sides = ("query", "gallery")
    active = [term.active for term in normaliser.terms if term.active is not None]
    shares["activated_share"] = {side: float(mask.double().mean()) for side, mask in zip(sides, active, strict=False)}
    if result is not None:
        best = torch.from_numpy(result.raw.best)
        gates = [gate for gate in normaliser.gates(best) if gate is not None]
        shares["gated_share"] = {side: float(gate.double().mean()) for side, gate in zip(sides, gates, strict=False)}
    return shares


def summary(report: dict[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Return a report for people: the columns and rows of a table, and sentences below it."""
    sides, method = list(report["hubness"]), report.get("method", "raw")
    marked = f"{method} (transductive)" if report.get("transductive") else method
    rows: list[list[str]] = []
    if report["retrieval"]["raw"]:
        metrics = ("R1", "R5", "R10", "MdR", "MnR")
        rows += [[name, *(f"{report['retrieval'][side][name]:.1f}" for side in sides)] for name in metrics]
    for k in report["hubness"]["raw"]:
        sets = [report["hubness"][side][k] for side in sides]
        rows += [[f"N_{k} {name.replace('_', ' ')}", *(short(values[name]) for values in sets)] for name in SHOWN]
        rows.append([f"N_{k} skewness without hubness", *(short(values["skewness_baseline"]) for values in sets)])
    return ["", *("raw" if side == "raw" else marked for side in sides)], rows, _sentences(report)


def _sentences(report: dict[str, Any]) -> list[str]:
    k, values = list(report["hubness"]["raw"].items())[-1]
    hubs = [f"{hub['id']} ({hub['occurrences']})" for hub in values["top_hubs"][:5]]
    found = [f"worst hubs, in so many lists of {k}: {', '.join(hubs)}"]
    change = report["difference"] or {}
    if "R1" in change:
        low, high = change["ci95"]
        found.append(
            f"R1 {change['R1']:+.1f} (95 % interval {low:+.1f} to {high:+.1f}): "
            f"{count_of(change['gained'], 'query')} gained, {change['lost']} lost, p {change['mcnemar_p']:.2g}"
        )
    return found


def short(value: Any) -> str:
    """Return a value as a table shows it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
