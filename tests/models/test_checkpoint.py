from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from momentret.errors import CheckpointError
from momentret.inputs import InputConfig, collate
from momentret.models.checkpoint import Checkpoint, build_model, load_checkpoint, save_checkpoint
from momentret.postprocess import PostprocessConfig

from .test_contract import some_items, tiny_model


def fields(**changes: Any) -> dict[str, Any]:
    values = {
        "model_name": "moment_detr",
        "config": asdict(tiny_model("moment_detr").config),
        "inputs": asdict(InputConfig()),
        "features": None,
        "postprocess": asdict(PostprocessConfig()),
        "trained_on": {"clip_length": 2.0, "dataset": "qvhighlights"},
    }
    return {**values, **changes}


def saved(folder: Path, **changes: Any) -> Path:
    save_checkpoint(folder / "m.safetensors", tiny_model("moment_detr"), **fields(**changes))
    return folder / "m.safetensors"


def header_of(checkpoint: Checkpoint, **changes: Any) -> dict[str, Any]:
    return {**checkpoint.describe(), **changes}


def rewritten(path: Path, header: object) -> Path:
    """Give a saved file another header entry."""
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(load_checkpoint(path).weights, path, metadata={"momentret": text})
    return path


def test_a_checkpoint_round_trips(tmp_path: Path) -> None:
    original, batch = tiny_model("moment_detr").eval(), collate(some_items())
    checkpoint = load_checkpoint(saved(tmp_path))
    restored = build_model(checkpoint)
    assert not restored.training
    for name, value in original(batch).items():
        assert torch.equal(value, restored(batch)[name])
    assert InputConfig(**checkpoint.inputs) == InputConfig()
    assert PostprocessConfig(**checkpoint.postprocess) == PostprocessConfig()
    assert checkpoint.clip_length == 2.0
    assert all(parameter.requires_grad for parameter in restored.parameters())


def test_the_same_model_makes_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert saved(tmp_path).read_bytes() == saved(tmp_path / "other").read_bytes()


def test_weights_of_another_precision_become_float32(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.safetensors", tiny_model("moment_detr").half(), **fields())
    model = build_model(load_checkpoint(tmp_path / "m.safetensors"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"m\.safetensors is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip file", b"\xff" * 64, b'{"a": 1}'])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="momentret checkpoint convert"):
        load_checkpoint(path)


def test_weights_without_our_header_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="not a momentret checkpoint"):
        load_checkpoint(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, this version reads 1; update"),
        ({"model": "moment_dert"}, "did you mean 'moment_detr'"),
        ({"model": None}, "'model' is missing"),
        ({"inputs": []}, "'inputs' is missing"),
        ({"features": "clip"}, "'features' is missing"),
        ({"trained_on": {}}, "clip_length is None"),
        ({"trained_on": {"clip_length": True}}, "clip_length is True"),
        ({"trained_on": {"clip_length": -2.0}}, r"clip_length is -2\.0"),
    ],
)
def test_a_malformed_header_is_refused_by_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = saved(tmp_path)
    rewritten(path, header_of(load_checkpoint(path), **changes))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["{oops", "[" * 100_000, "[1]", "3"])
def test_a_header_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(rewritten(saved(tmp_path), text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 32}, r"has the shape \(.*16.*config makes it"),
        ({"hidden_dim": 2**40, "heads": 1}, "not one of moment_detr|has the shape"),
        ({"encoder_layers": 3}, "'transformer.encoder.layers.2.* is missing"),
        ({"encoder_layers": 1}, "'transformer.encoder.layers.1.* is unknown"),
        ({"heads": 0}, "heads is 0"),
        ({"hidden_size": 16}, "hidden_size"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    checkpoint = load_checkpoint(saved(tmp_path))
    checkpoint.config |= changes
    with pytest.raises(CheckpointError, match=message):
        build_model(checkpoint)


def test_a_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path)


def test_saving_needs_a_clip_length(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="clip_length"):
        saved(tmp_path, trained_on={})
    assert list(tmp_path.iterdir()) == []
