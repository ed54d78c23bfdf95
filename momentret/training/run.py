"""One run from recipe to report: set-up, fit, resume, the final test score."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from momentret.config import find_device
from momentret.errors import CheckpointError, ConfigError, MismatchError, OutputExistsError
from momentret.files import atomic_write, write_json
from momentret.machine import keep_freed_memory
from momentret.models import MODELS
from momentret.models.checkpoint import load_checkpoint
from momentret.predict import Predictor
from momentret.progress import Progress, silent
from momentret.records import write_predictions
from momentret.training.config import RunConfig
from momentret.training.data import MomentData
from momentret.training.folder import ResumeIO, RunFolder, report_split
from momentret.training.graphs import BatchShape
from momentret.training.module import MomentModule, seed_epoch

__all__ = ["train"]

# what a resumed run may change without becoming another run; the widths are those of the features whatever it says
FREE_ON_RESUME = ("output:", "epochs:", "workers:", "loggers:", "device:", "cuda_graphs:", "video_dim:", "text_dim:")


def train(run: RunConfig, *, resume: bool = False, overwrite: bool = False, progress: Progress = silent) -> Path:
    """Carry out a run and return its folder.

    Args:
        run: what to do, see `parse_run`.
        resume: go on from the newest finished epoch of ``run.output``.
        overwrite: delete an earlier run in ``run.output`` first.
        progress: reports on the final test predictions; training has its own bar.

    Raises:
        OutputExistsError: the folder is taken and neither flag was given, or it is no run.
        MismatchError: resuming with another recipe than the run was started with.
        ConfigError: there is no GPU and the recipe asks for one, or both flags are given.
        KeyboardInterrupt: Ctrl-C; the run can be resumed if an epoch is finished, and else leaves nothing.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on with a run and --overwrite deletes it; give one of them")
    find_device(run.train.device)
    if run.train.threads is not None:
        torch.set_num_threads(run.train.threads)
    keep_freed_memory()
    data = MomentData(run.data, run.train)
    data.setup()  # before anything is written: bad data leaves no folder behind
    run = sized(run, data)
    _prepare_folder(run, resume, overwrite)
    with _no_empty_run(run.output):
        module = MomentModule(_new_model(run), run.train, full_shape(run))
        folder = RunFolder(run, data)
        state = run.output / "resume.ckpt" if resume else None
        with warnings.catch_warnings():
            _ignore_known_warnings()
            _fit(_trainer(run, folder), module, data, state)
    if data.test and run.data.select_on != "test":
        _report_test(run, data, progress)
    return run.output


def sized(run: RunConfig, data: MomentData) -> RunConfig:
    """Return the run with the model's input widths taken from the features.

    Raises:
        MismatchError: the recipe gives a width, and it is not that of the features.
    """
    manifest = data.store.manifest
    assert manifest.text is not None  # `DataConfig` asks for it
    video_dim = run.data.inputs.video_dim([source.dimension for source in manifest.video])
    widths = {"video_dim": video_dim, "text_dim": manifest.text.dimension}
    for name, width in widths.items():
        given = getattr(run.model, name)
        if given not in (None, width):
            raise MismatchError(f"{run.model_name}.{name} is {given}, but the features make it {width}; leave it out")
    return replace(run, model=replace(run.model, **widths))


def full_shape(run: RunConfig) -> BatchShape | None:
    """Return the shape that every full batch can be padded to; None if the recipe sets no limits."""
    inputs, windows = run.data.inputs, run.data.targets.max_windows
    if inputs.max_clips is None or inputs.max_words is None or windows is None:
        return None
    return BatchShape(run.train.batch_size, inputs.max_clips, inputs.max_words, windows)


