"""`momentret extract`: videos -> a feature store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.console import amount_bar, print_json

if TYPE_CHECKING:
    from momentret.extract import Outcome, Video
    from momentret.extract.pipeline import Watch

__all__ = ["extract"]

CORES = os.cpu_count() or 1


def extract(
    videos: list[Path] = typer.Argument(..., help="Video files, and folders with videos anywhere below."),
    output: Path = typer.Option(..., "--output", "-o", help="The feature store to make."),
    encoder: str = typer.Option(..., "--encoder", help="ARCHITECTURE/TAG or ARCHITECTURE/FILE, offline, or fake."),
    clip_length: float = typer.Option(2.0, help="Seconds per feature row."),
    fps: float | None = typer.Option(None, help="Frames per second to encode; default: one frame a clip."),
    keyframes: bool = typer.Option(False, "--keyframes", help="Fast pass: decode keyframes only."),
    decoder: str = typer.Option("auto", help="auto, pyav or decord."),
    family: str = typer.Option("clip", help="Name of the features in the store."),
    workers: int = typer.Option(max(CORES // 2, 1), min=1, help="Videos decoded at the same time."),
    threads: int | None = typer.Option(None, min=1, help="Threads of the encoder; default: the cores left over."),
    shard: str | None = typer.Option(None, help="i/n: do this part only; a run without --shard makes the store."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    precision: str = typer.Option("fp32", help="fp32, or bf16 (four times as fast on CPUs with AMX)."),
    time_limit: float = typer.Option(60.0, help="Seconds to wait for the next frame of a video."),
    memory_limit: int = typer.Option(4096, help="MiB that decoding a video may take."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a packed store at OUTPUT."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Encode videos clip by clip into a feature store; run it again after an interruption and it goes on.

    A video that cannot be decoded goes into quarantine, the others go on: OUTPUT.videos.jsonl says what became of each.
    Exit 1 if there is nothing but quarantine.
    """
    from momentret.encoders import load_encoder
    from momentret.extract import ExtractConfig, Ledger, find_videos, pack, partial_folder, take_shard
    from momentret.extract import extract as carry_out
    from momentret.files import refuse_existing
    from momentret.video import Limits

    refuse_existing(output, overwrite)
    config = ExtractConfig(clip_length, fps, keyframes, decoder, family)
    limits = Limits(time_limit, memory_limit << 20)
    found = find_videos(videos)
    mine = found if shard is None else take_shard(found, shard)
    model = load_encoder(
        encoder, device=_choose_device(device, threads or max(CORES - workers, 1)), precision=precision
    )
    ledger = Ledger.open(partial_folder(output), config, model.fingerprint)
    began = time.monotonic()
    with _progress(mine) as (tick, watch):
        done = [
            tick(outcome)
            for outcome in carry_out(mine, model, config, ledger, workers=workers, limits=limits, watch=watch)
        ]
    outcomes = [ledger.outcome(video) for video in mine] if shard else pack(found, ledger, output, overwrite=overwrite)
    kept = [outcome for outcome in outcomes if outcome is not None]
    _report(kept, done, time.monotonic() - began, ledger.folder if shard else output, as_json)
    return 0 if not kept or any(outcome.error is None for outcome in kept) else 1


def _choose_device(device: str, threads: int) -> str:
    import torch

    torch.set_num_threads(threads)
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _report(outcomes: Sequence[Outcome], done: Sequence[Outcome], seconds: float, where: Path, as_json: bool) -> None:
    good = [outcome for outcome in outcomes if outcome.error is None]
    for outcome in outcomes:
        if outcome.error is not None:
            typer.echo(f"quarantine: {' '.join(outcome.error.split())}", err=True)
        elif outcome.doubts:
            typer.echo(f"doubtful: {outcome.path!r}: {outcome.decoder} errs on {', '.join(outcome.doubts)}", err=True)
    length = sum(outcome.duration for outcome in done)
    summary: dict[str, Any] = {
        "output": str(where),
        "videos": len(good),
        "quarantined": len(outcomes) - len(good),
        "extracted_now": len(done),
        "clips": sum(outcome.clips for outcome in good),
        "seconds_of_video": round(sum(outcome.duration for outcome in good), 3),
        "realtime_factor": round(length / seconds, 2) if done else None,
    }
    if as_json:
        print_json({**summary, "outcomes": [asdict(outcome) for outcome in outcomes]})
    else:
        typer.echo(
            f"{where}: {summary['videos']} videos, {summary['clips']} clips, {summary['quarantined']} in quarantine; "
            f"{len(done)} extracted now"
            + (f" at {summary['realtime_factor']:g} times the speed of playing" if done else "")
        )


@contextmanager
def _progress(videos: Sequence[Video]) -> Iterator[tuple[Any, Watch]]:
    """Give a function for finished videos and one for seconds; together they move the bar on stderr, by bytes."""
    sizes = {video.video_id: _size(video.path) for video in videos}
    shares: dict[str, float] = {}
    seconds: dict[str, float] = {}
    began = time.monotonic()
    with amount_bar("extract", sum(sizes.values())) as show:

        def move() -> None:
            speed = sum(seconds.values()) / max(time.monotonic() - began, 1e-3)
            show(
                sum(shares[name] * sizes[name] for name in shares), f"{len(finished)}/{len(videos)} files, {speed:.1f}x"
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


def _size(path: Path) -> int:
    try:
        return max(path.stat().st_size, 1)
    except (OSError, ValueError):
        return 1
