"""The methods on matrices in memory, as their papers state them, in log space.

Rows are queries (or bank elements), columns are the gallery: ``S (Nq, Ng)`` test queries, ``P (Nb, Ng)`` query bank,
``R (Nc, Ng)`` gallery bank. NumPy in, NumPy out; torch in, torch out, on its device. Nothing is changed in place.
A bank method ranks by ``S - b`` with one bias b per gallery item, in similarity units, here not centred.
Large inputs, fitting and storing: `normaliser`; the same sums block by block: `streaming`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from momentret.search.hubness.arrays import count_listed, numpy_alike, top_k, uncorrected

__all__ = [
    "activation_set",
    "bank_sinkhorn_bias",
    "csls",
    "dual_dis",
    "dual_inverted_softmax",
    "dual_softmax",
    "dynamic_inverted_softmax",
    "gate",
    "globally_corrected",
    "inverted_softmax",
    "inverted_softmax_bias",
    "nnn_bias",
    "rank_corrected",
    "signed_log_factor",
    "signed_product",
    "top_mean",
]


@numpy_alike
def inverted_softmax_bias(P: Tensor, beta: float) -> Tensor:
    """Return the IS bias ``log sum_b exp(beta P_bj) / beta`` of every gallery item, ``(Ng,)``.

    An item whose bank entries are all masked (-inf) has no normaliser: see `arrays.uncorrected`.
    Source: Smith et al. 2017, equation 3.
    """
    return _precise_bias(P, beta).to(P.dtype)


def _precise_bias(P: Tensor, beta: float) -> Tensor:
    """Return the IS bias in float64."""
    _require_positive(beta=beta)
    reference = P.amax(0)
    total = (beta * (P - reference)).exp().sum(0, dtype=torch.float64)
    return uncorrected(reference + total.log() / beta, reference.isneginf())


@numpy_alike
def inverted_softmax(S: Tensor, P: Tensor, beta: float) -> Tensor:
    """Return ``log(exp(beta S_ij) / sum_b exp(beta P_bj))``, the logarithm of IS."""
    return beta * S - (beta * _precise_bias(P, beta)).to(S.dtype)  # below beta 1 the bias is large, S is not


@numpy_alike
def dual_inverted_softmax(S: Tensor, P: Tensor, R: Tensor, beta_query: float, beta_gallery: float) -> Tensor:
    """Return the logarithm of DualIS: the sum of the two log-IS terms.

    Source: Wang et al. 2023 (DBNorm); both numerators use the test similarity.
    """
    return inverted_softmax(S, P, beta_query) + inverted_softmax(S, R, beta_gallery)


@numpy_alike
def activation_set(P: Tensor, k: int = 1) -> Tensor:
    """Return a mask ``(Ng,)``: which gallery items are in the top k of some bank row."""
    return count_listed(*top_k(P, k), P.shape[1]) > 0


@numpy_alike
def gate(S: Tensor, active: Tensor) -> Tensor:
    """Return a mask ``(Nq,)``: queries whose best item on raw similarities is an active one."""
    best = top_k(S, 1)[1][:, 0]
    return torch.as_tensor(active, device=S.device)[best]


@numpy_alike
def dynamic_inverted_softmax(S: Tensor, P: Tensor, beta: float, k: int = 1) -> Tensor:
    """Return DIS (QB-Norm) in similarity units: IS for queries whose gate is open, the similarity for the others.

    Source: Bogolin et al. 2022; there the two kinds of rows are on different scales.
    """
    opened = gate(S, activation_set(P, k))[:, None]
    return S - torch.where(opened, inverted_softmax_bias(P, beta), 0.0)


@numpy_alike
def dual_dis(
    S: Tensor, P: Tensor, R: Tensor, beta_query: float, beta_gallery: float, k: int = 1, rule: str = "monotone"
) -> Tensor:
    """Return DualDIS scores under one of its two rules.

    A closed gate drops the denominator of its factor (``monotone``, in similarity units), or replaces the factor by the
    raw similarity (``product``, as published; it is not monotone for negative similarities). They rank alike where
    both gates are open.

    Returns:
        For ``product`` the signed logarithm ``sign(x) * (C + log|x|)`` of the product x, with a constant C per row that
        keeps the order of the row.
    """
    gates = [gate(S, activation_set(bank, k))[:, None] for bank in (P, R)]
    betas = (beta_query, beta_gallery)
    biases = [inverted_softmax_bias(bank, b) for bank, b in zip((P, R), betas, strict=True)]
    if rule == "product":
        return signed_product(S, biases, betas, gates)
    if rule != "monotone":
        raise ValueError(f"rule is {rule!r}, expected 'monotone' or 'product'")
    shares = [torch.where(g, b * bias, 0.0) for bias, b, g in zip(biases, betas, gates, strict=True)]
    return S - sum(shares) / sum(betas)


def signed_log_factor(S: Tensor, bias: Tensor, beta: float, open_gate: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(sign, log |factor|)`` of one factor of the product rule."""
    sign = torch.where(open_gate, 1.0, S.sign())
    return sign, torch.where(open_gate, beta * (S - bias), S.abs().log())


