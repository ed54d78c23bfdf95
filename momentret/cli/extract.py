"""`momentret extract`: videos -> a feature store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.console import amount_bar, print_json, resumable
from momentret.cli.extraction import (
    CORES,
    Device,
    MemoryLimit,
    Precision,
    Threads,
    TimeLimit,
    choose_device,
    spare_threads,
    tell_unreadable,
    watching,
)
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.extract import Job, Outcome

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
    workers: int | None = typer.Option(
        None, min=1, help="Videos decoded at the same time, in each process; default: half the cores."
    ),
    threads: Threads = None,
    processes: int | None = typer.Option(
        None, min=1, help="Shard the work over this many processes; revives the dead."
    ),
    ray: str | None = typer.Option(None, help="Shard it over a Ray cluster: HOST:PORT, auto, or local for a new one."),
    shard: str | None = typer.Option(
        None,
        help="i/n: do this part only, on any machine that sees VIDEOS and OUTPUT. When all are done, the same command "
        "without --shard does what is left and packs the store.",
    ),
    device: Device = "auto",
    precision: Precision = "fp32",
    time_limit: TimeLimit = 60.0,
    memory_limit: MemoryLimit = 4096,
    drop_missing: bool = typer.Option(
        False, "--drop-missing", help="Leave out of the store what VIDEOS do not give any more."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Do everything anew, and replace the store at OUTPUT."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Encode videos clip by clip into a feature store; run it again after an interruption and it goes on.

    Run again when it is done, it adds what is new and does anew what has changed; what is deleted or renamed it leaves
    out with --drop-missing only.
    On one machine: --processes. On a cluster: --ray, or any scheduler that runs this with --shard 1/8 to --shard 8/8.

    A video that cannot be decoded goes into quarantine, the others go on: OUTPUT.videos.jsonl says what became of each.
    A folder that cannot be listed is named on stderr and left out, unless the store has videos of it: then nothing is
    done. Exit 1 if there is nothing but quarantine.
    """
    from momentret.errors import ConfigError
    from momentret.extract import ExtractConfig, Job, noted_in, pack, require_paths, take_shard, was_extracted
    from momentret.extract import extract as carry_out
    from momentret.files import refuse_existing
    from momentret.video import Limits

    require_paths(videos)
    refuse_existing(output, overwrite or was_extracted(output))
    many = ray is not None or processes is not None
    if many and shard is not None:
        raise ConfigError("--shard is for one of several runs, --processes and --ray make them all; give one of these")
    workers = workers or max(CORES // (2 * (processes or 1)), 1)
    threads = threads or spare_threads(CORES // (processes or 1) - workers)
    job = Job(
        tuple(videos),
        output,
        encoder,
        ExtractConfig(clip_length, fps, keyframes, decoder, family),
        Limits(time_limit, memory_limit << 20),
        workers,
        threads,
        choose_device(device, threads),
        precision,
        overwrite,
    )
    hidden: set[str] = set()
    everything = job.find(hidden=noted_in(hidden))
    mine = take_shard(everything, shard) if shard else everything
    if ray is not None:
        from momentret.extract.cluster import require_cluster

        require_cluster(ray)
    model, ledger = job.load()
    dropped = ledger.earlier.dropped(everything, hidden, drop_missing) if ledger.earlier is not None else []
    todo = [video for video in mine if ledger.outcome(video) is None]
    began = time.monotonic()
    with resumable(lambda: f"{count_of(job.finished(), 'file')} done and safely kept"):
        if many:
            del model  # every process has its own
            _share_out(job, job.finished() + len(todo), processes, ray)
        else:
            with watching(todo) as (tick, watch):
                work = carry_out(mine, model, job.config, ledger, workers=workers, limits=job.limits, watch=watch)
                for finished in work:
                    tick(finished)
    ledger.look_again(everything)
    done = [outcome for outcome in ledger.outcomes(todo) if outcome.error is None]
    left_out = [] if shard else dropped  # a shard packs nothing
    idle = ledger.is_idle and not left_out
    kept = ledger.outcomes(mine)
    tell_unreadable(kept, "quarantine")  # first: a store of nothing is refused
    if not (shard or idle):
        kept = pack(mine, ledger, output, overwrite=overwrite)
    where = ledger.folder if shard and not idle else output
    news = f"{len(done)} extracted now" + (f", {len(left_out)} left out" if left_out else "")
    _report(kept, done, time.monotonic() - began, where, as_json, news if done or not idle else "nothing new")
    return 0 if not kept or any(outcome.error is None for outcome in kept) else 1


def _share_out(job: Job, videos: int, processes: int | None, ray: str | None) -> None:
    """Let several processes, here or on a cluster, do all shards."""
    with amount_bar("extract", videos) as show:

        def advance(finished: int) -> None:
            show(finished, f"{finished}/{count_of(videos, 'file')}")

        if ray is None:
            from momentret.extract import run_in_processes

            run_in_processes(job, processes or 1, advance)
        else:
            from momentret.extract.cluster import run_on_ray

            run_on_ray(job, ray, processes, advance)


def _report(
    outcomes: Sequence[Outcome], done: Sequence[Outcome], seconds: float, where: Path, as_json: bool, news: str
) -> None:
    good = [outcome for outcome in outcomes if outcome.error is None]
    for outcome in good:
        if outcome.doubts:
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
            f"{where}: {count_of(len(good), 'video')}, {count_of(summary['clips'], 'clip')}, "
            f"{summary['quarantined']} in quarantine; {news}"
            + (f" at {summary['realtime_factor']:g} times the speed of playing" if done else "")
        )
