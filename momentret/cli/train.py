"""`momentret train`: one recipe, one run."""

from __future__ import annotations

import logging
from pathlib import Path

import typer

from momentret.cli.console import print_json, progress_bar

__all__ = ["train"]


def train(
    context: typer.Context,
    config: Path = typer.Option(..., "--config", help="A recipe: configs/<dataset>/<model>.yaml."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest finished epoch of the run's folder."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Delete an earlier run in the folder first."),
) -> None:
    """Train a model: momentret train --config RECIPE [--output DIR] [--train.epochs 50] [--data.features.root DIR] ...

    Every key of the recipe can be given as a dotted option; --print_config shows the resolved recipe and stops. The
    run's folder gets the best and the last checkpoint, their predictions and metrics, history.csv and curves.png.
    """
    from momentret.training.config import parse_run
    from momentret.training.run import train as carry_out

    if not logging.getLogger().isEnabledFor(logging.INFO):
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its tips and greetings
    run = parse_run(["--config", str(config), *context.args])
    try:
        folder = carry_out(run, resume=resume, overwrite=overwrite, progress=progress_bar)
    except KeyboardInterrupt:
        kept = (run.output / "resume.ckpt").exists()
        typer.echo("--resume goes on with the run" if kept else "no epoch was finished: nothing is kept", err=True)
        raise
    print_json({"folder": str(folder), "checkpoint": str(folder / "best.safetensors")})
