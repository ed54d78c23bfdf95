"""`momentret data simulate`: a small data set to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["simulate"]


def simulate(
    folder: Annotated[Path, typer.Argument(help="New folder: train.jsonl, val.jsonl, features/.")],
    train: Annotated[int, typer.Option(min=1, help="Training queries, one video each.")] = 256,
    val: Annotated[int, typer.Option(min=1, help="Validation queries.")] = 64,
    clips: Annotated[int, typer.Option(min=8, help="Clips of a video, 2 seconds each.")] = 75,
    dim: Annotated[int, typer.Option(min=4, help="Width of the features.")] = 64,
    seed: int = 1,
) -> None:
    """Make annotations and features out of nothing, in the formats of the real ones; no video is behind them."""
    from momentret.datasets.simulate import Simulation
    from momentret.datasets.simulate import simulate as make

    make(folder, Simulation(train=train, val=val, clips=clips, dim=dim, seed=seed))
    typer.echo(f"{train} training and {val} validation queries -> {folder}", err=True)
