"""Parity with the official Moment-DETR: the same weights and inputs give its outputs, matches, losses and gradients."""

from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close

from momentret.models.moment_detr import MomentDETR, MomentDETRConfig

from ..helpers import GOLDEN
from .reference import CASES, DOCUMENT, load_case

OUTPUT = {"atol": 1e-5, "rtol": 0.0}  # the reference itself is within 2e-6 of float64
GRADIENT = {"atol": 1e-5, "rtol": 5e-3}
EMBEDDINGS = {"slot_embedding": "proj_queries", "text_embedding": "proj_txt_mem", "video_embedding": "proj_vid_mem"}
WEIGHTS = {"span": 10, "giou": 1, "label": 4, "saliency": 1, "contrastive": 0.02}

STATISTICS = json.loads((GOLDEN / "moment_detr_init_stats.json").read_text())

every_case = pytest.mark.parametrize("name", CASES)


def test_the_recipe_makes_the_reference_weights() -> None:
    check = DOCUMENT["files"]["moment_detr_forward_full.npz"]["weight_check"]
    weights = load_case("full").model.state_dict()
    for name, total in check["first_sums"].items():
        assert float(weights[name].double().sum()) == pytest.approx(total, abs=1e-3)
    total = sum(float(value.double().abs().sum()) for value in weights.values())
    assert total == pytest.approx(check["total_abs_sum"], abs=0.1)


@every_case
def test_outputs_equal_the_reference(name: str) -> None:
    case = load_case(name)
    outputs = case.model(case.batch)
    prefixes = case.layer_prefixes()
    assert len(outputs["logits"]) == len(outputs["spans"]) == len(prefixes)
    for layer, prefix in enumerate(prefixes):
        assert_close(outputs["logits"][layer], case.expected(f"{prefix}pred_logits"), **OUTPUT)
        assert_close(outputs["spans"][layer], case.expected(f"{prefix}pred_spans"), **OUTPUT)
    assert_close(outputs["saliency"], case.expected("out/saliency_scores"), **OUTPUT)
    for ours, theirs in EMBEDDINGS.items():
        if f"out/{theirs}" in case.values:
            found = outputs[ours][-1] if ours == "slot_embedding" else outputs[ours]
            assert_close(found, case.expected(f"out/{theirs}"), **OUTPUT)


@every_case
def test_matches_equal_the_reference(name: str) -> None:
    case = load_case(name)
    matches = case.model.assign(case.model(case.batch), case.batch)
    last = len(matches["matched"]) - 1
    for layer in range(last + 1):
        prefix = "match/" if layer == last else f"match/aux{layer}."
        for item in range(len(case.batch["span_counts"])):
            targets = case.expected(f"{prefix}{item}.tgt")
            assert matches["matched"][layer, item].sum() == len(targets)
            assert_close(matches["matched_slots"][layer, item, targets], case.expected(f"{prefix}{item}.pred"))


@every_case
def test_losses_equal_the_reference(name: str) -> None:
    case = load_case(name)
    losses = case.model.compute_loss(case.model(case.batch), case.batch)
    assert_close(losses["loss"], case.expected("loss/loss_overall"), **OUTPUT)
    assert_close(losses["class_error"], case.expected("loss/class_error"), **OUTPUT)
    compared = 0
    for key in case.values:
        if key.startswith("loss/loss_") and key != "loss/loss_overall":
            ours = key[5:].replace("_align", "")
            weight = WEIGHTS[ours.split("_")[1]]
            assert_close(losses[ours] / weight, case.expected(key), **OUTPUT)
            compared += 1
    assert compared >= 4


@every_case
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradients_and_one_step_equal_the_reference(name: str, training: bool) -> None:
    case = load_case(name, dropout=0.0)  # training mode packs the valid rows: without dropout it must not be seen
    case.model.train(training)
    parameters = dict(case.model.named_parameters())
    case.model.compute_loss(case.model(case.batch), case.batch)["loss"].backward()
    for key in case.values:
        if key.startswith("gradnorm/"):
            gradient, expected = parameters[key[9:]].grad, case.expected(key)
            if expected == -1:
                assert gradient is None, key
            else:
                assert gradient is not None, key
                assert_close(gradient.norm(), expected, **GRADIENT)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, weight_decay=1e-4)
    total = torch.nn.utils.clip_grad_norm_(parameters.values(), 0.1)
    assert_close(total, case.expected("gradnorm_total"), atol=0, rtol=1e-5)
    optimizer.step()
    stepped = [key for key in case.values if key.startswith("step1/") and key != "step1/loss_overall"]
    assert stepped
    for key in stepped:
        assert_close(parameters[key[6:]].detach(), case.expected(key), atol=1e-6, rtol=0.0)
    after = case.model.compute_loss(case.model(case.batch), case.batch)["loss"]
    assert_close(after, case.expected("step1/loss_overall"), atol=1e-4, rtol=0.0)


def initial_model() -> MomentDETR:
    torch.manual_seed(0)
    return MomentDETR(MomentDETRConfig(video_dim=2818, text_dim=512, contrastive=True))


def test_initial_weights_are_distributed_as_in_the_reference() -> None:
    weights = initial_model().state_dict()
    assert set(weights) == set(STATISTICS["stats"])
    for name, expected in STATISTICS["stats"].items():
        value = weights[name]
        assert list(value.shape) == expected["shape"], name
        if value.numel() < 100:  # two or three numbers have no statistics to speak of: the bound of their layer
            assert float(value.abs().max()) <= 256**-0.5, name
            continue
        # the spread of a sample's own statistics: 6 standard errors of the mean, as much for the deviation
        slack = 6 * expected["std"] / value.numel() ** 0.5 + 1e-6
        assert float(value.mean()) == pytest.approx(expected["mean"], abs=2 * slack), name
        assert float(value.std(unbiased=False)) == pytest.approx(expected["std"], abs=slack), name
        if not name.startswith(("query_embed", "txt_position_embed.position")):  # normal: no bounds
            assert float(value.max()) <= max(expected["max"], 1e-9) * 1.1 + slack, name


def test_copied_layers_start_with_equal_biases_as_in_the_reference() -> None:
    weights = initial_model().state_dict()
    assert STATISTICS["identical_across_cloned_layers"]
    for name in STATISTICS["identical_across_cloned_layers"]:
        assert_close(weights[name], weights[name.replace("layers.1", "layers.0")], rtol=0, atol=0)


def test_parameters_are_as_many_as_in_the_reference() -> None:
    for video_dim, expected in ((514, 4_228_873), (2818, 4_823_305)):
        model = MomentDETR(MomentDETRConfig(video_dim=video_dim, text_dim=512))
        assert sum(parameter.numel() for parameter in model.parameters()) == expected
