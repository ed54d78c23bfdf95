"""What `extract`, `index` and `find` share: how videos are decoded and encoded, as options, and the bar meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from momentret.cli.console import amount_bar, one_line
from momentret.config import find_device
from momentret.machine import available_cores
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.extract import Outcome, Video
    from momentret.extract.pipeline import Watch

__all__ = [
    "CORES",
    "Device",
    "MemoryLimit",
    "Precision",
    "Threads",
    "TimeLimit",
    "Workers",
    "choose_device",
    "spare_threads",
    "tell_unreadable",
    "watching",
]

CORES = available_cores()

Workers = Annotated[int, typer.Option(min=1, help="Videos decoded at the same time.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="Threads of the encoder; default: the cores left over, OMP_NUM_THREADS at most."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[str, typer.Option(help="fp32, or bf16 (four times as fast on CPUs with AMX).")]
TimeLimit = Annotated[float, typer.Option(help="Seconds to wait for the next frame of a video.")]
MemoryLimit = Annotated[int, typer.Option(help="MiB that decoding a video may take.")]


def spare_threads(cores: int) -> int:
    """Return the threads that an encoder has by default: one for each of `cores`, OMP_NUM_THREADS at most.

    On cores that others use too, threads that wait for each other take many times as long as one.
    """
    most = os.environ.get("OMP_NUM_THREADS", "")
    return max(min(cores, int(most)) if most.isdecimal() else cores, 1)


def choose_device(device: str, threads: int) -> str:
    """Return the device that a name stands for, and set the threads of the CPU."""
    import torch

    torch.set_num_threads(threads)
    return find_device(device)


@contextmanager
def watching(videos: Sequence[Video]) -> Iterator[tuple[Any, Watch]]:
    """Give a function for finished videos and one for seconds; together they move the bar on stderr, by bytes."""
    sizes = {video.video_id: _size(video.path) for video in videos}
    shares: dict[str, float] = {}
    seconds: dict[str, float] = {}
    began = time.monotonic()
    with amount_bar("extract", sum(sizes.values())) as show:

        def move() -> None:
            speed = sum(seconds.values()) / max(time.monotonic() - began, 1e-3)
            show(
                sum(shares[name] * sizes[name] for name in shares),
                f"{len(finished)}/{count_of(len(videos), 'file')}, {speed:.1f}x",
            )

        def watch(video: Video, position: float, declared: float | None) -> None:
            seconds[video.video_id] = position
            shares[video.video_id] = min(position / declared, 1.0) if declared else 0.0
            move()

        def tick(outcome: Outcome) -> Outcome:
            finished.append(outcome.video_id)
            shares[outcome.video_id] = 1.0
            move()
            return outcome

        finished: list[str] = []
        yield tick, watch


def tell_unreadable(outcomes: Sequence[Outcome], became: str) -> None:
    """Say on stderr which videos could not be decoded, why, and what became of them."""
    for outcome in outcomes:
        if outcome.error is not None:
            typer.echo(f"{became}: {one_line(' '.join(outcome.error.split()))}", err=True)


def _size(path: Path) -> int:
    try:
        return max(path.stat().st_size, 1)
    except (OSError, ValueError):
        return 1
