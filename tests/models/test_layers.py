from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from momentret.models.layers import (
    GROUP_ITEMS,
    MLP,
    Dropout,
    Group,
    MultiheadAttention,
    Packing,
    dropout,
    sine_positions,
)


def mask_of(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def attention_pair(probability: float = 0.0) -> tuple[MultiheadAttention, torch.nn.MultiheadAttention]:
    torch.manual_seed(0)
    ours = MultiheadAttention(8, 2, probability)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    torch.nn.init.normal_(ours.in_proj_bias)
    torch.nn.init.normal_(ours.out_proj.bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("method", ["forward", "forward_few"])
def test_attention_equals_torch(method: str) -> None:
    ours, theirs = attention_pair()
    query, key, value = torch.randn(3, 4, 8), torch.randn(3, 6, 8), torch.randn(3, 6, 8)
    mask = mask_of(6, 2, 4)
    expected, _ = theirs(query, key, value, key_padding_mask=~mask)
    assert_close(getattr(ours, method)(query, key, value, mask), expected)


def test_packed_self_attention_equals_padded() -> None:
    ours, _ = attention_pair()
    query, value, mask = torch.randn(4, 6, 8), torch.randn(4, 6, 8), mask_of(6, 2, 4, 2)
    packing = Packing(mask)
    packed = ours.forward_packed(packing.pack(query), packing.pack(value), packing.groups)
    assert_close(packed, packing.pack(ours(query, query, value, mask)))


def test_packed_items_do_not_see_each_other() -> None:
    ours, _ = attention_pair()
    rows = torch.randn(10, 8)
    together = ours.forward_packed(rows, rows, [Group(2, 3), Group(1, 4)])
    assert_close(together[:3], ours.forward_packed(rows[:3], rows[:3], [Group(1, 3)]))


def test_packed_items_of_one_length_are_neighbours() -> None:
    assert Packing(mask_of(4, 2, 4, 1, 2)).groups == [Group(1, 1), Group(2, 2), Group(2, 4)]
    many = Packing(mask_of(*[3] * (GROUP_ITEMS + 2)))
    assert many.groups == [Group(GROUP_ITEMS, 3), Group(2, 3)]


def test_dropped_attention_weights_keep_the_mean() -> None:
    # every form drops weights, not outputs: the mean over many draws is the output without dropout
    ours, _ = attention_pair(probability=0.5)
    query, key = torch.randn(1, 2, 8), torch.randn(1, 5, 8)
    for form in ("forward", "forward_few"):
        ours.eval()
        expected = getattr(ours, form)(query, key, key, mask_of(5))
        ours.train()
        many = getattr(ours, form)(*(rows.expand(20000, -1, -1) for rows in (query, key, key)), mask_of(5))
        assert_close(many.mean(0, keepdim=True), expected, atol=0.03, rtol=0.0)  # 20,000 draws


def test_packing_round_trips() -> None:
    rows, mask = torch.randn(3, 5, 2), mask_of(5, 1, 3)
    packing = Packing(mask)
    assert packing.pack(rows).shape == (9, 2)
    assert_close(packing.unpack(packing.pack(rows)), rows * mask[..., None])


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_has_the_right_rate_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    values = dropout(torch.ones(1001, 999), probability)
    assert float((values == 0).double().mean()) == pytest.approx(probability, abs=2e-3)  # 4 standard errors
    assert float(values.max()) == pytest.approx(1 / (1 - probability), rel=1e-4)
    assert values.unique().numel() == 2


def test_dropout_decides_on_neighbours_independently() -> None:
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(100_000, 8), 0.5) == 0).double()
    correlation = torch.corrcoef(dropped.T) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.02  # 6 standard errors


def test_dropout_sends_gradients_where_values_went() -> None:
    values = torch.ones(50, requires_grad=True)
    result = dropout(values, 0.3)
    result.sum().backward()
    assert_close(values.grad, result.detach())


def test_dropout_follows_the_seed() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(dropout(torch.ones(33), 0.5))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], dropout(torch.ones(33), 0.5))


def test_dropout_is_off_at_evaluation() -> None:
    values = torch.randn(10)
    assert Dropout(0.9).eval()(values) is values


def test_sine_positions_by_hand() -> None:
    found = sine_positions(mask_of(4, 2), 4)
    assert found.shape == (2, 4, 4)
    quarter, half = 2 * math.pi / 4, 2 * math.pi / 2
    expected = [math.sin(quarter), math.cos(quarter), math.sin(quarter / 100), math.cos(quarter / 100)]
    assert_close(found[0, 0], torch.tensor(expected), atol=1e-5, rtol=0.0)
    assert_close(found[1, 0, 1], torch.tensor(math.cos(half)), atol=1e-5, rtol=0.0)
    assert_close(found[1, 2], found[1, 1])  # padding repeats the last valid position


def test_an_mlp_has_no_activation_at_its_end() -> None:
    torch.manual_seed(0)
    model = MLP(3, 5, 2, depth=3)
    assert [tuple(layer.weight.shape) for layer in model.layers] == [(5, 3), (5, 5), (2, 5)]
    torch.nn.init.constant_(model.layers[-1].bias, -9.0)
    assert float(model(torch.zeros(1, 3)).detach().max()) < 0
