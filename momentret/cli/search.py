"""`momentret search` and `momentret find`: ask an index, or a video, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from momentret.cli.console import one_line, print_json, print_table, progress_bar
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
from momentret.words import clock

if TYPE_CHECKING:
    from momentret.extract import Outcome
    from momentret.search.answers import Answer
    from momentret.search.engine import SearchEngine
    from momentret.search.index import Filter, SearchOptions
    from momentret.search.presence import Query

__all__ = ["find", "search"]

FEW = 10  # videos that a corpus is compared with itself from

Top = Annotated[int, typer.Option(min=1, help="How many moments.")]
PerVideo = Annotated[int, typer.Option(min=1, help="Moments of one video, at most.")]
Overlap = Annotated[
    float, typer.Option(min=0, max=1, help="Of two moments that overlap more, the better one is shown.")
]
Level = Annotated[str, typer.Option(help="moment, or video: whole videos.")]
MinConfidence = Annotated[float, typer.Option(min=0, max=1, help="How sure it has to be there; below, it says so.")]
Plus = Annotated[list[str] | None, typer.Option(help="Words to move the query towards; repeatable.")]
Minus = Annotated[list[str] | None, typer.Option(help="Words to move the query away from; repeatable.")]
Refine = Annotated[Path | None, typer.Option(help="A checkpoint that finds the borders of the moments anew.")]
AsScored = Annotated[
    bool, typer.Option("--as-scored", help="Show the best few seconds, not the whole moment around them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a query; momentret cut reads it.")]


def search(
    index: Annotated[
        str, typer.Argument(help="Folder of the index; on Qdrant http(s)://HOST:PORT/COLLECTION, or FOLDER/COLLECTION.")
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="QUERY...", help="What to look for, in words.")] = None,
    image: Annotated[Path | None, typer.Option(help="Look for what a picture shows.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="VIDEO@START-END: look for what a clip shows, elsewhere than in it.")
    ] = None,
    plus: Plus = None,
    minus: Minus = None,
    also: Annotated[list[str] | None, typer.Option(help="One more index to search with it; repeatable.")] = None,
    top: Top = 10,
    per_video: PerVideo = 3,
    overlap: Overlap = 0.7,
    level: Level = "moment",
    min_confidence: MinConfidence = 0.5,
    folder: Annotated[Path | None, typer.Option(help="Only videos in this folder or below.")] = None,
    shortest: Annotated[float | None, typer.Option(help="Only videos of at least so many seconds.")] = None,
    longest: Annotated[float | None, typer.Option(help="Only videos of at most so many seconds.")] = None,
    after: Annotated[datetime | None, typer.Option(help="Only files changed at this time or later.")] = None,
    before: Annotated[datetime | None, typer.Option(help="Only files changed before this time.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every moment of every video.")] = False,
    certified: Annotated[
        bool, typer.Option("--certified", help="Score all that could matter: exact, with a proof.")
    ] = False,
    hubness: Annotated[Path | None, typer.Option(help="State that corrects for videos that fit everything.")] = None,
    refine: Refine = None,
    as_scored: AsScored = False,
    encoder: Annotated[
        str | None, typer.Option(help="Where the encoder's weights are now. Default: as indexed.")
    ] = None,
    threads: Threads = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: AsJson = False,
) -> None:
    """Find moments in an index, and say how sure it is that they are what was asked for.

    Several queries are answered one after the other. Where nothing matches it says so, and shows the nearest moments.
    """
    _require_one_kind(words, image, clip)
    where = _filter(folder, shortest, longest, after, before)
    options = _options(top, per_video, overlap, level, "certified" if certified else exact, where)
    with _opened([index, *(also or ())], encoder, threads, device, precision) as engine:
        _correct(engine, hubness)
        _refine(engine, refine, as_scored)
        if image is not None or clip is not None:
            asked = [engine.picture(image) if image is not None else engine.clip(str(clip))]
        else:
            asked = [engine.text(text) for text in words or ()]
        queries = [engine.moved(query, plus or (), minus or ()) for query in asked]
        _answer(engine, queries, options, min_confidence, as_json)


def find(
    words: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in words.")],
    videos: Annotated[list[Path], typer.Argument(help="Video files, and folders with videos anywhere below.")],
    encoder: Annotated[str, typer.Option(help="ARCHITECTURE/TAG or ARCHITECTURE/FILE, offline, or fake.")],
    plus: Plus = None,
    minus: Minus = None,
    top: Top = 10,
    per_video: PerVideo = 10,
    overlap: Overlap = 0.7,
    level: Level = "moment",
    min_confidence: MinConfidence = 0.5,
    clip_length: Annotated[float, typer.Option(help="Seconds per clip.")] = 2.0,
    fps: Annotated[float | None, typer.Option(help="Frames per second to encode; default: one frame a clip.")] = None,
    keyframes: Annotated[bool, typer.Option("--keyframes", help="Fast pass: decode keyframes only.")] = False,
    decoder: Annotated[str, typer.Option(help="auto, pyav or decord.")] = "auto",
    refine: Refine = None,
    as_scored: AsScored = False,
    workers: Workers = max(CORES // 2, 1),
    threads: Threads = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    time_limit: TimeLimit = 60.0,
    memory_limit: MemoryLimit = 4096,
    as_json: AsJson = False,
) -> None:
    """Find moments in videos without making an index: everything is decoded, scored as in an index, and forgotten.

    A folder that cannot be listed is named on stderr and left out.
    """
    _require_order(words, videos)
    from momentret.encoders import load_encoder
    from momentret.extract import ExtractConfig, find_videos, require_paths
    from momentret.files import cache_folder
    from momentret.search.engine import SearchEngine
    from momentret.search.recipe import Recipe
    from momentret.video import Limits

    require_paths(videos)
    config = ExtractConfig(clip_length, fps, keyframes, decoder)
    limits, options = Limits(time_limit, memory_limit << 20), _options(top, per_video, overlap, level, False, None)
    model = load_encoder(
        encoder, device=choose_device(device, threads or spare_threads(CORES - workers)), precision=precision
    )
    recipe = Recipe(model.fingerprint, config)
    outcomes: list[Outcome] = []
    found = find_videos(videos)
    with watching(found) as (tick, watch):
        engine = SearchEngine.of_videos(
            [video.path for video in found],  # as they were listed: folders that cannot be are named once
            model,
            recipe,
            cache=cache_folder(),
            progress=progress_bar,
            workers=workers,
            limits=limits,
            watch=watch,
            finished=lambda outcome: outcomes.append(tick(outcome)),
        )
    tell_unreadable(outcomes, "left out")
    _refine(engine, refine, as_scored)
    _answer(engine, [engine.text(words, plus or (), minus or ())], options, min_confidence, as_json)


def _require_one_kind(words: list[str] | None, image: Path | None, clip: str | None) -> None:
    given = sum(bool(kind) for kind in (words, image, clip))
    if given == 0:
        raise typer.BadParameter(
            "the query is missing: give words, --image FILE or --clip VIDEO@START-END; --plus and --minus only move it"
        )
    if given > 1:
        raise typer.BadParameter("ask in one way: in words, with --image or with --clip; --plus and --minus move it")


def _require_order(words: str, videos: list[Path]) -> None:
    if Path(words).exists() and not any(video.exists() for video in videos):
        raise typer.BadParameter(f"the query comes first and then the videos: find {str(videos[0])!r} {words!r}")


@contextmanager
def _opened(
    places: list[str], encoder: str | None, threads: int | None, device: str, precision: str
) -> Iterator[SearchEngine]:
    """Open indexes with their encoder; the fake one runs without torch, which would take a second to load."""
    from momentret.files import cache_folder
    from momentret.search.engine import SearchEngine
    from momentret.search.index import CorpusIndex
    from momentret.search.merge import open_corpora
    from momentret.search.recipe import Recipe

    with open_corpora(places) as index:
        recipe = Recipe.of(index)
        machine: dict[str, Any] = {}
        if (encoder or recipe.fingerprint.name) != "fake":
            machine = {"device": choose_device(device, threads or spare_threads(CORES)), "precision": precision}
        model = recipe.load_encoder(encoder, **machine)
        folder = index.folder if isinstance(index, CorpusIndex) else None
        yield SearchEngine(index, model, recipe, folder=folder, cache=cache_folder(), progress=progress_bar)


def _filter(
    folder: Path | None, shortest: float | None, longest: float | None, after: datetime | None, before: datetime | None
) -> Filter:
    from momentret.files import absolute
    from momentret.search.index import Filter

    return Filter(
        folder=None if folder is None else absolute(folder),
        shortest=shortest,
        longest=longest,
        after=None if after is None else _seconds(after, "after"),
        before=None if before is None else _seconds(before, "before"),
    )


def _seconds(time: datetime, option: str) -> float:
    """Return a time as files have it; not all that a calendar holds are in reach of a time zone."""
    try:
        return time.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise typer.BadParameter(
            f"--{option} {time.isoformat()} is no time that a file can have; leave it out"
        ) from error


def _options(top: int, per_video: int, overlap: float, level: str, exact: Any, where: Filter | None) -> SearchOptions:
    from momentret.search.index import Filter, SearchOptions

    if level not in ("moment", "video"):
        raise typer.BadParameter(f"level {level!r} is not moment or video")
    return SearchOptions(
        top=top,
        per_video=per_video,
        overlap=overlap,
        level="video" if level == "video" else "moment",
        exact=exact,
        where=where or Filter(),
    )


def _correct(engine: SearchEngine, state: Path | None) -> None:
    if state is None:
        return
    from momentret.search.hubness.corpus import CorpusHubness
    from momentret.search.index import CorpusIndex

    if not isinstance(engine.corpus, CorpusIndex):
        raise typer.BadParameter("--hubness corrects one index folder; a state belongs to the index it was fitted for")
    engine.correct_with(CorpusHubness.load(state, engine.corpus))


def _refine(engine: SearchEngine, checkpoint: Path | None, as_scored: bool) -> None:
    if checkpoint is not None and as_scored:
        raise typer.BadParameter("--refine finds borders anew, --as-scored keeps them; use one of them")
    if as_scored:
        from momentret.search import borders

        engine.refine = borders.as_scored
    if checkpoint is None:
        return
    from momentret.predict import Predictor
    from momentret.search.refine import MomentRefiner

    assert engine.recipe is not None
    engine.refine = MomentRefiner(Predictor.load(checkpoint), engine.encoder, engine.recipe, engine.corpus.clips)


def _answer(
    engine: SearchEngine, queries: list[Query], options: SearchOptions, min_confidence: float, as_json: bool
) -> None:
    few = len(engine.corpus) < FEW
    for query in queries:
        answer = engine.search(query, options, min_confidence)
        if few and answer.moments and answer.presence is not None:
            typer.echo(f"in fewer than {FEW} videos, how sure it is is a rough guess", err=True)
            few = False
        print_json(answer.to_row()) if as_json else _show(answer)


def _show(answer: Answer) -> None:
    if not answer.moments:
        typer.echo(
            f"{one_line(answer.query)}: there are no videos to look at; the index is empty or the filters pass none"
        )
        return
    if answer.present:
        title = f"{answer.query} (sure: {_percent(answer.presence)})"
    else:
        title = f"Nothing here matches: {answer.query} (sure: {_percent(answer.presence)}); the nearest moments:"
    rows = [
        (f"{clock(m.start)} - {clock(m.end)}", m.video_id, f"{m.score:.3f}", _percent(m.confidence), m.path)
        for m in answer.moments
    ]
    print_table(one_line(title), ("time", "video", "score", "sure", "file"), rows)


def _percent(probability: float | None) -> str:
    return "not known" if probability is None else f"{probability:.0%}"
