"""Corrected search on FAISS: one augmented index for every bank method, or certified correction of an untouched one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from momentret.errors import ConfigError, MismatchError
from momentret.search.hubness.arrays import Array, as_tensor
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.rows import unit_rows

__all__ = ["CertifiedSearch", "HubCorrectedIndex"]

MODES = ("raw", "is", "gis", "dis", "dualis", "dualdis")


class HubCorrectedIndex:
    """An inner-product index of ``[g ; -b_1 ; -b_2]``, searched with ``[q ; w_1 ; w_2]``: scores are ``S - w b``.

    The weights lie on the query side, so one index fitted with method dualdis (or dis) serves raw, is, gis, dis, dualis
    and dualdis. On a flat index results equal the dense computation; on an approximate one, what it finds.

    Args:
        gallery: embeddings ``(N, D)``, in the order the normaliser was fitted for.
        normaliser: a fitted one, of a method with a bias per item.
        metric: ``"cosine"`` normalises gallery and queries, ``"dot"`` does not.
        factory: a FAISS factory string; training data is the gallery itself.
    """

    def __init__(
        self, gallery: Array, normaliser: HubnessNormaliser, metric: str = "cosine", factory: str = "Flat"
    ) -> None:
        normaliser._require_additive()
        vectors = _vectors(gallery, metric, "the gallery")
        if len(vectors) != normaliser.items:
            raise MismatchError(f"the gallery has {len(vectors)} items, the banks were fitted for {normaliser.items}")
        faiss = import_faiss()
        biases = normaliser.centred_biases().float().T.numpy()  # (N, terms)
        augmented = np.concatenate([vectors, -biases], axis=1)
        self.normaliser, self.metric = normaliser, metric
        self.index = faiss.index_factory(augmented.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not self.index.is_trained:
            self.index.train(augmented)
        self.index.add(augmented)

    def search(self, queries: Array, k: int, mode: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return positions and corrected similarities of the top k, ``(B, k)``.

        Args:
            queries: embeddings ``(B, D)``.
            k: items returned.
            mode: raw, is, gis, dis, dualis or dualdis, as far as the fitted terms reach; default: as fitted.

        Raises:
            ConfigError: the normaliser lacks the terms of that mode.
        """
        vectors = _vectors(queries, self.metric, "the queries")
        weights = self._weights(vectors, mode or self.normaliser.config.method)
        scores, places = self.index.search(np.concatenate([vectors, weights], axis=1), k)
        return places, scores

    def _weights(self, vectors: np.ndarray, mode: str) -> np.ndarray:
        terms = self.normaliser.terms
        if mode == self.normaliser.config.method:
            gated = any(term.active is not None for term in terms)
            return self.normaliser.weights(self._best(vectors, gated)).float().numpy()
        if mode not in MODES:
            raise ConfigError(f"mode {mode!r} is not served by this index; known: {', '.join(MODES)}")
        needed = {"raw": (), "is": (0,), "dis": (0,), "gis": (1,)}.get(mode, (0, 1))
        fitted = self.normaliser.config.method
        if any(i >= len(terms) for i in needed) or (needed and fitted not in ("dis", "dualis", "dualdis")):
            raise ConfigError(f"mode {mode!r} needs a normaliser of method dualdis, this one is {fitted!r}")
        gated = mode in ("dis", "dualdis")
        if gated and terms[0].active is None:
            raise ConfigError(f"mode {mode!r} needs activation sets; fit method dualdis (or dis)")
        gates = self.normaliser.gates(self._best(vectors, gated))
        weights = np.zeros((len(vectors), len(terms)), np.float32)
        for i in needed:
            share = terms[i].weight if len(needed) > 1 else 1.0
            gate = gates[i]
            weights[:, i] = self.normaliser.facts.shrink * share * (gate.numpy() if gated and gate is not None else 1.0)
        return weights

    def _best(self, vectors: np.ndarray, gated: bool) -> torch.Tensor:
        """Return the best raw item of every query: one search with weights 0."""
        if not gated:
            return torch.zeros(len(vectors), dtype=torch.long)
        plain = np.zeros((len(vectors), len(self.normaliser.terms)), np.float32)
        return torch.from_numpy(self.index.search(np.concatenate([vectors, plain], axis=1), 1)[1][:, 0])


class CertifiedSearch:
    """Corrects the raw lists of an untouched index and lengthens them until their top is proven right.

    Args:
        index: a FAISS index of the gallery's embeddings by inner product; it is only searched.
        gallery: the same embeddings ``(N, D)``, to score the few items of smallest bias for every query.
        normaliser: a fitted one, of a method with a bias per item.
        low_share: share of the gallery that is scored for its small bias; more of it means shorter lists.
    """

    def __init__(self, index: Any, gallery: Array, normaliser: HubnessNormaliser, low_share: float = 0.01) -> None:
        self.index, self.normaliser = index, normaliser
        self.low = normaliser.least_biased(max(1, round(low_share * len(gallery))))
        self.low_vectors = as_tensor(gallery)[torch.from_numpy(self.low)].numpy()

    def search(
        self, queries: Array, k: int, first: int = 100, exact: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return positions, corrected similarities and certificates of the top k.

        Args:
            queries: embeddings ``(B, D)``, normalised as the index's are.
            k: items returned.
            first: length of the first raw list.
            exact: double the lists of uncertified queries until none is left; False: one list, certified or not.
        """
        vectors = np.ascontiguousarray(as_tensor(queries).float().numpy())
        size, total = max(first, k), int(self.index.ntotal)
        todo = np.arange(len(vectors))
        ids, scores = np.empty((len(vectors), k), np.int64), np.empty((len(vectors), k), np.float32)
        certified = np.zeros(len(vectors), bool)
        while len(todo):
            size = min(size, total)
            raw, places = self.index.search(vectors[todo], size)
            low = (self.low, vectors[todo] @ self.low_vectors.T)
            found, corrected, proven = self.normaliser.rerank(places, raw, top=k, low=low)
            ids[todo], scores[todo], certified[todo] = found[:, :k], corrected[:, :k], proven
            if not exact or size == total:
                break
            todo, size = todo[~proven], 2 * size
        return ids, scores, certified


def import_faiss() -> Any:
    """Import FAISS.

    Raises:
        ConfigError: it is not installed, with the command that installs it.
    """
    try:
        import faiss
    except ImportError as error:
        raise ConfigError("FAISS is not installed: pip install 'momentret[cpu]' (or [gpu])") from error
    return faiss


def _vectors(array: Array, metric: str, name: str) -> np.ndarray:
    vectors = as_tensor(array).float()
    return np.ascontiguousarray((unit_rows(vectors, name) if metric == "cosine" else vectors).numpy())
