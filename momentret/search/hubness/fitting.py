"""Fitting: the passes over the banks that give a normaliser its terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from momentret.errors import ConfigError, MismatchError
from momentret.progress import Progress
from momentret.search.hubness.arrays import Array
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.guard import GuardResult, reliability
from momentret.search.hubness.rows import JoinedRows, Rows, as_rows
from momentret.search.hubness.streaming import BankSums, collect, half_biases, sample_sigma, sinkhorn_bias
from momentret.search.hubness.validity import require_no_nan

__all__ = ["GALLERY_BETA", "QUERY_BETA", "Facts", "Fitting", "Term", "gallery_size", "inverse", "named_rows"]

QUERY_BETA, GALLERY_BETA, SINKHORN_TAU = 2.5, 0.25, 0.3  # over, over, times the standard deviation


@dataclass(frozen=True)
class Term:
    """One bank's share of the bias."""

    bias: Tensor
    """``(N,)`` float64 in similarity units, not centred."""
    weight: float = 1.0
    """Its share where two banks are mixed."""
    active: Tensor | None = None
    """``(N,)`` bool: a query is corrected by this term if its best item is active. None: always."""


@dataclass(frozen=True)
class Facts:
    """What was found while fitting; for reports."""

    beta_query: float | None = None
    beta_gallery: float | None = None
    tau: float | None = None
    sigma_query: float | None = None
    sigma_gallery: float | None = None
    bank_queries: int = 0
    bank_gallery: int = 0
    duplicates: int = 0
    """Rows of the query bank that repeat another one; they count twice."""
    masked_items: int = 0
    """Gallery items without a single similarity to a bank, which does not correct them; of two banks both count."""
    reliability: float | None = None
    guard: GuardResult | None = None
    shrink: float = 1.0
    """Share of the bias that is subtracted."""


def named_rows(config: HubnessConfig, named: dict[str, Array | Rows | None]) -> dict[str, Rows]:
    """Return the banks that the method needs; `ConfigError` if one is missing."""
    banks = {}
    for name, source in named.items():
        if getattr(config.traits, name):
            if source is None:
                title = name.replace("_", " ")
                option = "--" + name.replace("_", "-")
                raise ConfigError(f"method {config.method!r} needs a {title}; give {name} ({option})")
            banks[name] = as_rows(source, f"the {name.replace('_', ' ')}")
    return banks


def gallery_size(banks: dict[str, Rows]) -> int | None:
    """Return the common number of columns; `MismatchError` if there is none."""
    sizes = {bank.name: bank.shape for name, bank in banks.items() if name != "cross_bank"}
    if len({shape[1] for shape in sizes.values()}) > 1:
        shown = " and ".join(f"{name} {tuple(shape)}" for name, shape in sizes.items())
        raise MismatchError(f"{shown} differ in columns: both must be compared with the same gallery")
    return next(iter(sizes.values()))[1] if sizes else None


def inverse(sigma: float, factor: float) -> float:
    """Return ``factor / sigma``, the scale-free inverse temperature."""
    return factor / sigma if sigma > 0 else 1.0  # nothing varies: every temperature gives the same, a constant


