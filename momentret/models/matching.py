"""Bipartite matching of slots and targets: which prediction answers for which true moment.

The only door to scipy. Costs are the model's business; this room solves assignments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from momentret.errors import MomentretError

__all__ = ["Matches", "match"]


class Matches(NamedTuple):
    """For every layer and target the slot that answers for it; of one shape for all batches with as many targets."""

    slots: Tensor
    """``(K, B, N)`` long; 0 where there is no match."""
    matched: Tensor
    """``(K, B, N)``, True where a target is matched; as many in every layer."""

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> Matches:
        """Return what `named` put into a batch."""
        return cls(batch["matched_slots"], batch["matched"])

    def named(self) -> dict[str, Tensor]:
        """Return both as a batch calls them."""
        return {"matched_slots": self.slots, "matched": self.matched}


@torch.no_grad()
def match(cost: Tensor, counts: Sequence[int]) -> Matches:
    """Assign targets to slots at the least total cost, for every layer and item by itself.

    Args:
        cost: ``(K, B, S, N)`` for K decoder layers, lower is better; columns from ``counts[i]`` on are padding.
        counts: number of targets of each item; min(S, count) of them are matched, none where it is 0.

    Raises:
        MomentretError: a cost is not finite: the model's outputs have blown up.
    """
    blocks = cost.float().cpu().numpy()
    chosen = np.zeros(blocks.shape[:2] + blocks.shape[3:], dtype=np.int64)  # (K, B, N)
    matched = np.zeros(chosen.shape, dtype=bool)
    try:
        for layer, items in enumerate(blocks):
            for item, count in enumerate(counts):
                slots, targets = linear_sum_assignment(items[item, :, :count])
                chosen[layer, item, targets] = slots
                matched[layer, item, targets] = True
    except ValueError as error:
        raise MomentretError(
            "model outputs are not finite, nothing can be matched; check the features for huge values or lower the "
            "learning rate"
        ) from error
    device = cost.device
    return Matches(torch.from_numpy(chosen).to(device), torch.from_numpy(matched).to(device))
