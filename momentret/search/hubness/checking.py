"""What is wrong with a set of inputs: errors that end the work, warnings that go into the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from momentret.errors import ConfigError, DataError, MismatchError
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.fitting import GALLERY_BETA, QUERY_BETA, SINKHORN_TAU
from momentret.search.hubness.rows import Rows
from momentret.search.hubness.streaming import sample_sigma
from momentret.words import count_of

__all__ = [
    "check_banks",
    "few_rows",
    "odd_settings",
    "odd_temperatures",
    "require_allowed",
    "require_other_ids",
    "worse_than_chance",
]

FEW = 300  # bank rows below which an unshrunk correction can hurt
FLAT, SHARP = 0.01, 25.0  # over the standard deviation: beyond, R@1 is that of the limit, the mean or the maximum
USUAL = {"beta_query": QUERY_BETA, "beta_gallery": GALLERY_BETA, "tau": SINKHORN_TAU}
LOOKED_AT = 1024
CHANCE = 0.05  # p-value of a fall of R@1 below which it is no accident


def require_allowed(config: HubnessConfig, transductive: bool) -> None:
    """Refuse a transductive method that was not asked for knowingly."""
    if config.traits.transductive and not transductive:
        raise ConfigError(
            f"method {config.method!r} needs all test queries at once and uses that every item is wanted once; its "
            "numbers do not compare with bank methods; pass --allow-transductive if that is meant"
        )


def odd_settings(config: HubnessConfig, banks: dict[str, Rows]) -> list[str]:
    """Return warnings of banks that the method does not use, and of settings beyond what there is."""
    warnings = [
        f"method {config.method} does not use the {name.replace('_', ' ')}"
        for name in sorted(set(banks) - {"cross_bank"})
        if not getattr(config.traits, name) and not (config.traits.cross_bank and name == "gallery_bank")
    ]
    bank = banks.get("query_bank")
    if bank is not None and config.method in ("nnn", "csls") and config.top_rows > bank.shape[0]:
        warnings.append(f"top is {config.top_rows}, the query bank has {bank.shape[0]} rows: all of them are averaged")
    for name, k in (("query_bank", config.k_query), ("gallery_bank", config.k_gallery)):
        if config.traits.gated and name in banks and getattr(config.traits, name) and k > banks[name].shape[1]:
            items, option = banks[name].shape[1], f"k_{name.removesuffix('_bank')}"
            warnings.append(f"{option} is {k}, the gallery has {items} items: every item is activated")
    return warnings


def odd_temperatures(config: HubnessConfig, banks: dict[str, Rows]) -> list[str]:
    """Return warnings of given temperatures that are far outside the scale of their bank.

    Args:
        config: of a method; only temperatures that it uses are looked at.
        banks: what is fitted, by argument name; for transductive methods the test similarities as query bank.
    """
    warnings = []
    for name in config.traits.temperatures:
        bank = banks.get("gallery_bank" if name == "beta_gallery" else "query_bank")
        if bank is not None and getattr(config, name) is not None:
            warnings += _check_temperature(name, getattr(config, name), config.units == "std", bank)
    return warnings


def _check_temperature(name: str, value: float, counted: bool, bank: Rows) -> list[str]:
    """Return a warning unless a temperature (`counted`: in standard deviations) is within `FLAT` and `SHARP`."""
    sigma, tau = sample_sigma(bank), name == "tau"
    if sigma == 0:
        return []
    amount = value if counted else value / sigma if tau else value * sigma
    low, high = (1 / SHARP, 1 / FLAT) if tau else (FLAT, SHARP)
    if low <= amount <= high:
        return []
    unit = "times" if tau else "over"
    effect = "so sharp that one row decides" if (amount < low) == tau else "so flat that all rows count alike"
    return [
        f"{name} is {value:g}, that is {amount:.2g} {unit} the standard deviation of {bank.name} (usual: "
        f"{USUAL[name]:g}): {effect}; leave it out for the automatic value"
    ]


def few_rows(query_bank: int, gallery_bank: int) -> list[str]:
    """Return warnings of banks with so few rows that they say little; 0: there is none."""
    return [
        f"the {name} has {count_of(rows, 'row')}; below {FEW} a correction is mostly noise: use more"
        for name, rows in (("query bank", query_bank), ("gallery bank", gallery_bank))
        if 0 < rows < FEW
    ]


def worse_than_chance(report: dict[str, Any], matrix: tuple[int, int] | None) -> list[str]:
    """Return a warning if R@1 fell by more than chance would have it: McNemar's test over the queries that changed.

    Args:
        report: with the keys direction, selection, retrieval and difference, and the truth known.
        matrix: shape of the similarities; None: they come from embeddings, which cannot lie the wrong way round.
    """
    change = report["difference"] or {}
    if "R1" not in change or change["lost"] <= change["gained"] or change["mcnemar_p"] >= CHANCE:
        return []
    before, after = (report["retrieval"][side]["R1"] for side in ("raw", "normalised"))
    causes = ["--truth of other queries or items", "the bank of another domain"]
    if matrix is not None and matrix[0] == matrix[1]:
        causes.insert(0, "a matrix transposed (--transpose)")
    if report["selection"]["chosen"] != asdict(HubnessConfig()):
        causes.append("the method or a setting unfit (`momentret hubness tune`)")
    return [
        f"R@1 fell from {before:.1f} to {after:.1f} ({report['direction']}; {change['lost']} lost, "
        f"{change['gained']} gained, p {change['mcnemar_p']:.2g}): is {', '.join(causes[:-1])}, or {causes[-1]}?"
    ]


def require_other_ids(bank: Sequence[str] | None, test: Sequence[str] | None, name: str) -> None:
    """Refuse a bank that shares ids with what is tested.

    Raises:
        DataError: with the number and the first of them.
    """
    shared = set(bank or ()) & set(test or ())
    if bank and shared:
        first = next(name for name in bank if name in shared)
        raise DataError(
            f"{name} holds {count_of(len(shared), 'id')} of the test set (first: {first!r}); "
            "leave them out of the bank, or pass --allow-overlap if the ids only look alike"
        )


def check_banks(
    S: Rows,
    query_bank: Rows | None,
    gallery_bank: Rows | None,
    embeddings: bool = False,
    allow_overlap: bool = False,
) -> list[str]:
    """Compare banks with the test similarities.

    Args:
        S: test queries × gallery.
        query_bank: query bank × gallery.
        gallery_bank: gallery bank × gallery.
        embeddings: the rows are products, so scales and shapes agree by construction.
        allow_overlap: a bank of test queries is only warned of.

    Returns:
        Warnings.

    Raises:
        MismatchError: columns differ; a transposed matrix is named.
        DataError: the query bank is the test queries.
    """
    warnings = [] if embeddings else _check_logits(S)
    for name, bank in (("query bank", query_bank), ("gallery bank", gallery_bank)):
        if bank is not None:
            _check_columns(S, bank, name)
    if query_bank is not None:
        warnings += _check_overlap(S, query_bank, allow_overlap)
        if not embeddings:
            warnings += _check_scale(S, query_bank, gallery_bank)
    return warnings


def _check_columns(S: Rows, bank: Rows, name: str) -> None:
    if bank.shape[1] == S.shape[1]:
        return
    message = f"the similarities are {_shown(S)} (queries × gallery), the {name} is {_shown(bank)}: columns differ"
    if bank.shape[0] == S.shape[1]:
        message += f"; the {name} looks transposed, pass --transpose {name.replace(' ', '-')}"
    elif bank.shape[1] == S.shape[0]:
        message += "; the similarities look transposed, pass --transpose similarities"
    else:
        message += "; rows are queries or bank elements, columns the gallery"
    raise MismatchError(message)


def _shown(rows: Rows) -> str:
    return f"{rows.shape[0]} × {rows.shape[1]}"


def _check_overlap(S: Rows, bank: Rows, allowed: bool) -> list[str]:
    """Compare the rows: a bank that holds the test queries answers the test."""
    looked = min(LOOKED_AT, S.shape[0])
    test = S.keys(0, looked)
    known = np.concatenate(
        [bank.keys(i, min(i + LOOKED_AT, bank.shape[0])) for i in range(0, bank.shape[0], LOOKED_AT)]
    )
    shared = int(np.isin(test, known).sum())
    if shared > looked / 2 and looked > 1 and not allowed:
        raise DataError(
            f"the query bank holds {shared} of the first {looked} test queries; a bank must be of training queries "
            "(or pass --allow-overlap)"
        )
    return [f"{shared} of the first {looked} test queries are in the query bank"] if shared else []


def _check_logits(S: Rows) -> list[str]:
    mean, deviation = _moments(S)
    if abs(mean) + 3 * deviation <= 1.5:
        return []
    return [
        f"the similarities are no cosines (mean {mean:.3g}, deviation {deviation:.3g}): scaled by a logit factor? "
        "temperatures that are not given are chosen by the deviation"
    ]


def _check_scale(S: Rows, query_bank: Rows, gallery_bank: Rows | None) -> list[str]:
    test, bank = _moments(S), _moments(query_bank)
    warnings = []
    if not 0.2 <= (bank[1] + 1e-12) / (test[1] + 1e-12) <= 5:
        warnings.append(
            f"the query bank varies by {bank[1]:.3g}, the similarities by {test[1]:.3g}: different logit scale?"
        )
    if gallery_bank is not None:
        inner = _moments(gallery_bank)
        if all(abs(a - b) <= 0.1 * abs(b) for a, b in zip(inner, bank, strict=True)):
            warnings.append(
                "the gallery bank looks cross-modal: it should be gallery bank × gallery, within the modality"
            )
    return warnings


def _moments(rows: Rows) -> tuple[float, float]:
    """Return mean and standard deviation of a few rows, masked entries left out."""
    picked = np.linspace(0, rows.shape[0] - 1, min(64, rows.shape[0])).astype(int)
    values = rows.sample(np.unique(picked), np.arange(rows.shape[1])).double()
    values = values[torch.isfinite(values)]
    return (float(values.mean()), float(values.std(correction=0))) if len(values) else (0.0, 0.0)
