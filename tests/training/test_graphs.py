"""Recorded steps: what is replayed computes what a step computes. Recording itself needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from momentret.inputs import Batch, collate, to_device
from momentret.training.graphs import BatchShape, RecordedStep, record

from ..models.test_contract import some_items, tiny_model

SHAPE = BatchShape(items=3, clips=12, words=7, windows=4)
CLIP = 0.1
CPU = torch.device("cpu")


def not_recorded(practice: Callable[[], None], *actions: Callable[[], None]) -> list[Callable[[], None]]:
    """Stand in for the recorder: actions stay as they are."""
    return list(actions)


def new_model(device: torch.device = CPU, **options: Any) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = tiny_model("moment_detr", **{"dropout": 0.0, "input_dropout": 0.0, **options}).to(device).train()
    # where the gradient is nothing but rounding, a usual eps would make a step of it
    return model, torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3, fused=True)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
    optimizer.zero_grad()
    losses: dict[str, Tensor] = model.compute_loss(model(batch), batch)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    return {name: value.detach() for name, value in losses.items()}


def batches(count: int, device: torch.device = CPU, *, classes: bool = False) -> list[Batch]:
    made = []
    for number in range(count):
        items = some_items()
        for one in items:
            one["video"] += number
            one["spans"] = torch.tensor([[1, 2]]) if classes else one["spans"]
        made.append(to_device(collate(items), device))
    return made


def run_both(
    device: torch.device, precision: torch.dtype | None = None, record: Any = not_recorded, **options: Any
) -> tuple[list[Any], list[Any]]:
    """Step twins, one of them recorded, and return losses and then weights of each; the rate falls on the way."""
    (model, optimizer), (plain, plain_optimizer) = new_model(device, **options), new_model(device, **options)
    recorded = RecordedStep(model, optimizer, SHAPE, CLIP, precision, record)
    ours, theirs = list[Any](), list[Any]()
    for number, batch in enumerate(batches(5, device, classes="span_loss" in options)):
        if number == 3:
            for one in (optimizer, plain_optimizer):
                one.param_groups[0]["lr"] = 0.001
        with torch.autocast(device.type, precision, enabled=precision is not None):
            theirs.append(step(plain, plain_optimizer, batch))
            losses = recorded(batch) if recorded.takes(batch) else step(model, optimizer, batch)
            ours.append({name: value.clone() for name, value in losses.items()})
    return [ours, list(model.parameters())], [theirs, list(plain.parameters())]


@pytest.mark.parametrize("options", [{}, {"text_positions": True}, {"span_loss": "ce", "max_clips": 12}])
def test_a_padded_step_gives_the_same_losses_and_weights(options: dict[str, Any]) -> None:
    recorded, plain = run_both(CPU, **options)
    assert_close(recorded, plain, atol=1e-4, rtol=1e-4)


def test_it_takes_full_batches_once_the_optimiser_has_its_state() -> None:
    model, optimizer = new_model()
    recorded, [batch] = RecordedStep(model, optimizer, SHAPE, CLIP, record=not_recorded), batches(1)
    assert not recorded.takes(batch)
    step(model, optimizer, batch)
    assert recorded.takes(batch)
    assert not recorded.takes(collate(some_items()[:2]))


def test_a_step_is_recorded_once_and_leaves_the_optimiser_as_it_was() -> None:
    calls: list[Any] = []

    def record(practice: Any, *actions: Any) -> Any:
        calls.append(practice)
        return actions

    model, optimizer = new_model()
    recorded, [batch] = RecordedStep(model, optimizer, SHAPE, CLIP, record=record), batches(1)
    step(model, optimizer, batch)
    before = dict(optimizer.param_groups[0])
    for _ in range(3):
        recorded(batch)
    assert len(calls) == 1
    assert optimizer.param_groups[0] == before


def test_practice_changes_no_weight() -> None:
    model, optimizer = new_model()
    recorded, [batch] = (
        RecordedStep(model, optimizer, SHAPE, CLIP, record=lambda practice, *_: [practice] * 2),
        batches(1),
    )
    step(model, optimizer, batch)
    before = [weight.clone() for weight in model.parameters()]
    recorded(batch)
    assert_close(before, list(model.parameters()), atol=0, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_replayed_steps_equal_launched_ones(precision: torch.dtype | None) -> None:
    recorded, plain = run_both(torch.device("cuda"), precision, record)
    exact = precision is None
    for found, expected, tolerance in zip(recorded, plain, (1e-4, 1e-4) if exact else (5e-2, 1e-2), strict=True):
        assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
def test_replayed_dropout_is_new_every_time_and_follows_the_seed() -> None:
    device = torch.device("cuda")
    model, optimizer = new_model(device, dropout=0.5)
    recorded, [batch] = RecordedStep(model, optimizer, SHAPE, CLIP), batches(1, device)
    step(model, optimizer, batch)
    optimizer.param_groups[0]["lr"] = 0.0
    recorded(batch)
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append([float(recorded(batch)["loss"]) for _ in range(2)])
    assert values[0] == values[1] != values[2]
    assert values[0][0] != values[0][1]