def _prepare_folder(run: RunConfig, resume: bool, overwrite: bool) -> None:
    saved = run.output / "config.yaml"
    if resume:
        if not (run.output / "resume.ckpt").exists():
            raise CheckpointError(f"{run.output} has no finished epoch to resume from; start again with --overwrite")
        _require_same(saved.read_text(encoding="utf-8"), run.text)
    elif run.output.exists() and any(run.output.iterdir()):
        if not overwrite:
            raise OutputExistsError(run.output)
        if not saved.exists():  # never delete a folder that is no run of ours
            raise OutputExistsError(
                run.output, "it holds no training run, which alone --overwrite deletes; choose another path"
            )
        shutil.rmtree(run.output)
    with atomic_write(saved) as file:
        file.write(run.text)


@contextmanager
def _no_empty_run(folder: Path) -> Iterator[None]:
    """Delete the run's folder if it fails before its first epoch is over: the corrected command finds the path free."""
    try:
        yield
    except BaseException:
        if not any((folder / name).exists() for name in ("resume.ckpt", "last.safetensors")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _fit(trainer: Trainer, module: MomentModule, data: MomentData, state: Path | None) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=state)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning leaves the process at Ctrl-C
            raise stop.__context__ from None
        raise


def _require_same(saved: str, current: str) -> None:
    for old, new in zip(saved.splitlines(), current.splitlines(), strict=False):
        if old != new and not old.strip().startswith(FREE_ON_RESUME):
            raise MismatchError(
                f"the run was started with {old.strip()!r}, now it is {new.strip()!r}; resume it as it was"
            )


def _new_model(run: RunConfig) -> torch.nn.Module:
    seed_epoch(run.train.seed, 2**31 - 1)  # weights have a seed of their own, beside those of the epochs
    model: torch.nn.Module = MODELS[run.model_name][1](run.model)
    if run.train.init_from is not None:
        start = load_checkpoint(run.train.init_from)
        _require_architecture(start.config, run)
        model.load_state_dict(start.weights)
    return model


def _require_architecture(config: dict[str, Any], run: RunConfig) -> None:
    """Refuse to start from weights of another shape; loss weights may differ."""
    for item in fields(run.model):
        ours = getattr(run.model, item.name)
        if item.name.endswith(("_dim", "_layers", "slots")) and config.get(item.name, ours) != ours:
            raise MismatchError(
                f"{item.name} is {config[item.name]} in {run.train.init_from} and {ours} in this run; they must agree"
            )


def _trainer(run: RunConfig, folder: RunFolder) -> Trainer:
    settings = run.train
    bar = sys.stderr.isatty()
    callbacks: list[Callback] = [folder]
    if bar:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    return Trainer(
        accelerator="gpu" if settings.on_gpu else "cpu",
        devices=1,
        max_epochs=settings.epochs,
        precision=settings.precision,
        check_val_every_n_epoch=settings.eval_every,
        num_sanity_val_steps=0,
        logger=_loggers(run) or False,
        callbacks=callbacks,
        plugins=[ResumeIO()],
        enable_checkpointing=False,
        enable_progress_bar=bar,
        enable_model_summary=False,
        default_root_dir=run.output,
    )


def _loggers(run: RunConfig) -> list[Logger]:
    loggers: list[Logger] = []
    for name in run.train.loggers:
        if name == "tensorboard":
            loggers.append(TensorBoardLogger(run.output, name="", version="tensorboard"))
        else:
            from lightning.pytorch.loggers import WandbLogger

            try:
                loggers.append(WandbLogger(name=run.output.name, save_dir=run.output))
            except ModuleNotFoundError as error:
                raise ConfigError("train.loggers names 'wandb', which is not installed; pip install wandb") from error
    return loggers


def _ignore_known_warnings() -> None:
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")  # Lightning's own use of torch
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # packed features need none
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*AccumulateGrad node's stream.*")  # recorded steps have their own
    warnings.filterwarnings("ignore", message=".*number of training batches.*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")


def _report_test(run: RunConfig, data: MomentData, progress: Progress) -> None:
    predictor = Predictor.load(run.output / "best.safetensors", batch_size=run.train.eval_batch_size)
    predictions = predictor.predict(data.test, data.store, progress)
    write_predictions(run.output / "test_predictions.jsonl", predictions)
    write_json(run.output / "test_metrics.json", report_split(run, data.test, predictions, "test"))
