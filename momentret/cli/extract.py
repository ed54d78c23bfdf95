"""`momentret extract`: videos -> a feature store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.console import print_json
from momentret.cli.extraction import (
    CORES,
    Device,
    MemoryLimit,
    Precision,
    Threads,
    TimeLimit,
    Workers,
    choose_device,
    watching,
)

if TYPE_CHECKING:
    from momentret.extract import Outcome

__all__ = ["extract"]


def extract(
    videos: list[Path] = typer.Argument(..., help="Video files, and folders with videos anywhere below."),
    output: Path = typer.Option(..., "--output", "-o", help="The feature store to make."),
    encoder: str = typer.Option(..., "--encoder", help="ARCHITECTURE/TAG or ARCHITECTURE/FILE, offline, or fake."),
    clip_length: float = typer.Option(2.0, help="Seconds per feature row."),
    fps: float | None = typer.Option(None, help="Frames per second to encode; default: one frame a clip."),
    keyframes: bool = typer.Option(False, "--keyframes", help="Fast pass: decode keyframes only."),
    decoder: str = typer.Option("auto", help="auto, pyav or decord."),
    family: str = typer.Option("clip", help="Name of the features in the store."),
    workers: Workers = max(CORES // 2, 1),
    threads: Threads = None,
    shard: str | None = typer.Option(None, help="i/n: do this part only; a run without --shard makes the store."),
    device: Device = "auto",
    precision: Precision = "fp32",
    time_limit: TimeLimit = 60.0,
    memory_limit: MemoryLimit = 4096,
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
    model = load_encoder(encoder, device=choose_device(device, threads or max(CORES - workers, 1)), precision=precision)
    ledger = Ledger.open(partial_folder(output), config, model.fingerprint)
    began = time.monotonic()
    with watching(mine) as (tick, watch):
        done = [
            tick(outcome)
            for outcome in carry_out(mine, model, config, ledger, workers=workers, limits=limits, watch=watch)
        ]
    outcomes = [ledger.outcome(video) for video in mine] if shard else pack(found, ledger, output, overwrite=overwrite)
    kept = [outcome for outcome in outcomes if outcome is not None]
    _report(kept, done, time.monotonic() - began, ledger.folder if shard else output, as_json)
    return 0 if not kept or any(outcome.error is None for outcome in kept) else 1


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
