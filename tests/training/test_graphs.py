"""Recorded steps: what is replayed computes what the model computes. Recording itself needs a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from momentret.inputs import collate, to_device
from momentret.training.graphs import BatchShape, GraphedLosses

from ..models.test_contract import some_items, tiny_model

SHAPE = BatchShape(items=3, clips=12, words=7, windows=4)


def losses_and_gradients(losses: Any, model: torch.nn.Module) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    model.zero_grad()
    losses["loss"].backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return {name: value.detach() for name, value in losses.items()}, gradients


def not_recorded(*arguments: Any, **options: Any) -> None:
    """Stand in for the recorder: the callables stay as they are."""


@pytest.mark.parametrize("options", [{}, {"text_positions": True}, {"span_loss": "ce", "max_clips": 12}])
def test_a_padded_batch_gives_the_same_losses_and_gradients(options: dict[str, Any]) -> None:
    model = tiny_model("moment_detr", **options).eval()
    items = some_items()
    if "span_loss" in options:
        for one in items:
            one["spans"] = torch.tensor([[1, 2]])
    batch = collate(items)
    plain = losses_and_gradients(model.compute_loss(model(batch), batch), model)
    graphed = losses_and_gradients(GraphedLosses(model, SHAPE, record=not_recorded)(batch), model)
    assert_close(graphed, plain, atol=1e-5, rtol=1e-5)


def test_a_batch_of_another_size_is_not_padded() -> None:
    model, batch = tiny_model("moment_detr").eval(), collate(some_items()[:2])
    graphed = GraphedLosses(model, SHAPE, record=lambda *_, **__: pytest.fail("recorded"))(batch)
    assert_close(graphed, model.compute_loss(model(batch), batch))


def test_a_step_is_recorded_once() -> None:
    calls: list[Any] = []
    losses = GraphedLosses(tiny_model("moment_detr"), SHAPE, record=lambda *a, **_: calls.append(a))
    for _ in range(3):
        losses(collate(some_items()))
    assert len(calls) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_replayed_steps_equal_launched_ones(precision: torch.dtype | None) -> None:
    device = torch.device("cuda")
    model = tiny_model("moment_detr", dropout=0.0, input_dropout=0.0).to(device).train()
    graphed = GraphedLosses(model, SHAPE, precision)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if precision is None else {"atol": 5e-2, "rtol": 5e-2}
    for seed in range(4):
        items = some_items()
        for one in items:
            one["video"] += seed
        batch = to_device(collate(items), device)
        with torch.autocast("cuda", precision, enabled=precision is not None):
            found = losses_and_gradients(graphed(batch), model)
            expected = losses_and_gradients(model.compute_loss(model(batch), batch), model)
        assert_close(found, expected, **tolerance)


@pytest.mark.gpu
def test_replayed_dropout_is_new_every_time_and_follows_the_seed() -> None:
    device = torch.device("cuda")
    model = tiny_model("moment_detr", dropout=0.5).to(device).train()
    graphed, batch = GraphedLosses(model, SHAPE), to_device(collate(some_items()), device)
    graphed(batch)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append([float(graphed(batch)["loss"]) for _ in range(2)])
    assert values[0] == values[1] != values[2]
    assert values[0][0] != values[0][1]
