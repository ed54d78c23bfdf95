"""What every model of `MODELS` promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from momentret.errors import ConfigError
from momentret.inputs import collate
from momentret.models import MODELS

TINY: dict[str, dict[str, Any]] = {
    "moment_detr": {"video_dim": 6, "text_dim": 5, "hidden_dim": 16, "heads": 2, "feedforward_dim": 32},
}
every_model = pytest.mark.parametrize("name", MODELS)


def tiny_model(name: str, **options: Any) -> nn.Module:
    config_class, model_class = MODELS[name]
    torch.manual_seed(0)
    return model_class(config_class(**{**TINY[name], **options}))


def item(clips: int, words: int, *windows: tuple[float, float], seed: int = 0) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed + clips)
    return {
        "video": torch.randn(clips, 6, generator=random),
        "text": torch.randn(words, 5, generator=random),
        "duration": 2.0 * clips,
        "spans": torch.tensor(windows or [(0.5, 0.2)]),
        "saliency_positive": [1, 2],
        "saliency_negative": [0, 3],
    }


def some_items() -> list[dict[str, Any]]:
    return [item(9, 3, (0.3, 0.2), (0.7, 0.1)), item(4, 5), item(7, 2, (0.2, 0.1))]


def decoded(model: nn.Module, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = collate(items)
    with torch.inference_mode():
        return model.eval().decode(model(batch), batch)


def test_there_are_models_to_check() -> None:
    assert set(TINY) == set(MODELS)
    assert MODELS


@every_model
def test_decoding_gives_windows_scores_and_saliency(name: str) -> None:
    found = decoded(tiny_model(name), some_items())
    assert found["windows"].shape == (*found["scores"].shape, 2)
    assert found["saliency"].shape == (3, 9)
    assert (found["windows"][..., 0] <= found["windows"][..., 1]).all()
    assert ((found["scores"] >= 0) & (found["scores"] <= 1)).all()


@every_model
def test_windows_are_seconds_of_the_duration(name: str) -> None:
    model, short, long = tiny_model(name), item(9, 3), item(9, 3)
    long["duration"] *= 10
    assert_close(decoded(model, [long])["windows"], 10 * decoded(model, [short])["windows"])


@every_model
def test_an_item_does_not_depend_on_its_batch_mates_or_its_padding(name: str) -> None:
    model, items = tiny_model(name), some_items()
    together = decoded(model, items)
    for i, one in enumerate(items):
        alone, clips = decoded(model, [one]), len(one["video"])
        for key in ("windows", "scores"):
            assert_close(together[key][i], alone[key][0], atol=1e-5, rtol=1e-5)
        assert_close(together["saliency"][i, :clips], alone["saliency"][0], atol=1e-5, rtol=1e-5)


@every_model
def test_the_loss_is_the_sum_of_its_terms(name: str) -> None:
    model, batch = tiny_model(name).eval(), collate(some_items())
    losses = model.compute_loss(model(batch), batch)
    terms = [value for key, value in losses.items() if key.startswith("loss_")]
    assert len(terms) > 1
    assert_close(losses["loss"], torch.stack(terms).sum())


@every_model
def test_a_model_overfits_one_batch(name: str) -> None:
    model, batch = tiny_model(name, dropout=0.0, input_dropout=0.0).train(), collate(some_items())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = float(model.compute_loss(model(batch), batch)["loss"].detach())
    for _ in range(150):
        loss = model.compute_loss(model(batch), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first


@every_model
def test_the_same_seed_gives_the_same_weights_to_the_bit(name: str) -> None:
    runs = []
    for _ in range(2):
        model, batch = tiny_model(name).train(), collate(some_items())
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            model.compute_loss(model(batch), batch)["loss"].backward()
            optimizer.step()
        runs.append(model.state_dict())
    for key, value in runs[0].items():
        assert torch.equal(value, runs[1][key]), key


@every_model
def test_a_batch_is_left_as_it_was(name: str) -> None:
    model, items = tiny_model(name).train(), some_items()
    batch, copy = collate(items), collate(some_items())
    model.compute_loss(model(batch), batch)["loss"].backward()
    model.decode(model(batch), batch)
    for key, value in copy.items():
        assert_close(batch[key], value, rtol=0, atol=0)


@every_model
def test_mixed_precision_trains(name: str) -> None:
    model, batch = tiny_model(name).train(), collate(some_items())
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.compute_loss(model(batch), batch)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@every_model
def test_a_config_survives_its_plain_values(name: str) -> None:
    config_class, _ = MODELS[name]
    config = config_class(**TINY[name])
    assert config_class(**asdict(config)) == config


@every_model
@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True, None])
def test_a_size_that_cannot_be_is_refused_by_name(name: str, value: object) -> None:
    config_class, _ = MODELS[name]
    with pytest.raises(ConfigError, match=f"{name}.hidden_dim is"):
        config_class(hidden_dim=value)
