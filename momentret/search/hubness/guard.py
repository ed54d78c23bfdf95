"""How much of a bank's correction to believe: a number between 0 (none) and 1 (all of it), without labels.

Split-half reliability looks at the bank alone and sees noise; the slope against live queries also sees a bank of
another domain. Both multiply the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DEAD_ZONE", "MIN_LIVE", "GuardResult", "guard_slope", "reliability"]

DEAD_ZONE = 0.1  # below it a slope is noise; without it one drift scenario in 300 lost 0.8 points of R@1
MIN_LIVE = 30  # live queries; more change little
LEAST_RELIABLE = 0.25  # live queries less reliable than that do not excuse a correlation


@dataclass(frozen=True)
class GuardResult:
    """What live queries say about a bank."""

    slope: float
    """The shrinkage to use, in [0, 1]: the regression slope of the live bias on the bank's, times `agreement`; 0 where
    it is below `DEAD_ZONE`."""
    correlation: float
    """Over gallery items, [-1, 1]; 0 where either bias is constant."""
    queries: int
    """Live queries looked at."""
    agreement: float = 1.0
    """The correlation that live queries without noise would show, in [0, 1]."""

    @property
    def fit(self) -> bool:
        """False: the bank does not see the hubs of the live queries, and correcting by it would hurt."""
        return self.slope > 0


def reliability(halves: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the Spearman-Brown reliability of a bank's bias, [0, 1], from biases of complementary halves.

    0 if there is no pair of halves, or a bias that does not vary.
    """
    if not halves:
        return 0.0
    mean = sum(_correlation(first, second) for first, second in halves) / len(halves)
    return max(0.0, 2 * mean / (1 + mean)) if mean > 0 else 0.0


def guard_slope(bank_bias: Tensor, live_bias: Tensor, queries: int, live_reliability: float = 1.0) -> GuardResult:
    """Compare the biases that a bank and live queries give to the same gallery items, ``(N,)`` each.

    Noise in the bank's bias lowers the slope by the factor by which the bias should be shrunk; noise in the live one
    does not move it. The slope alone trusts a bank that shares some hubs with the live queries and invents others:
    two of 600 drift scenarios lost more than half a point of R@1. So it is multiplied by the correlation, freed from
    the noise of the live bias: none of those 600 does any more, for 4 % less of the gain; of 200 others one lost 0.8.

    Args:
        bank_bias: of the bank.
        live_bias: of the live queries.
        queries: how many live queries there are.
        live_reliability: of the live bias, see `reliability`.
    """
    bank, live = (bias.double() - bias.double().mean() for bias in (bank_bias, live_bias))
    size, correlation = float(bank @ bank), _correlation(bank, live)
    agreement = min(1.0, max(0.0, correlation) / math.sqrt(max(live_reliability, LEAST_RELIABLE)))
    slope = agreement * min(1.0, max(0.0, float(bank @ live) / size)) if size > 0 else 0.0
    return GuardResult(slope if slope >= DEAD_ZONE else 0.0, correlation, queries, agreement)


def _correlation(first: Tensor, second: Tensor) -> float:
    first, second = first.double() - first.double().mean(), second.double() - second.double().mean()
    size = float(first.norm() * second.norm())
    noise = 1e-12 * max(1.0, float(first.numel()))  # a constant bias differs from its mean by rounding alone
    return float(torch.dot(first, second)) / size if size > noise else 0.0