def signed_product(S: Tensor, biases: Sequence[Tensor], betas: Sequence[float], open_gates: Sequence[Tensor]) -> Tensor:
    """Return DualDIS by the product rule, as `dual_dis` does, from IS biases ``(Ng,)`` and gates ``(Nq, 1)``."""
    factors = [signed_log_factor(S, *factor) for factor in zip(biases, betas, open_gates, strict=True)]
    (first, one), (second, other) = factors
    sign, size, masked = first * second, one + other, S.isneginf()
    floor = torch.where(masked | size.isneginf(), torch.inf, size).amin(1, keepdim=True)
    floor = torch.where(floor.isfinite(), floor, 0.0)
    product = torch.where(sign == 0, 0.0, sign * (1.0 + (size - floor).clamp(min=0)))
    return torch.where(masked, -torch.inf, product)


@numpy_alike
def top_mean(P: Tensor, k: int) -> Tensor:
    """Return the mean of the k largest entries of every column, ``(Ng,)``; k is clipped to the number of rows.

    Masked entries (-inf) do not count; for a column of nothing else see `arrays.uncorrected`.
    """
    _require_positive(k=k)
    best = P.topk(min(k, P.shape[0]), dim=0).values
    masked = best.isneginf()
    return uncorrected(torch.where(masked, 0.0, best).sum(0) / (~masked).sum(0), masked.all(0))


@numpy_alike
def nnn_bias(P: Tensor, alpha: float = 0.75, k: int = 128) -> Tensor:
    """Return the bias of nearest neighbour normalisation: `alpha` times the mean of the top-k bank similarities.

    Source: Chowdhury et al. 2024.
    """
    return alpha * top_mean(P, k)


@numpy_alike
def csls(S: Tensor, P: Tensor, k: int = 10) -> Tensor:
    """Return ``2 S_ij - r_i - r_j``: r_i over the gallery, r_j over the query bank.

    Source: Conneau et al. 2018, with the test queries replaced by the bank.
    """
    return 2 * S - top_mean(S.T, k)[:, None] - top_mean(P, k)


@numpy_alike
def globally_corrected(S: Tensor, P: Tensor, additive: bool = False) -> Tensor:
    """Return GC scores: fewest bank queries that like the item more than this query does, then the similarity.

    Args:
        S: similarities.
        P: query bank.
        additive: the published ``-(rank - S)``, which breaks ties rightly only for S inside (-1, 1).

    Source: Dinu et al. 2015.
    """
    return rank_corrected(S, P.T.sort(dim=1).values.contiguous(), additive)


def rank_corrected(S: Tensor, ordered: Tensor, additive: bool = False) -> Tensor:
    """Return GC scores; `ordered`: the bank's similarities of every item in ascending order, ``(Ng, Nb)``."""
    above = ordered.shape[1] - torch.searchsorted(ordered, S.T.contiguous().to(ordered.dtype), right=True).T
    tie_break = S if additive else 0.5 * S.double() / (1 + S.abs().double())  # inside (-0.5, 0.5), strictly rising
    return torch.where(S.isneginf(), -torch.inf, tie_break - above)


@numpy_alike
def dual_softmax(S: Tensor, temperature: float) -> Tensor:
    """Return ``S_ij * softmax_i(t S_ij)`` over the **test queries**: transductive, not for online use.

    Source: Cheng et al. 2021 (CAMoE).
    """
    return torch.where(S.isneginf(), S, S * torch.softmax(temperature * S, dim=0))


@numpy_alike
def bank_sinkhorn_bias(P: Tensor, tau: float, iterations: int = 10, X: Tensor | None = None) -> Tensor:
    """Return the Sinkhorn potential of every gallery item, ``-tau * log v_j``, ``(Ng,)``.

    Args:
        P: query bank × gallery; the test matrix itself gives SN, which is transductive.
        tau: entropic regulariser; ``iterations=0`` is IS with ``beta = 1 / tau``.
        iterations: full iterations, query half-step first.
        X: query bank × gallery bank; the gallery bank then shares the mass (DBSN).

    Source: Pan et al. 2025.
    """
    _require_positive(tau=tau)
    if iterations == 0:
        return inverted_softmax_bias(P, 1 / tau)
    K = (P if X is None else torch.cat([P, X], dim=1)).double() / tau
    rows, columns = (math.log(size) for size in K.shape)
    potential = torch.zeros_like(K[0])
    for _ in range(iterations):
        query = -rows - torch.logsumexp(K + potential, dim=1)
        potential = -columns - torch.logsumexp(K + query[:, None], dim=0)
    return (-tau * potential[: P.shape[1]]).to(P.dtype)


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}, expected a number above 0")
