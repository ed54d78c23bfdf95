"""`momentret index`: folders of videos -> an index that `momentret search` asks, kept up to date."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from momentret.cli.console import one_line, print_json, print_table, progress_bar, resumable
from momentret.cli.extraction import (
    CORES,
    Device,
    MemoryLimit,
    Precision,
    Threads,
    TimeLimit,
    Workers,
    choose_device,
    spare_threads,
    tell_unreadable,
    watching,
)
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.encoders import Encoder
    from momentret.extract import ExtractConfig, Outcome
    from momentret.search.index import CorpusIndex, IndexStats, LostVideo, Repair
    from momentret.search.indexing import Summary, Update

__all__ = ["app"]

app = typer.Typer(name="index", help="Make an index of videos and keep it up to date.", no_args_is_help=True)

Index = Annotated[Path, typer.Argument(help="Folder of the index.")]
Videos = Annotated[list[Path], typer.Argument(help="Video files, and folders with videos anywhere below.")]
EncoderName = Annotated[
    str | None,
    typer.Option("--encoder", help="ARCHITECTURE/TAG or ARCHITECTURE/FILE, offline, or fake. Default: the index's."),
]
ClipLength = Annotated[float | None, typer.Option(help="Seconds per clip of a new index. Default: 2.")]
Fps = Annotated[float | None, typer.Option(help="Frames per second to encode; default: one frame a clip.")]
Keyframes = Annotated[bool | None, typer.Option("--keyframes", help="Fast pass: decode keyframes only.")]
Decoder = Annotated[str | None, typer.Option(help="auto, pyav or decord.")]
Retry = Annotated[bool, typer.Option("--retry", help="Try files in quarantine again although they did not change.")]
RepairIt = Annotated[bool, typer.Option("--repair", help="Keep what is whole, take out what is not, say how to go on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def add(
    index: Index,
    videos: Videos,
    encoder: EncoderName = None,
    clip_length: ClipLength = None,
    fps: Fps = None,
    keyframes: Keyframes = None,
    decoder: Decoder = None,
    retry: Retry = False,
    workers: Workers = max(CORES // 2, 1),
    threads: Threads = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    time_limit: TimeLimit = 60.0,
    memory_limit: MemoryLimit = 4096,
    as_json: AsJson = False,
) -> int:
    """Put videos into an index, which is made if it is not there; only new and changed files are looked at.

    Every finished video is safely in at once: run it again after an interruption and it goes on. A video that cannot be
    decoded goes into quarantine with the reason, the others go on. A folder that cannot be listed is named on stderr,
    and what the index has of it stays. Exit 1 if the index ends up empty; a new one is not made then.
    """
    settings = {"clip_length": clip_length, "fps": fps, "keyframes": keyframes, "decoder": decoder}
    limits, machine = (time_limit, memory_limit), (workers, threads, device, precision)
    return _bring_up_to_date(index, videos, encoder, settings, limits, machine, retry, as_json, remove=False)


@app.command()
def update(
    index: Index,
    videos: Videos,
    encoder: EncoderName = None,
    retry: Retry = False,
    workers: Workers = max(CORES // 2, 1),
    threads: Threads = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    time_limit: TimeLimit = 60.0,
    memory_limit: MemoryLimit = 4096,
    as_json: AsJson = False,
) -> int:
    """Add as `add` does, and take out the videos below the given paths whose files are gone.

    A folder that cannot be listed is named on stderr, and what the index has of it stays: it is not gone.
    """
    limits, machine = (time_limit, memory_limit), (workers, threads, device, precision)
    return _bring_up_to_date(index, videos, encoder, None, limits, machine, retry, as_json, remove=True)


def _bring_up_to_date(
    folder: Path,
    videos: list[Path],
    encoder: str | None,
    settings: dict[str, Any] | None,
    limits: tuple[float, int],
    machine: tuple[int, int | None, str, str],
    retry: bool,
    as_json: bool,
    *,
    remove: bool,
) -> int:
    """Do what `add` and `update` do; `settings` None: the index has to be there."""
    from momentret.search.index import CorpusIndex
    from momentret.search.indexing import holds_index, open_index, plan_update, taken_back_if_empty
    from momentret.search.recipe import Recipe
    from momentret.video import Limits

    workers, threads, device, precision = machine
    limit = Limits(limits[0], limits[1] << 20)
    options: dict[str, Any] = {
        "device": choose_device(device, threads or spare_threads(CORES - workers)),
        "precision": precision,
    }
    new = not folder.exists()
    if settings is None or holds_index(folder):
        index = CorpusIndex.open(folder, "rw")
        recipe = Recipe.of(index)
        recipe.require_config(**(settings or {}))
        model = recipe.load_encoder(encoder, **options)
    else:
        model, config = _begin(encoder, settings, options)
        index = open_index(folder, model, config)
    began = time.monotonic()
    with index, taken_back_if_empty(index) if new else nullcontext():
        plan = plan_update(index, videos, remove_missing=remove, retry=retry, progress=progress_bar)
        outcomes: list[Outcome] = []
        with resumable(lambda: _reached(index, outcomes, plan)), watching(plan.videos) as (tick, watch):
            outcomes.extend(map(tick, plan.run(model, workers=workers, limits=limit, watch=watch)))
        stats = index.stats()
    tell_unreadable(outcomes, "quarantine")
    length = sum(outcome.duration for outcome in outcomes)
    speed = round(length / (time.monotonic() - began), 2) if outcomes else None
    facts = {"videos": stats.videos, "clips": stats.clips, "seconds_of_video": round(stats.duration, 3)}
    _report(folder, plan.summary, {**facts, "realtime_factor": speed}, as_json)
    if new and not stats.videos:
        typer.echo(f"no video could be added, so {str(folder)!r} was not made", err=True)
    return 0 if stats.videos else 1


def _begin(encoder: str | None, settings: dict[str, Any], options: dict[str, Any]) -> tuple[Encoder, ExtractConfig]:
    """Return encoder and settings of a new index."""
    from momentret.encoders import load_encoder
    from momentret.errors import ConfigError
    from momentret.extract import ExtractConfig
    from momentret.search.recipe import lasting_name

    if encoder is None:
        raise ConfigError("a new index needs --encoder: ARCHITECTURE/TAG, ARCHITECTURE/FILE, offline or fake")
    config = ExtractConfig(**{name: value for name, value in settings.items() if value is not None})
    return load_encoder(lasting_name(encoder), **options), config


def _reached(index: CorpusIndex, outcomes: list[Outcome], plan: Update) -> str:
    done = f"{len(outcomes):,} of {count_of(len(plan.videos), 'file')} done"
    return f"{done}, {count_of(len(index), 'video')} safely in the index"


def _report(folder: Path, summary: Summary, facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"index": str(folder), **facts, **summary.to_dict()})
        return
    counts = {
        "added": len(summary.added),
        "changed": len(summary.changed),
        "moved": len(summary.moved),
        "unchanged": summary.unchanged,
        "removed": len(summary.removed),
        "missing": len(summary.missing),
        "in quarantine": len(summary.quarantined),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what in ("added", "unchanged"))
    typer.echo(f"{folder}: {said}; {count_of(facts['videos'], 'video')}, {count_of(facts['clips'], 'clip')}")
    if summary.missing:
        typer.echo("what is missing stays in the index as it was; momentret index update takes it out", err=True)


@app.command()
def remove(
    index: Index,
    names: Annotated[
        list[str], typer.Argument(help="Ids of videos, or paths of files or folders; after -- if one begins with -.")
    ],
    as_json: AsJson = False,
) -> None:
    """Take videos out of an index, and files out of its quarantine; the files themselves are not touched."""
    from momentret.search.index import CorpusIndex
    from momentret.search.indexing import remove_videos

    with CorpusIndex.open(index, "rw") as opened:
        removed, left = remove_videos(opened, names), len(opened)
    if as_json:
        print_json({"index": str(index), "removed": removed, "videos": left})
    else:
        typer.echo(f"{index}: {len(removed)} removed; {count_of(left, 'video')} left")


@app.command()
def verify(index: Index, repair: RepairIt = False, as_json: AsJson = False) -> None:
    """Read every byte of an index and compare it with its checksums; exit 1 names the first file that differs.

    With --repair what is damaged is mended from copies or computed again; videos whose own clips are damaged, and only
    these, are taken out, and the command is named that puts them back. Damaged files are moved below damaged/ in the
    index, never deleted. Where it cannot be told what the index held, it stays as it is: exit 1.
    """
    from momentret.search.index import DamagedIndexError, repair_index

    done: Repair | None = None
    try:
        stats = _verified(index)
    except DamagedIndexError:
        if not repair:
            raise
        done = repair_index(index, progress_bar)
        stats = _verified(index)
    if as_json:
        facts = {"index": str(index), "sound": True, "videos": stats.videos, "clips": stats.clips}
        facts["torn_bytes"] = stats.torn_bytes
        print_json(facts | (_repair_facts(done) if repair else {}))
        return
    nothing = "; nothing to repair" if repair and done is None else ""
    typer.echo(f"{index}: {count_of(stats.videos, 'video')}, {count_of(stats.clips, 'clip')}, all sound{nothing}")
    if stats.torn_bytes:
        typer.echo(
            f"the log ends in {count_of(stats.torn_bytes, 'byte')} of a change that is not whole: one that was never "
            "acknowledged, or the log was cut short; momentret index add FOLDER puts back what is missing",
            err=True,
        )
    if done is not None and done.damaged:
        _tell_repair(index, done)


def _verified(folder: Path) -> IndexStats:
    from momentret.search.index import CorpusIndex

    with CorpusIndex.open(folder) as opened:
        opened.verify(progress_bar)
        return opened.stats()


def _repair_facts(done: Repair | None) -> dict[str, Any]:
    if done is None or done.aside is None:
        return {"damaged": [], "moved_to": None, "taken_out": [], "folders": []}
    return {
        "damaged": [str(path) for path in done.damaged],
        "moved_to": str(done.aside),
        "taken_out": [asdict(video) for video in done.lost],
        "folders": _folders(done.lost),
    }


def _tell_repair(folder: Path, done: Repair) -> None:
    for path in done.damaged:
        typer.echo(f"damaged: {path}")
    typer.echo(f"what was damaged is in {done.aside} now, and may be deleted")
    for video in done.lost:
        name = "a video whose id cannot be read" if video.video_id is None else video.video_id
        typer.echo(one_line(f"taken out: {name} ({video.path or 'of a path that cannot be read'})"))
    if not done.lost:
        typer.echo("no video was lost")
        return
    command = shlex.join(["momentret", "index", "add", str(folder), *_folders(done.lost)])
    others = " and the folders of the others" if any(video.path is None for video in done.lost) else ""
    typer.echo(one_line(f"to put back: {command}{others}"))


def _folders(lost: Sequence[LostVideo]) -> list[str]:
    """Return the folders that the files of lost videos are in, without those below another one."""
    folders = {Path(video.path).parent for video in lost if video.path is not None}
    return sorted(str(folder) for folder in folders if folders.isdisjoint(folder.parents))


@app.command()
def compact(index: Index, as_json: AsJson = False) -> None:
    """Rewrite an index as one piece: frees the room of removed videos and makes searching faster."""
    from momentret.search.index import CorpusIndex

    with CorpusIndex.open(index, "rw") as opened:
        freed = opened.stats().removed
        opened.compact()
        stats = opened.stats()
    if as_json:
        print_json({"index": str(index), "freed_videos": freed, "segments": stats.segments, "videos": stats.videos})
    else:
        held = f"{count_of(stats.videos, 'video')} in {count_of(stats.segments, 'segment')}"
        typer.echo(f"{index}: {held}; room of {count_of(freed, 'removed video')} freed")


@app.command()
def stats(
    index: Index,
    list_videos: Annotated[bool, typer.Option("--videos", help="List every video.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an index holds and how it was made."""
    from momentret.search.index import CorpusIndex
    from momentret.search.quarantine import Quarantine
    from momentret.search.recipe import Recipe

    with CorpusIndex.open(index) as opened:
        recipe = Recipe.of(opened)
        facts = {**asdict(opened.stats()), "encoder": recipe.fingerprint.name, "settings": recipe.config.to_dict()}
        videos = [asdict(video) for video in opened.videos()] if list_videos else []
    rejected = [asdict(row) for row in Quarantine(index).all()]
    if as_json:
        print_json({"index": str(index), **facts, "quarantined": rejected, **({"list": videos} if list_videos else {})})
        return
    settings = {name: value for name, value in facts.pop("settings").items() if value is not None}
    rows = [*facts.items(), *settings.items(), ("in quarantine", len(rejected))]
    print_table(str(index), ("", "value"), [(name.replace("_", " "), _shown(name, value)) for name, value in rows])
    if list_videos:
        columns = ("video", "seconds", "path")
        print_table("", columns, [(v["video_id"], f"{v['duration']:.1f}", v["path"]) for v in videos])
    for row in rejected:
        typer.echo(f"quarantine: {' '.join(row['error'].split())}", err=True)


def _shown(name: str, value: object) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else str(value)
    return f"{round(value, 3):,.12g}" + (" s" if name in ("duration", "clip_length") else "")
