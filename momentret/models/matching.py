"""Bipartite matching of slots and targets: which prediction answers for which true moment.

The only door to scipy. Costs are the model's business; this room pads targets and solves assignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from momentret.errors import MomentretError

__all__ = ["Matches", "match", "pad_targets"]


class Matches(NamedTuple):
    """Matched pairs; pair m belongs to batch item ``items[m]`` in every layer."""

    items: Tensor
    """``(M,)`` long, increasing."""
    slots: Tensor
    """``(K, M)`` long, increasing within an item."""
    targets: Tensor
    """``(K, M)`` long, position in the item's own target list."""


def pad_targets(targets: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Stack targets ``(n_i, 2)`` to ``(B, N, 2)`` with zeros behind, and return each ``n_i`` (0 is legal)."""
    rows = [target.reshape(-1, 2) for target in targets]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), [len(row) for row in rows]


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
    slots: list[list[np.ndarray]] = []
    targets: list[list[np.ndarray]] = []
    for layer in blocks:
        try:
            pairs = [linear_sum_assignment(block[:, :count]) for block, count in zip(layer, counts, strict=True)]
        except ValueError as error:
            raise MomentretError(
                "model outputs are not finite, nothing can be matched; check the features for huge values or lower the "
                "learning rate"
            ) from error
        slots.append([rows for rows, _ in pairs])
        targets.append([columns for _, columns in pairs])
    sizes = [len(rows) for rows in slots[0]]
    return Matches(
        items=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(cost.device),
        slots=_stack(slots).to(cost.device),
        targets=_stack(targets).to(cost.device),
    )


def _stack(layers: list[list[np.ndarray]]) -> Tensor:
    return torch.from_numpy(np.stack([np.concatenate(layer) for layer in layers]))
