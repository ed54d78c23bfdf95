from __future__ import annotations

from itertools import permutations

import pytest
import torch

from momentret.errors import MomentretError
from momentret.models.matching import match, pad_targets


def test_a_matching_by_hand() -> None:
    # targets 0 and 1 against three slots: 0.1 + 0.2 is the cheapest sum
    cost = torch.tensor([[0.5, 0.2], [0.9, 0.8], [0.1, 0.1]])[None, None]
    found = match(cost, [2])
    assert found.items.tolist() == [0, 0]
    assert found.slots.tolist() == [[0, 2]]
    assert found.targets.tolist() == [[1, 0]]


def test_a_matching_is_the_cheapest_of_all() -> None:
    cost = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    counts = [4, 2, 3]
    found = match(cost, counts)
    for layer in range(2):
        for item, count in enumerate(counts):
            own = found.items == item
            total = cost[layer, item, found.slots[layer, own], found.targets[layer, own]].sum()
            every = [cost[layer, item, list(slots), range(count)].sum() for slots in permutations(range(5), count)]
            assert total == pytest.approx(float(min(every)))


def test_padded_columns_are_never_matched() -> None:
    cost = torch.zeros(1, 2, 3, 2)
    cost[:, :, :, 1] = -100
    found = match(cost, [1, 2])
    assert found.items.tolist() == [0, 1, 1]
    assert found.targets[0].tolist()[0] == 0


def test_items_without_targets_match_nothing() -> None:
    found = match(torch.zeros(2, 2, 3, 0), [0, 0])
    assert found.slots.shape == found.targets.shape == (2, 0)


def test_more_targets_than_slots_match_as_many_as_there_are_slots() -> None:
    assert match(torch.rand(1, 1, 2, 5), [5]).slots.shape == (1, 2)


def test_targets_are_padded_to_the_longest() -> None:
    padded, counts = pad_targets([torch.ones(1, 2), torch.zeros(0), torch.full((3, 2), 2.0)])
    assert counts == [1, 0, 3]
    assert padded[:, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [2, 2, 2]]


def test_costs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MomentretError, match="not finite"):
        match(torch.full((1, 1, 2, 1), torch.nan), [1])
