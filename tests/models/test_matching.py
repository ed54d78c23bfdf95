from __future__ import annotations

from itertools import permutations

import pytest
import torch

from momentret.errors import MomentretError
from momentret.models.matching import match


def test_a_matching_by_hand() -> None:
    # targets 0 and 1 against three slots: 0.1 + 0.2 is the cheapest sum
    cost = torch.tensor([[0.5, 0.2], [0.9, 0.8], [0.1, 0.1]])[None, None]
    found = match(cost, [2])
    assert found.slots.tolist() == [[[2, 0]]]
    assert found.matched.tolist() == [[[True, True]]]


def test_a_matching_is_the_cheapest_of_all() -> None:
    cost = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    counts = [4, 2, 3]
    found = match(cost, counts)
    for layer in range(2):
        for item, count in enumerate(counts):
            own = found.matched[layer, item]
            assert own.tolist() == [target < count for target in range(4)]
            total = cost[layer, item, found.slots[layer, item, own], own.nonzero()[:, 0]].sum()
            every = [cost[layer, item, list(slots), range(count)].sum() for slots in permutations(range(5), count)]
            assert total == pytest.approx(float(min(every)))


def test_padded_columns_are_never_matched() -> None:
    cost = torch.zeros(1, 2, 3, 2)
    cost[:, :, :, 1] = -100
    found = match(cost, [1, 2])
    assert found.matched.tolist() == [[[True, False], [True, True]]]


def test_items_without_targets_match_nothing() -> None:
    found = match(torch.zeros(2, 2, 3, 0), [0, 0])
    assert found.slots.shape == found.matched.shape == (2, 2, 0)


def test_more_targets_than_slots_match_as_many_as_there_are_slots() -> None:
    found = match(torch.rand(1, 1, 2, 5, generator=torch.Generator().manual_seed(0)), [5])
    assert found.matched.sum() == 2
    assert sorted(found.slots[found.matched].tolist()) == [0, 1]


def test_costs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MomentretError, match="not finite"):
        match(torch.full((1, 1, 2, 1), torch.nan), [1])
