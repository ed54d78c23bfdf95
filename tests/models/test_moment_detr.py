from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from momentret.errors import ConfigError, MismatchError
from momentret.inputs import collate
from momentret.models.matching import Matches
from momentret.models.moment_detr import (
    MomentDETR,
    MomentDETRConfig,
    _decode_clip_logits,
    _label_loss,
    _saliency_loss,
)

from .test_contract import item, some_items, tiny_model


def ce_items() -> list[dict[str, Any]]:
    items = some_items()
    for one in items:
        one["spans"] = torch.tensor([[1, 2]])
    return items


def test_the_label_loss_by_hand() -> None:
    # two slots with equal logits: each costs ln 2; the unmatched one counts a tenth, the mean is over both
    matches = Matches(torch.tensor([[[1]]]), torch.tensor([[[True]]]))
    loss = _label_loss(torch.zeros(1, 1, 2, 2), matches, background_weight=0.1)
    assert_close(loss, torch.tensor([1.1 / 2]) * torch.tensor(2.0).log())


def test_the_saliency_loss_by_hand() -> None:
    # pairs (1.0 against 0.5: fulfilled), (0.5 against 1.0: 0.2 + 0.5): twice their mean
    pairs = {"saliency_positive": torch.tensor([[0, 1]]), "saliency_negative": torch.tensor([[1, 0]])}
    assert_close(_saliency_loss(torch.tensor([[1.0, 0.5]]), pairs, margin=0.2), torch.tensor(0.7))


@pytest.mark.parametrize("options", [{}, {"contrastive": True}, {"span_loss": "ce"}])
def test_a_batch_without_windows_still_trains_saliency(options: dict[str, Any]) -> None:
    model, items = tiny_model("moment_detr", **options), some_items()
    for one in items:
        one["spans"] = torch.zeros(0, 2, dtype=torch.long if options.get("span_loss") == "ce" else torch.float32)
    batch = collate(items)
    losses = model.compute_loss(model(batch), batch)
    assert losses["loss_span"] == losses["loss_giou"] == losses["class_error"] == 0
    losses["loss"].backward()
    assert model.saliency_proj.weight.grad.abs().sum() > 0


def test_earlier_layers_have_terms_of_their_own() -> None:
    model, batch = tiny_model("moment_detr", decoder_layers=3), collate(some_items())
    losses = model.compute_loss(model(batch), batch)
    assert {"loss_span", "loss_span_0", "loss_span_1", "loss_giou_1", "loss_label_1", "loss_saliency"} <= set(losses)
    assert "loss_saliency_0" not in losses


def test_a_weight_of_zero_silences_a_term() -> None:
    model, batch = tiny_model("moment_detr", weight_span=0.0), collate(some_items())
    assert model.compute_loss(model(batch), batch)["loss_span"] == 0


@pytest.mark.parametrize("options", [{}, {"pre_norm": True}, {"text_positions": True}])
def test_skipping_the_padding_in_training_does_not_change_the_loss(options: dict[str, Any]) -> None:
    model, batch = tiny_model("moment_detr", dropout=0.0, input_dropout=0.0, **options), collate(some_items())
    training = model.train().compute_loss(model(batch), batch)
    evaluating = model.eval().compute_loss(model(batch), batch)
    for key, value in evaluating.items():
        assert_close(training[key], value, atol=1e-5, rtol=1e-5)


def test_classified_windows_are_decoded_by_hand() -> None:
    # five clips of which the last is padding: the best start is clip 1, the best end clip 0, which lies before it;
    # the best pair in order is (1, 2)
    first = torch.tensor([0.0, 5.0, 0.0, 0.0, 9.0])
    last = torch.tensor([4.0, 0.0, 3.0, 0.0, 9.0])
    mask = torch.tensor([[True, True, True, True, False]])
    found = _decode_clip_logits(torch.cat((first, last))[None, None], mask)
    assert_close(found, torch.tensor([[[1 / 4, 3 / 4]]]))


def test_a_classifier_overfits_its_clips() -> None:
    options = {"span_loss": "ce", "max_clips": 9, "dropout": 0.0, "input_dropout": 0.0, "slots": 3}
    model, batch = tiny_model("moment_detr", **options).train(), collate(ce_items())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.compute_loss(model(batch), batch)["loss"].backward()
        optimizer.step()
    with torch.inference_mode():
        found = model.decode(model.eval()(batch), batch)
    best = found["windows"][torch.arange(3), found["scores"].argmax(1)]
    assert_close(best, torch.tensor([[2.0, 6.0]] * 3))  # clips 1 and 2 of 2 seconds


def test_any_number_of_clips_goes_through() -> None:
    model, batch = tiny_model("moment_detr").eval(), collate([item(500, 3)])
    assert model.decode(model(batch), batch)["saliency"].shape == (1, 500)


def test_more_words_than_the_position_table_has_are_refused() -> None:
    model = tiny_model("moment_detr", text_positions=True, max_words=2)
    with pytest.raises(MismatchError, match=r"3 words.*max_words is 2"):
        model(collate([item(5, 3)]))


def test_unused_text_positions_get_no_gradient() -> None:
    model, batch = tiny_model("moment_detr"), collate(some_items())
    model.compute_loss(model(batch), batch)["loss"].backward()
    assert model.txt_position_embed.LayerNorm.weight.grad is None


def test_a_network_without_widths_is_refused() -> None:
    with pytest.raises(ConfigError, match="as wide as its features"):
        MomentDETR(MomentDETRConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads is 3, expected a divisor of hidden_dim 256"),
        ({"input_projections": 4}, "input_projections is 4, expected 1, 2 or 3"),
        ({"span_loss": "l2"}, "span_loss is 'l2', expected 'l1' or 'ce'"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a share"),
        ({"temperature": 0.0}, "temperature is 0.0, expected above 0"),
        ({"weight_span": float("nan")}, "weight_span is nan, expected a finite number"),
        ({"encoder_layers": 10**9}, "encoder_layers is 1000000000, expected at most 100"),
        ({"pre_norm": 1}, "pre_norm is 1, expected a value like False"),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"moment_detr.{message}"):
        MomentDETRConfig(**options)
