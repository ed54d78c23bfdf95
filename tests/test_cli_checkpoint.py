from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from momentret.features import StoreManifest
from momentret.inputs import InputConfig
from momentret.models.checkpoint import build_model, load_checkpoint
from momentret.postprocess import PostprocessConfig

from .helpers import momentret
from .models.official_files import small_model, write_lighthouse, write_official


def described(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert momentret("checkpoint", "info", path, "--json") == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def families(path: Path) -> list[str]:
    features = load_checkpoint(path).features
    assert features is not None
    return [source.family for source in StoreManifest.from_dict(features).video]


def test_an_official_checkpoint_becomes_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = small_model(), tmp_path / "ours.safetensors"
    assert momentret("checkpoint", "convert", write_official(tmp_path / "m.ckpt", model), output) == 0
    assert capsys.readouterr().out == ""
    checkpoint = load_checkpoint(output)
    for name, value in build_model(checkpoint).state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert InputConfig(**checkpoint.inputs) == InputConfig()
    assert PostprocessConfig(**checkpoint.postprocess) == PostprocessConfig()
    assert checkpoint.clip_length == 2.0
    assert checkpoint.trained_on == {
        "dataset": "qvhighlights",
        "clip_length": 2.0,
        "epoch": 170,
        "seed": 2018,
        "converted_from": "official",
    }


def test_the_options_of_other_datasets_are_kept(tmp_path: Path) -> None:
    path = write_lighthouse(tmp_path / "m.ckpt", small_model(), dset_name="tacos", max_v_l=-1, max_q_l=100)
    assert momentret("checkpoint", "convert", path, tmp_path / "o.safetensors") == 0
    checkpoint = load_checkpoint(tmp_path / "o.safetensors")
    assert checkpoint.trained_on["dataset"] == "tacos"
    assert checkpoint.inputs["max_clips"] is None
    assert checkpoint.inputs["max_words"] == 100
    assert checkpoint.postprocess["clamp"] is None


@pytest.mark.parametrize(
    ("writer", "options", "expected"),
    [
        (write_official, (), ["slowfast", "clip"]),
        (write_lighthouse, (), ["clip", "slowfast"]),
        (write_official, ("--source", "lighthouse"), ["clip", "slowfast"]),
        (write_lighthouse, ("--feature-order", "slowfast,clip"), ["slowfast", "clip"]),
        (write_official, ("--feature-order", "clip,slowfast"), ["clip", "slowfast"]),
    ],
)
def test_the_feature_order_is_found_and_changed(
    tmp_path: Path, writer: Any, options: tuple[str, ...], expected: list[str]
) -> None:
    path = writer(tmp_path / "m.ckpt", small_model(2818))
    assert momentret("checkpoint", "convert", path, tmp_path / "o.safetensors", *options) == 0
    assert families(tmp_path / "o.safetensors") == expected


def test_a_reordered_checkpoint_gives_the_same_answers(tmp_path: Path) -> None:
    path = write_lighthouse(tmp_path / "m.ckpt", small_model(2818))
    kept, turned = tmp_path / "kept.safetensors", tmp_path / "turned.safetensors"
    momentret("checkpoint", "convert", path, kept)
    momentret("checkpoint", "convert", path, turned, "--feature-order", "slowfast,clip")
    clip, slowfast, endpoints = torch.randn(1, 6, 512), torch.randn(1, 6, 2304), torch.rand(1, 6, 2)
    rest = {
        "video_mask": torch.ones(1, 6, dtype=torch.bool),
        "text": torch.randn(1, 4, 512),
        "text_mask": torch.ones(1, 4, dtype=torch.bool),
    }
    with torch.inference_mode():
        before = build_model(load_checkpoint(kept))({"video": torch.cat((clip, slowfast, endpoints), -1), **rest})
        after = build_model(load_checkpoint(turned))({"video": torch.cat((slowfast, clip, endpoints), -1), **rest})
    assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_features_of_the_file_are_a_manifest(tmp_path: Path) -> None:
    momentret("checkpoint", "convert", write_official(tmp_path / "m.ckpt", small_model()), tmp_path / "o.safetensors")
    features = load_checkpoint(tmp_path / "o.safetensors").features
    assert features is not None
    manifest = StoreManifest.from_dict(features)
    assert [(source.family, source.dimension, source.clip_length) for source in manifest.video] == [("clip", 512, 2.0)]
    assert manifest.text is not None
    assert (manifest.text.family, manifest.text.dimension, manifest.text.layer) == ("clip", 512, "last_hidden_state")


def test_another_order_than_the_features_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_official(tmp_path / "m.ckpt", small_model())
    assert momentret("checkpoint", "convert", path, tmp_path / "o", "--feature-order", "clip,slowfast") == 2
    assert "was trained on clip" in capsys.readouterr().err
    assert momentret("checkpoint", "convert", path, tmp_path / "o", "--source", "elsewhere") == 2
    assert not (tmp_path / "o").exists()


def test_an_output_is_not_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = write_official(tmp_path / "m.ckpt", small_model()), tmp_path / "o.safetensors"
    output.write_text("mine")
    assert momentret("checkpoint", "convert", path, output) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert momentret("checkpoint", "convert", path, output, "--overwrite") == 0
    assert load_checkpoint(output).model_name == "moment_detr"


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_malicious_checkpoint_is_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": small_model().state_dict(), "opt": {"x": Canary(tmp_path / "canary")}}, tmp_path / "m.ckpt")
    assert momentret("checkpoint", "convert", tmp_path / "m.ckpt", tmp_path / "o.safetensors") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "system, which a model has no need of" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.ckpt"]


def test_another_architecture_is_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"encoder.weight": torch.ones(2)}, "opt": {}}, tmp_path / "m.ckpt")
    assert momentret("checkpoint", "convert", tmp_path / "m.ckpt", tmp_path / "o.safetensors") == 1
    assert "only Moment-DETR checkpoints can be converted" in capsys.readouterr().err


def test_info_says_what_a_checkpoint_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = small_model(), tmp_path / "o.safetensors"
    momentret("checkpoint", "convert", write_official(tmp_path / "m.ckpt", model), output)
    values = described(output, capsys)
    assert values["model"] == "moment_detr"
    assert values["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert values["config"]["hidden_dim"] == 16
    assert momentret("checkpoint", "info", output) == 0
    table = capsys.readouterr().out
    assert "config.hidden_dim" in table
    assert "features.video[0].family" in table


@pytest.mark.parametrize("verb", ["info", "convert"])
def test_a_missing_file_is_one_line_of_error(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [tmp_path / "absent"] + [tmp_path / "o"] * (verb == "convert")
    assert momentret("checkpoint", verb, *arguments) == 1
    assert capsys.readouterr().err == f"momentret: {tmp_path / 'absent'}: No such file or directory\n"
