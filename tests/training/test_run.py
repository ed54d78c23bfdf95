"""Whole runs on a tiny data set: what they leave behind, and that they can be repeated and resumed to the bit."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from momentret.datasets import read_annotations
from momentret.datasets.examples import EpochSampler, Examples
from momentret.datasets.targets import TargetConfig
from momentret.errors import (
    AnnotationError,
    CheckpointError,
    ConfigError,
    FeatureError,
    MismatchError,
    OutputExistsError,
)
from momentret.features import FeatureConfig, open_store
from momentret.inputs import InputConfig
from momentret.models.checkpoint import load_checkpoint
from momentret.models.official import read_official
from momentret.predict import Predictor
from momentret.records import read_predictions
from momentret.training.config import RunConfig, parse_run
from momentret.training.folder import RunFolder
from momentret.training.graphs import RecordedStep
from momentret.training.module import MomentModule
from momentret.training.run import train

from .test_graphs import not_recorded

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def arguments(data: Path, output: Path, *overrides: str) -> list[str]:
    places = {"annotations.train": "train.jsonl", "annotations.val": "val.jsonl", "features.root": "features"}
    paths = [f"--data.{key}={data / name}" for key, name in places.items()]
    small = ["--train.epochs=3", "--train.eval_every=2", "--train.batch_size=8", "--train.threads=1"]
    return ["--config", str(TINY), *paths, *small, f"--output={output}", *overrides]


def recipe(data: Path, output: Path, *overrides: str) -> RunConfig:
    return parse_run(arguments(data, output, *overrides))


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe(tiny_data, tmp_path_factory.mktemp("runs") / "one"))


def test_a_run_leaves_everything_behind(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.yaml", "best.safetensors", "last.safetensors", "resume.ckpt", "history.csv", "curves.png"}
    assert names >= {"best_predictions.jsonl", "best_metrics.json", "last_predictions.jsonl", "last_metrics.json"}
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((finished / "best_metrics.json").read_text())["selected_on"] == "val"


def test_history_has_every_epoch_and_the_last_one_is_validated(finished: Path) -> None:
    rows = history(finished)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["MR-full-mAP"]) for row in rows] == [False, True, True]
    assert all(float(row["train/loss"]) > 0 for row in rows)


def test_the_kept_checkpoint_answers_as_the_run_did(finished: Path, tiny_data: Path) -> None:
    store = open_store(FeatureConfig(layout="moment_detr", root=tiny_data / "features", video=("clip",), text="clip"))
    queries = read_annotations(tiny_data / "val.jsonl", "qvhighlights")
    assert Predictor.load(finished / "last.safetensors").predict(queries, store) == read_predictions(
        finished / "last_predictions.jsonl"
    )


def test_the_same_seed_gives_the_same_weights(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    again = train(recipe(tiny_data, tmp_path / "again"))
    assert_same_weights(again / "last.safetensors", finished / "last.safetensors")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_loading_processes_change_no_weight(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    other = train(recipe(tiny_data, tmp_path / "other", "--train.workers=2"))
    assert_same_weights(other / "last.safetensors", finished / "last.safetensors")


def test_another_seed_gives_other_weights(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    other = train(recipe(tiny_data, tmp_path / "other", "--train.seed=1", "--train.epochs=1"))
    a, b = load_file(other / "last.safetensors"), load_file(finished / "last.safetensors")
    assert not torch.equal(a["class_embed.weight"], b["class_embed.weight"])


def test_mixed_precision_trains_and_keeps_float32_weights(tiny_data: Path, tmp_path: Path) -> None:
    folder = train(recipe(tiny_data, tmp_path / "run", "--train.precision=bf16-mixed", "--train.epochs=2"))
    losses = [float(row["train/loss"]) for row in history(folder)]
    assert losses[1] < losses[0]
    assert load_file(folder / "last.safetensors")["class_embed.weight"].dtype == torch.float32


class Replaying(MomentModule):
    """Takes recorded steps without a GPU."""

    def on_train_start(self) -> None:
        assert self.shape is not None
        optimizer = self.optimizers(use_pl_optimizer=False)
        self._recorded = RecordedStep(self.model, optimizer, self.shape, self.config.grad_clip, record=not_recorded)


def test_a_run_of_recorded_steps_is_the_same_run(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = ["--moment_detr.dropout=0", "--moment_detr.input_dropout=0", "--train.lr_drop=2", "--train.batch_size=7"]
    plain = train(recipe(tiny_data, tmp_path / "plain", *still))
    replayed: list[int] = []
    monkeypatch.setattr("momentret.training.run.MomentModule", Replaying)
    monkeypatch.setattr(
        RecordedStep, "_update", lambda step, update=RecordedStep._update: replayed.append(1) or update(step)
    )
    recorded = train(recipe(tiny_data, tmp_path / "recorded", *still))
    state, expected = (torch.load(run / "resume.ckpt", weights_only=True) for run in (recorded, plain))
    assert (len(replayed), state["global_step"], expected["global_step"]) == (8, 12, 12)  # 24 of 7: the last has 3
    assert state["lr_schedulers"] == expected["lr_schedulers"]
    assert state["optimizer_states"][0]["param_groups"] == expected["optimizer_states"][0]["param_groups"]
    for row, other in zip(history(recorded), history(plain), strict=True):
        assert float(row["train/loss"]) == pytest.approx(float(other["train/loss"]), rel=1e-3)


def test_a_killed_run_resumes_to_the_same_bits(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    command = [sys.executable, "-m", "momentret", "train", *arguments(tiny_data, output)]
    # 500 epochs, so that the kill comes in the middle; the number of epochs may change on resuming
    victim = subprocess.Popen([*command, "--train.epochs=500"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (output / "resume.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    done = len(history(output))
    epochs = max(3, done + 1)
    train(recipe(tiny_data, output, f"--train.epochs={epochs}"), resume=True)
    whole = finished if epochs == 3 else train(recipe(tiny_data, tmp_path / "whole", f"--train.epochs={epochs}"))
    assert_same_weights(output / "last.safetensors", whole / "last.safetensors")
    assert [row["epoch"] for row in history(output)] == [str(i + 1) for i in range(epochs)]


def test_a_run_is_not_resumed_with_another_recipe(finished: Path, tiny_data: Path) -> None:
    with pytest.raises(MismatchError, match="lr: "):
        train(recipe(tiny_data, finished, "--train.lr=0.5"), resume=True)


def test_an_existing_run_is_not_overwritten(finished: Path, tiny_data: Path) -> None:
    before = sorted(path.name for path in finished.iterdir())
    with pytest.raises(OutputExistsError):
        train(recipe(tiny_data, finished))
    assert sorted(path.name for path in finished.iterdir()) == before


def test_a_folder_that_is_no_run_is_never_deleted(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="holds no training run"):
        train(recipe(tiny_data, tmp_path), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_going_on_and_starting_again_contradict_each_other(finished: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="--resume goes on"):
        train(recipe(tiny_data, finished), resume=True, overwrite=True)
    assert (finished / "resume.ckpt").exists()


def test_a_run_that_fails_in_its_first_epoch_leaves_its_path_free(tiny_data: Path, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(tiny_data / "features", features)
    for i in range(24):  # the training queries
        np.savez(features / f"clip_text_features/qid{i}.npz", last_hidden_state=np.full((5, 16), np.nan, np.float32))
    with pytest.raises(FeatureError):
        train(recipe(tiny_data, tmp_path / "run", f"--data.features.root={features}"))
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_later_keeps_its_epochs(
    finished: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(RunFolder, "on_validation_end", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(recipe(tiny_data, output, "--train.epochs=5"), resume=True)
    assert (output / "resume.ckpt").exists()


def test_missing_features_are_named_before_anything_is_written(tiny_data: Path, tmp_path: Path) -> None:
    rows = (tiny_data / "val.jsonl").read_text().replace('"vid": "val0000', '"vid": "lost')
    (tmp_path / "val.jsonl").write_text(rows)
    run = recipe(tiny_data, tmp_path / "run", f"--data.annotations.val={tmp_path / 'val.jsonl'}")
    with pytest.raises(FeatureError, match=r"8 .*missing.*lost"):
        train(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("override", ["--data.clip_length=4", "--data.features.clip_length=4"])
def test_features_of_another_clip_length_are_refused_before_anything_is_written(
    override: str, tiny_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        MismatchError, match=r"^data\.clip_length is [24] s, but the 'clip' features say [24] s; set it to"
    ):
        train(recipe(tiny_data, tmp_path / "run", override))
    assert not (tmp_path / "run").exists()


def test_the_state_to_resume_from_is_told_apart_from_a_model(finished: Path) -> None:
    for read in (load_checkpoint, read_official):
        with pytest.raises(CheckpointError, match="is the state that momentret train --resume goes on from"):
            read(finished / "resume.ckpt")
    with pytest.raises(CheckpointError, match="is a momentret checkpoint already"):
        read_official(finished / "best.safetensors")


def test_the_features_give_the_widths(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    assert "video_dim: null" in (finished / "config.yaml").read_text()
    config = load_checkpoint(finished / "best.safetensors").config
    assert (config["video_dim"], config["text_dim"]) == (18, 16)
    with pytest.raises(
        MismatchError, match=r"moment_detr\.video_dim is 512, but the features make it 18; leave it out"
    ):
        train(recipe(tiny_data, tmp_path / "run", "--moment_detr.video_dim=512"))


def test_fine_tuning_starts_from_given_weights(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    start = f"--train.init_from={finished / 'best.safetensors'}"
    tuned = train(recipe(tiny_data, tmp_path / "tuned", start, "--train.epochs=1", "--train.lr=1e-12"))
    a, b = load_file(finished / "best.safetensors"), load_file(tuned / "last.safetensors")
    torch.testing.assert_close(a["class_embed.weight"], b["class_embed.weight"])


def test_weights_of_another_shape_are_refused(finished: Path, tiny_data: Path, tmp_path: Path) -> None:
    start = f"--train.init_from={finished / 'best.safetensors'}"
    with pytest.raises(MismatchError, match="hidden_dim"):
        train(recipe(tiny_data, tmp_path / "run", start, "--moment_detr.hidden_dim=16"))


def test_selecting_on_test_stamps_the_report(tiny_data: Path, tmp_path: Path) -> None:
    choice = ["--data.select_on=test", "--data.allow_test_selection=true", "--train.epochs=1"]
    run = recipe(tiny_data, tmp_path / "run", *choice, f"--data.annotations.test={tiny_data / 'val.jsonl'}")
    report = json.loads((train(run) / "best_metrics.json").read_text())
    assert report["selected_on"] == "test"
    assert "not a test result" in report["warning"]


def test_a_held_out_part_of_train_selects_and_test_is_scored_once(tiny_data: Path, tmp_path: Path) -> None:
    choice = ["--data.select_on=held_out", "--data.held_out_share=0.3", "--train.epochs=1"]
    folder = train(recipe(tiny_data, tmp_path / "run", *choice, f"--data.annotations.test={tiny_data / 'val.jsonl'}"))
    assert json.loads((folder / "test_metrics.json").read_text())["split"] == "test"
    held_out = {p.video_id for p in read_predictions(folder / "best_predictions.jsonl")}
    assert 0 < len(held_out) < 24
    assert all(name.startswith("train") for name in held_out)


class Spy(torch.nn.Module):
    """Keeps the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.seen += [batch["video"].clone(), batch["text"].clone()]
        return batch

    def decode(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        empty = torch.zeros(len(batch["video"]), 1, 2)
        return {"windows": empty, "scores": empty[..., 0], "saliency": batch["video"][..., 0]}


def test_training_and_prediction_prepare_the_same_bits(tiny_data: Path) -> None:
    from momentret.postprocess import PostprocessConfig

    store = open_store(FeatureConfig(layout="moment_detr", root=tiny_data / "features", video=("clip",), text="clip"))
    annotations, inputs = read_annotations(tiny_data / "val.jsonl", "qvhighlights")[:1], InputConfig()
    spy = Spy()
    Predictor(spy, inputs, clip_length=2.0, postprocess=PostprocessConfig()).predict(annotations, store)
    example = Examples(annotations, store, inputs, TargetConfig(), clip_length=2.0)[0]
    assert torch.equal(spy.seen[0][0], example["video"])
    assert torch.equal(spy.seen[1][0], example["text"])


def test_an_epoch_can_be_drawn_again_and_differs_from_the_next(tiny_data: Path) -> None:
    sampler = EpochSampler(10, seed=3)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first == again
    assert sorted(first) == list(range(10))
    assert sorted(second) == list(range(10, 20))
    assert [key - 10 for key in second] != first


def test_text_dropout_zeroes_its_share_of_tokens(tiny_data: Path) -> None:
    store = open_store(FeatureConfig(layout="moment_detr", root=tiny_data / "features", video=("clip",), text="clip"))
    annotations = read_annotations(tiny_data / "train.jsonl", "qvhighlights")
    options = {"clip_length": 2.0, "text_dropout": 0.5, "seed": 1}
    examples = Examples(annotations, store, InputConfig(), TargetConfig(), **options)  # type: ignore[arg-type]
    text = examples[0]["text"].numpy()
    assert np.sum(~text.any(axis=1)) == round(len(text) * 0.5)
    assert not torch.equal(examples[0]["text"], examples[len(examples)]["text"])


def test_training_on_a_split_without_labels_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (tiny_data / "train.jsonl").read_text().splitlines()]
    hidden = [{key: row[key] for key in ("qid", "query", "vid", "duration")} for row in rows]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in hidden))
    with pytest.raises(AnnotationError, match="no labels"):
        train(recipe(tiny_data, tmp_path / "run", f"--data.annotations.train={tmp_path / 'train.jsonl'}"))
