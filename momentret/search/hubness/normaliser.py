"""HubnessNormaliser: fit banks once, keep a number per gallery item, apply anywhere.

For one query every bank method but GC ranks by ``S - b``. The bias b depends on gallery and banks only; gated methods
switch its one or two terms on or off for the whole query. Storing: `state`; serving from FAISS: `index`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from momentret.errors import ConfigError, MismatchError
from momentret.progress import Progress, silent
from momentret.search.hubness.arrays import Array, MappedPages, as_tensor, top_k
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.fitting import QUERY_BETA, Facts, Fitting, Term, gallery_size, inverse, named_rows
from momentret.search.hubness.guard import MIN_LIVE, GuardResult, guard_slope, reliability
from momentret.search.hubness.methods import rank_corrected, signed_product
from momentret.search.hubness.rows import Rows, as_rows
from momentret.search.hubness.streaming import collect, half_biases, sample_sigma
from momentret.search.hubness.validity import BLOCK_BYTES, require_no_nan
from momentret.words import count_of

__all__ = ["HubnessNormaliser"]

STRIP_BYTES = 1 << 20  # a matrix is corrected in strips that stay in the cache


class HubnessNormaliser:
    """Fits a bias per gallery item on banks and subtracts it from similarities.

    Args:
        config: method and parameters.
        options: fields of `HubnessConfig`, instead of it.

    Example:
        >>> import numpy as np
        >>> bank = np.array([[0.9, 0.1], [0.8, 0.2]])  # every bank query likes the first item: a hub
        >>> hub = HubnessNormaliser(method="is", beta_query=20.0, shrink=1.0).fit(bank)
        >>> hub.transform(np.array([[0.6, 0.5]])).round(2)
        array([[0.25, 0.85]])
    """

    def __init__(self, config: HubnessConfig | None = None, **options: Any) -> None:
        self.config = replace(config, **options) if config else HubnessConfig(**options)
        self.terms: tuple[Term, ...] = ()
        self.facts = Facts()
        self.items: int | None = None
        """Gallery size; None before fitting."""
        self.ordered: Tensor | None = None
        """GC alone: the bank's similarities of every item in ascending order, ``(N, M)``."""
        self._kept: _Subtract | None = None  # so that one query at a time costs no more than its own numbers

    def fit(
        self,
        query_bank: Array | Rows | None = None,
        gallery_bank: Array | Rows | None = None,
        cross_bank: Array | Rows | None = None,
        live: Array | Rows | None = None,
        *,
        block_bytes: int = BLOCK_BYTES,
        progress: Progress = silent,
    ) -> HubnessNormaliser:
        """Read the banks and keep one bias per gallery item and bank.

        Args:
            query_bank: training queries × gallery ``(M, N)``: similarities, or `ProductRows` of embeddings.
            gallery_bank: training gallery × gallery, within the modality (gis, dualis, dualdis).
            cross_bank: query bank × gallery bank (dbsn).
            live: unlabelled queries from production × gallery, at least 30, not the bank: the guard of `shrink`.
            block_bytes: size of the largest block of similarities in memory.
            progress: wraps long loops.

        Returns:
            self.

        Raises:
            ConfigError: a bank that the method needs is missing, or it takes none.
            MismatchError: two inputs differ in gallery size.
            DataError: NaN, +inf, an empty bank.
        """
        if self.config.traits.transductive:
            return self  # it looks at the test queries, in `transform`
        named = {"query_bank": query_bank, "gallery_bank": gallery_bank, "cross_bank": cross_bank}
        banks = named_rows(self.config, named)
        self.items = gallery_size(banks)
        fitting = Fitting(self.config, banks, block_bytes, progress)
        self.terms, self.ordered, facts = fitting.terms(), fitting.ordered(), fitting.facts
        guard = None if live is None else self._guard(as_rows(live, "the live queries"), block_bytes)
        shrink = self.config.shrink
        if shrink is None:
            shrink = guard.slope if guard else facts.reliability if facts.reliability is not None else 1.0
        self.facts = replace(facts, guard=guard, shrink=shrink)
        return self

    def _guard(self, live: Rows, block_bytes: int) -> GuardResult:
        if live.shape[0] < MIN_LIVE:
            raise ConfigError(f"the guard got {count_of(live.shape[0], 'live query')}, expected at least {MIN_LIVE}")
        if live.shape[1] != self.items:
            raise MismatchError(f"the live queries have {live.shape[1]} columns, the gallery {self.items} items")
        if not self.terms:
            raise ConfigError(f"method {self.config.method!r} has no bias that live queries could check")
        beta = inverse(sample_sigma(live), QUERY_BETA)
        seen = collect(live, (beta,), block_bytes=block_bytes)
        return guard_slope(self.bias(shrunk=False), seen.bias(), live.shape[0], reliability(half_biases(seen)))

    def bias(self, opened: Sequence[bool] | None = None, shrunk: bool = True) -> Tensor:
        """Return the centred bias ``(N,)`` float64 of a query whose gates are `opened` (default: all)."""
        self._require_fitted()
        opened = [True] * len(self.terms) if opened is None else opened
        total = torch.zeros(self.items or 0, dtype=torch.float64)
        for term, on in zip(self.terms, opened, strict=True):
            if on:
                total = total.to(term.bias.device) + term.weight * (term.bias - term.bias.mean())
        return self.facts.shrink * total if shrunk else total

    def gates(self, best: Tensor) -> list[Tensor | None]:
        """Return, for every term, a mask over queries by their best raw item ``(B,)``; None: open for all."""
        return [None if term.active is None else term.active.to(best.device)[best] for term in self.terms]

    def transform(self, S: Array | Rows, out: Array | None = None, *, progress: Progress = silent) -> Array:
        """Return corrected similarities of queries against the whole gallery, ``(B, N)``, one query or many.

        Args:
            S: raw similarities; float16 and integers come back as float32. For transductive methods these are all the
                test queries there are.
            out: where the result goes, block by block; may be `S` itself. Default: a new array, of S's kind.
            progress: wraps the loop.

        Raises:
            MismatchError: S has another gallery size.
            DataError: NaN or +inf.
        """
        rows = as_rows(S)
        if out is None:
            out = torch.empty(rows.shape, dtype=self._dtype(rows), device=rows.device)
            out = out if isinstance(S, Tensor) or S is rows else out.numpy()
        pages = MappedPages(out)
        for start, strip in self._strips(rows, progress):
            out[start : start + len(strip)] = strip if isinstance(out, Tensor) else strip.cpu().numpy()
            pages.touched(strip.nbytes)
        return out

    def _dtype(self, rows: Rows) -> torch.dtype:
        return torch.float64 if self.config.method == "gc" else rows.dtype

    def blocks(
        self, S: Array | Rows, block_bytes: int = BLOCK_BYTES, progress: Progress = silent
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(first row, corrected block)``: the streaming form of `transform`."""
        rows = as_rows(S)
        apply = self.prepare(rows, block_bytes, progress)
        total = -(-rows.shape[0] // max(1, block_bytes // (rows.shape[1] * rows.dtype.itemsize)))
        for start, block in progress(rows.blocks(block_bytes), "correcting", total):
            require_no_nan(block, rows)
            yield start, apply(block)

    def _strips(self, rows: Rows, progress: Progress) -> Iterator[tuple[int, Tensor]]:
        """Yield what `blocks` does, computed in large blocks and corrected in strips that stay in the cache."""
        apply = self.prepare(rows, progress=progress)
        width = rows.shape[1] * rows.dtype.itemsize
        size, total = max(1, STRIP_BYTES // width), -(-rows.shape[0] // max(1, BLOCK_BYTES // width))
        for first, block in progress(rows.blocks(BLOCK_BYTES), "correcting", total):
            for start in range(0, len(block), size):
                strip = block[start : start + size]
                require_no_nan(strip, rows)
                yield first + start, apply(strip)

    def prepare(
        self, rows: Rows, block_bytes: int = BLOCK_BYTES, progress: Progress = silent
    ) -> Callable[[Tensor], Tensor]:
        """Return what corrects a block of `rows`: a function of the fitted state, or of all test queries.

        It expects numbers that `require_no_nan` has seen.
        """
        if self.config.traits.transductive:
            fitting = Fitting(self.config, {"query_bank": rows}, block_bytes, progress)
            bias = fitting.terms()[0].bias
            self.facts = fitting.facts
            if self.config.method == "dsl" and self.config.rule == "product":
                beta = fitting.facts.beta_query or 1.0
                return lambda block: torch.where(
                    block.isneginf(), block, block * (beta * (block - bias)).exp().to(block.dtype)
                )
            return lambda block: (block - (bias - bias.mean())).to(block.dtype)
        self._require_fitted()
        if self.items not in (None, rows.shape[1]):  # None: raw needs no fitting
            raise MismatchError(
                f"{rows.name} have {rows.shape[1]} columns, the banks were fitted for {self.items} gallery items"
            )
        if self.ordered is not None:
            return self._globally_corrected
        if self.config.method == "dualdis" and self.config.rule == "product":
            return self._product
        kept = self._kept
        if kept is None or not kept.serves(self, rows):
            kept = self._kept = _Subtract(self, rows)
        return kept

    def _globally_corrected(self, block: Tensor) -> Tensor:
        assert self.ordered is not None
        return rank_corrected(block, self.ordered.to(block.device))

    def _product(self, block: Tensor) -> Tensor:
        gates = [gate[:, None] for gate in self.gates(top_k(block, 1)[1][:, 0]) if gate is not None]
        betas = [beta for beta in (self.facts.beta_query, self.facts.beta_gallery) if beta is not None]
        return signed_product(block, [term.bias.to(block) for term in self.terms], betas, gates)

    def query(self, similarities: Array, k: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rank the gallery for one query online.

        Args:
            similarities: ``(N,)`` against the whole gallery.
            k: items returned; default all.

        Returns:
            gallery positions and corrected similarities, best first.

        Raises:
            ConfigError: the method is transductive: it needs all test queries at once.
        """
        if self.config.traits.transductive:
            raise ConfigError(f"method {self.config.method!r} needs all test queries at once; use a bank method online")
        corrected = as_tensor(self.transform(as_tensor(similarities)[None]))
        values, places = top_k(corrected, k or corrected.shape[1])
        return places[0].cpu().numpy(), values[0].cpu().numpy()

    def search(self, S: Array | Rows, k: int, progress: Progress = silent) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and corrected similarities of the top k of every query, ``(B, k)`` each.

        With `ProductRows` no matrix of all similarities is ever held.
        """
        found = [top_k(strip, k) for _, strip in self._strips(as_rows(S), progress)]
        values, places = (torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))
        return places, values

    def rerank(
        self, ids: np.ndarray, scores: np.ndarray, top: int = 1, low: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Correct a raw top-K list that came from a search index.

        An item that was not scored has at most the K-th raw similarity, minus the smallest bias among such items.
        Where the corrected list's `top`-th score is above that, its first `top` entries are **exact**: those of the
        corrected search of the whole gallery. Where it is not, they usually are as well, but nothing proves it: ask the
        index for a longer list (`index.CertifiedSearch` does), or score the items of the smallest bias too (`low`).
        A list that an approximate index made is certified relative to what that index would return.

        Args:
            ids: gallery positions ``(B, K)``, best raw similarity first.
            scores: their raw similarities ``(B, K)``.
            top: how many entries the certificate is about.
            low: positions ``(E,)`` of `least_biased` items and their raw similarities ``(B, E)``.

        Returns:
            ids and corrected scores ``(B, K)``, best first, and the certificates ``(B,)``.
        """
        self._require_additive()
        places, raw = torch.from_numpy(np.asarray(ids)).long(), as_tensor(scores)
        if places.shape != raw.shape or places.ndim != 2 or top > places.shape[1]:
            raise ValueError(f"ids {tuple(places.shape)}, scores {tuple(raw.shape)}: expected both (B, K), K >= {top}")
        if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < (self.items or 0):
            raise MismatchError(f"a list names gallery items outside [0, {self.items}): is it of another gallery?")
        first = torch.where(raw == raw[:, :1], places, torch.iinfo(places.dtype).max).amin(1)  # as `top_k` has it
        k, last, weights = places.shape[1], raw[:, -1], self.weights(first)
        extra = None if low is None else torch.from_numpy(np.asarray(low[0])).long()
        if extra is not None and low is not None:
            twice = torch.stack([torch.isin(extra, row) for row in places])
            raw = torch.cat([raw, torch.where(twice, -torch.inf, as_tensor(low[1]))], dim=1)
            places = torch.cat([places, extra.expand(len(places), -1)], dim=1)
        corrected = raw.double() - torch.einsum("bt,tbk->bk", weights, self.centred_biases()[:, places])
        corrected, places = _best_first(corrected.to(raw.dtype), places)
        bound = last.double() - self._least_bias(weights, extra)
        certified = (corrected[:, top - 1].double() > bound) | (k == self.items)
        return places[:, :k].numpy(), corrected[:, :k].numpy(), certified.numpy()

    def least_biased(self, count: int) -> np.ndarray:
        """Return the positions of the items with the smallest bias: what a raw list most likely misses."""
        places: np.ndarray = self.bias().cpu().topk(min(count, self.items or 0), largest=False).indices.numpy()
        return places

    def centred_biases(self) -> Tensor:
        """Return the centred bias of every term, ``(terms, N)`` float64 on the CPU."""
        rows = [_centred(term).cpu() for term in self.terms]
        return torch.stack(rows) if rows else torch.zeros(0, self.items or 0, dtype=torch.float64)

    def weights(self, best: Tensor) -> Tensor:
        """Return what every term's centred bias is multiplied by, ``(B, terms)``, given the best raw items ``(B,)``."""
        columns = [
            torch.full((len(best),), self.facts.shrink * term.weight, dtype=torch.float64)
            * (1.0 if gate is None else gate.cpu().double())
            for term, gate in zip(self.terms, self.gates(best), strict=True)
        ]
        return torch.stack(columns, dim=1) if columns else torch.zeros(len(best), 0, dtype=torch.float64)

    def _least_bias(self, weights: Tensor, scored: Tensor | None) -> Tensor:
        """Return a lower bound of the bias of the items outside `scored`, by query."""
        combinations, row = weights.unique(dim=0, return_inverse=True)
        biases = combinations @ self.centred_biases()
        if scored is not None:
            biases[:, scored] = torch.inf
        return biases.amin(1)[row]

    def _require_fitted(self) -> None:
        if self.items is None and self.config.method != "raw":
            raise ConfigError("the normaliser is not fitted; call fit with the banks first")

    def _require_additive(self) -> None:
        self._require_fitted()
        product = self.config.method == "dualdis" and self.config.rule == "product"
        if self.config.method == "gc" or self.config.traits.transductive or product:
            name = f"{self.config.method} with the product rule" if product else self.config.method
            raise ConfigError(f"method {name!r} has no bias per item, so a list or an index cannot be corrected by it")


def _best_first(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows by score; equal scores go to the lowest position, as everywhere."""
    order = places.argsort(dim=1)
    order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return scores.gather(1, order), places.gather(1, order)


def _centred(term: Term) -> Tensor:
    return term.bias - term.bias.mean()


class _Subtract:
    """Subtracts the terms whose gates are open from a block."""

    def __init__(self, normaliser: HubnessNormaliser, rows: Rows) -> None:
        self.normaliser = normaliser
        self.made_of = (normaliser.terms, normaliser.facts, rows.device, rows.dtype)
        self.gated = any(term.active is not None for term in normaliser.terms)
        shares = [
            (normaliser.facts.shrink * term.weight * _centred(term)).to(rows.device, rows.dtype)
            for term in normaliser.terms
        ]
        self.biases = torch.zeros(1, rows.shape[1], device=rows.device, dtype=rows.dtype)
        for share in shares:  # the sum of every subset; bit i of its row number: share i is in it
            self.biases = torch.cat([self.biases, self.biases + share])

    def serves(self, normaliser: HubnessNormaliser, rows: Rows) -> bool:
        """Tell whether it would be made the same again."""
        terms, facts, device, dtype = self.made_of
        same = terms is normaliser.terms and facts is normaliser.facts
        return same and device == rows.device and dtype == rows.dtype

    def __call__(self, block: Tensor) -> Tensor:
        if not self.gated:
            return block - self.biases[-1]
        gates = self.normaliser.gates(top_k(block, 1)[1][:, 0])
        opened = [gate for gate in gates if gate is not None]
        if all(bool(gate.all()) for gate in opened):  # as it is for nearly all queries of a good bank
            return block - self.biases[-1]
        bias = self.biases[sum(gate.long() << i for i, gate in enumerate(opened))]
        return torch.sub(block, bias, out=bias)
