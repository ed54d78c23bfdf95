"""Recipes: every one in `configs/` is whole, and mistakes are named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from momentret.errors import ConfigError
from momentret.models import MODELS
from momentret.training.config import RunConfig, parse_run

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(CONFIGS.rglob("*.yaml"))
TINY = CONFIGS / "tiny.yaml"


def parse(*overrides: str, recipe: Path = TINY) -> RunConfig:
    return parse_run(["--config", str(recipe), *overrides])


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_recipe_builds_its_model(recipe: Path) -> None:
    run = parse(recipe=recipe)
    model = MODELS[run.model_name][1](replace(run.model, video_dim=6, text_dim=5))
    assert isinstance(model, torch.nn.Module)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_recipe_says_how_it_is_run(recipe: Path) -> None:
    assert f"momentret train --config configs/{recipe.relative_to(CONFIGS)}" in recipe.read_text()


def test_dotted_options_override_the_recipe() -> None:
    run = parse("--train.epochs", "7", "--data.features.root", "elsewhere", "--moment_detr.hidden_dim", "16")
    assert (run.train.epochs, str(run.data.features.root), run.model.hidden_dim) == (7, "elsewhere", 16)


def test_the_saved_recipe_reads_back_as_the_same_run(tmp_path: Path) -> None:
    run = parse("--train.epochs", "7")
    (tmp_path / "config.yaml").write_text(run.text)
    assert parse(recipe=tmp_path / "config.yaml").to_dict() == run.to_dict()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--train.epoch=3", "unknown key 'train.epoch', did you mean 'train.epochs'"),
        ("--data.features.rot=x", "did you mean 'data.features.root'"),
        ("--moment_detr.hiden_dim=3", "did you mean '.*hidden_dim'"),
        ("--train.epochs=many", "train.epochs"),
        ("--train.epochs=0", "train.epochs is 0"),
        ("--train.precision=16", "bf16-mixed"),
        ("--train.lr=-1", "train.lr is -1.0, expected a finite number above 0"),
        ("--train.lr=.nan", "train.lr is nan"),
        ("--train.weight_decay=-1", "train.weight_decay is -1"),
        ("--train.grad_clip=0", "train.grad_clip is 0"),
        ("--train.seed=-1", "train.seed is -1"),
        ("--train.patience=-1", "train.patience is -1"),
        ("--train.keep_every=0", "train.keep_every is 0"),
        ("--train.threads=0", "train.threads is 0"),
        ("--train.workers=-1", "train.workers is -1"),
        ("--data.clip_length=.nan", "data.clip_length is nan"),
        ("--data.held_out_share=1", "data.held_out_share is 1"),
        ("--data.targets.max_windows=-1", "targets.max_windows is -1"),
        ("--postprocess.round_to=.inf", "postprocess.round_to is inf"),
        ("--moment_detr.weight_span=-1", "moment_detr.weight_span is -1.0, expected a finite number, at least 0"),
        ("--moment_detr.heads=3", "^moment_detr.heads is 3, expected a divisor of hidden_dim 64$"),
        ("--moment_detr.saliency_margin=-0.1", "moment_detr.saliency_margin is -0.1"),
        ("--data.dataset=qvhighlight", "did you mean 'qvhighlights'"),
        ("--data.select_on=test", "allow_test_selection"),
        ("--data.inputs.max_clips=0", "max_clips"),
        ("--train.loggers=[tensorbord]", "did you mean 'tensorboard'"),
    ],
)
def test_a_mistake_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(override)


@pytest.mark.parametrize("override", ["--train.lr=-1", "--moment_detr=null", "--data.clip_length=0"])
def test_a_recipe_that_would_be_refused_is_not_printed(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(override)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(refused.value))}$"):
        parse("--print_config", override)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("option", ["--print_config", "--print_config=skip_default"])
def test_the_resolved_recipe_is_printed_instead_of_run(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(option, "--train.lr=0.5")
    assert left.value.code == 0
    assert "  lr: 0.5\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--bogus=3", "unknown key 'bogus'; the keys of a recipe are output, moment_detr, data, train, postprocess"),
        ("--train.hidden_dim=3", "unknown key 'train.hidden_dim', did you mean 'moment_detr.hidden_dim'?"),
        ("--epochs=3", "unknown key 'epochs', did you mean 'train.epochs'?"),
        (
            "--data.targets.zz=3",
            "unknown key 'data.targets.zz'; the keys of data.targets are max_windows, saliency, span",
        ),
        ("--train.epochs=many", "train.epochs is many, expected a whole number"),
        ("--train.workers=many", "train.workers is many, expected a whole number or null"),
        ("--moment_detr.slots=many", "moment_detr.slots is many, expected a whole number"),
        ("--moment_detr.text_dim=x", "moment_detr.text_dim is x, expected a whole number or null"),
        (
            "--data.targets={span: l1, span: l1}",
            "key 'span' is given a second time in line 1 of an option; keep one of them",
        ),
        (
            "--data.features.text=null",
            "data.features.text is null, but a model needs the token features of its queries; set it to "
            "their family, such as clip",
        ),
        ("--data.targets=3", "data.targets is one value, expected keys below it: max_windows, saliency, span"),
    ],
)
def test_a_mistake_is_told_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse(override)
    assert str(told.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [1, 2\nfoo", r"bad\.yaml is no YAML: .* at line 3, column 1"),
        (b"", r"bad\.yaml holds no keys"),
        (b"hello", r"bad\.yaml holds no keys"),
        (b"\xff\xfe\x00", r"bad\.yaml is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        parse(recipe=path)


@pytest.mark.parametrize(
    ("content", "key", "line"),
    [
        ("train:\n  lr: 1\n  epochs: 3\n  lr: 2\n", "lr", 4),
        ("train: {lr: 1}\ndata: {}\ntrain: {lr: 1}\n", "train", 3),
        ('{"train": {"lr": 1, "epochs": 3,\n "lr": 1}}', "lr", 2),
    ],
)
def test_a_key_is_given_once(content: str, key: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text(content)
    with pytest.raises(ConfigError) as told:
        parse(recipe=tmp_path / "twice.yaml")
    assert str(told.value) == f"key {key!r} is given a second time in line {line} of twice.yaml; keep one of them"


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        pytest.param("  dataset: qvhighlights\n", "", r"not given in .*bad\.yaml: data\.dataset", id="missing key"),
        pytest.param("epochs:", "epoch:", r"unknown key '.*epoch', did you mean", id="unknown key"),
        pytest.param("\nmoment_detr:", "\nmoment_dert:", r"moment_dert.*did you mean 'moment_detr", id="no model"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(line: str, instead: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(TINY.read_text().replace(line, instead))
    with pytest.raises(ConfigError, match=message):
        parse(recipe=path)


def test_a_missing_recipe_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        parse(recipe=Path("nowhere.yaml"))