class Fitting:
    """The passes over the banks of one normaliser; `facts` fills as they go."""

    def __init__(self, config: HubnessConfig, banks: dict[str, Rows], block_bytes: int, progress: Progress) -> None:
        self.config, self.banks = config, banks
        self.block_bytes, self.progress = block_bytes, progress
        self.facts = Facts(bank_queries=self._rows("query_bank"), bank_gallery=self._rows("gallery_bank"))

    def _rows(self, name: str) -> int:
        return self.banks[name].shape[0] if name in self.banks else 0

    @property
    def _shrinks(self) -> bool:
        """True: how far to shrink is to be found out from the bank."""
        return self.config.shrink is None and not self.config.traits.transductive

    def terms(self) -> tuple[Term, ...]:
        """Return the terms of the bias, and fill `facts`.

        Raises:
            ConfigError: a temperature leaves no bias that float32 can hold.
        """
        found = self._terms()
        if not all(bool(term.bias.float().isfinite().all()) for term in found):
            names = [n for n in self.config.traits.temperatures if getattr(self.config, n) is not None]
            given = (
                " and ".join(f"{name} {getattr(self.config, name):g}" for name in names) or "the automatic temperature"
            )
            raise ConfigError(
                f"{given}: too far outside the scale of the similarities to compute with; leave it out for the "
                "automatic value"
            )
        return found

    def _terms(self) -> tuple[Term, ...]:
        method = self.config.method
        if method in ("bank-sinkhorn", "dbsn", "sn"):
            return (Term(self._sinkhorn()),)
        if method in ("nnn", "csls"):
            return (Term(self._neighbours()),)
        if method in ("raw", "gc"):
            return ()
        return self._softmax()

    def ordered(self) -> Tensor | None:
        """Return the sorted bank of GC."""
        if self.config.method != "gc":
            return None
        bank = self.banks["query_bank"]
        parts = []
        for _, block in bank.blocks(self.block_bytes):
            require_no_nan(block, bank)
            parts.append(block.clone())
        ordered = torch.cat(parts).T.sort(dim=1).values.contiguous()
        self.facts = replace(self.facts, masked_items=int(ordered[:, -1].isneginf().sum()))
        return ordered

    def _softmax(self) -> tuple[Term, ...]:
        """Fit the one or two inverted softmaxes."""
        names = [name for name in ("query_bank", "gallery_bank") if name in self.banks]
        fitted = [self._bank(name) for name in names]
        betas = [bank.betas[0] for bank in fitted]
        if self._shrinks:
            weights = [beta / sum(betas) for beta in betas]
            halves = [
                tuple(sum(w * half for w, half in zip(weights, side, strict=True)) for side in zip(*pair, strict=True))
                for pair in zip(*(half_biases(bank) for bank in fitted), strict=False)
            ]
            self.facts = replace(self.facts, reliability=reliability(halves))
        return tuple(
            Term(bank.bias(), beta / sum(betas), None if bank.hits is None else bank.hits > 0)
            for bank, beta in zip(fitted, betas, strict=True)
        )

    def _bank(self, name: str, top: int = 0) -> BankSums:
        """Read one bank at its temperature, and note what was found."""
        bank, query = self.banks[name], name == "query_bank"
        beta = self.config.beta_query if query else self.config.beta_gallery
        sigma = None
        if beta is None or self.config.units == "std":
            sigma = sample_sigma(bank)
            beta = inverse(sigma, beta or (QUERY_BETA if query else GALLERY_BETA))
        activation = (self.config.k_query if query else self.config.k_gallery) if self.config.traits.gated else 0
        sums = collect(bank, (beta,), top, activation, self._shrinks, self.block_bytes, self.progress)
        side = "query" if query else "gallery"
        found: dict[str, Any] = {f"beta_{side}": beta, f"sigma_{side}": sigma}
        found["masked_items"] = self.facts.masked_items + int(sums.reference.isneginf().sum())
        if query:
            found["duplicates"] = sums.duplicates
        self.facts = replace(self.facts, **found)
        return sums

    def _neighbours(self) -> Tensor:
        bank = self._bank("query_bank", self.config.top_rows)
        if self._shrinks:
            self.facts = replace(self.facts, reliability=reliability(half_biases(bank)))
        mean = bank.top_mean(self.config.top_rows)
        return mean / 2 if self.config.method == "csls" else self.config.alpha * mean

    def _sinkhorn(self) -> Tensor:
        bank = self.banks["query_bank"]
        sigma = sample_sigma(bank)
        tau = self.config.tau
        if tau is None or self.config.units == "std":
            tau = (tau or SINKHORN_TAU) * sigma if sigma > 0 else 1.0
        self.facts = replace(self.facts, tau=tau, sigma_query=sigma)
        if self._shrinks:
            sums = collect(bank, (inverse(sigma, QUERY_BETA),), block_bytes=self.block_bytes)
            found = reliability(half_biases(sums))
            self.facts = replace(self.facts, reliability=found, duplicates=sums.duplicates)
        targets = JoinedRows(bank, self.banks["cross_bank"]) if "cross_bank" in self.banks else bank
        return sinkhorn_bias(targets, tau, self.config.iterations, bank.shape[1], self.block_bytes, self.progress)
