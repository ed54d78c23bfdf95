"""`momentret report`: what search found -> a page, and a contact sheet, to look at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.answers import MinConfidence, Nearest, Top, chosen_answers
from momentret.cli.console import one_line, print_json, progress_bar
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.report import Pictures

__all__ = ["report"]


def report(
    source: Path = typer.Argument(..., help="What search or find printed with --json, also several; '-': stdin."),
    output: Path = typer.Option(..., "--output", "-o", help="The HTML page to write."),
    sheet: Path | None = typer.Option(None, "--sheet", help="A contact sheet to write as well: a PNG."),
    top: Top = None,
    min_confidence: MinConfidence = None,
    nearest: Nearest = False,
    time_limit: float = typer.Option(60.0, help="Seconds to wait for the next picture of a video."),
    memory_limit: int = typer.Option(4096, help="MiB that decoding a video may take."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace files that exist."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show found moments on one page that needs nothing else: pictures, timelines, curves, and the videos to play.

    The nearest moments, which --nearest adds, are set apart. A video that is missing or broken has a placeholder and is
    named; the page is written all the same.
    """
    from momentret.errors import ConfigError
    from momentret.files import refuse_existing
    from momentret.report import draw_sheet, render_page, require_room, take_pictures, view_answers
    from momentret.video import Limits

    if sheet == output or source in (output, sheet):
        twice = output if source == output else sheet
        raise ConfigError(f"{str(twice)!r} is named twice; give every file a path of its own")
    for path, endings in ((output, (".html", ".htm")), (sheet, (".png",))):
        if path is None:
            continue
        if path.suffix.lower() not in endings:
            raise ConfigError(f"{str(path)!r} does not end in {endings[0]}, and that is what is written; name it so")
        refuse_existing(path, overwrite)
    limits = Limits(time_limit, memory_limit << 20)
    answers = chosen_answers(source, min_confidence, nearest, top)
    moments = sum(len(answer.moments) for answer in answers)
    if sheet is not None:
        require_room(moments)
    pictures = take_pictures(answers, limits, progress_bar)
    queries = view_answers(answers, pictures)
    image = draw_sheet(queries) if sheet is not None else None
    page = render_page(queries, output.parent)
    _write(output, page.encode())
    if sheet is not None and image is not None:
        content = io.BytesIO()
        image.save(content, "PNG", optimize=True)
        _write(sheet, content.getvalue())
    _tell(output, sheet, len(answers), moments, pictures, as_json)


def _write(path: Path, content: bytes) -> None:
    from momentret.files import atomic_write, blamed_on

    with blamed_on(path), atomic_write(path, "wb") as file:
        file.write(content)


def _tell(output: Path, sheet: Path | None, queries: int, moments: int, pictures: Pictures, as_json: bool) -> None:
    for problem in pictures.problems.values():
        typer.echo(f"no pictures: {one_line(problem)}", err=True)
    summary: dict[str, Any] = {
        "output": str(output),
        "sheet": None if sheet is None else str(sheet),
        "queries": queries,
        "moments": moments,
        "bytes": output.stat().st_size,
        "problems": pictures.problems,
    }
    if as_json:
        print_json(summary)
        return
    files = f"{output}, and {sheet}" if sheet is not None else str(output)
    facts = f"{count_of(queries, 'query')}, {count_of(moments, 'moment')}, {summary['bytes'] / 1e6:.1f} MB"
    lacking = f"; {count_of(len(pictures.problems), 'video')} without pictures" if pictures.problems else ""
    typer.echo(one_line(f"{files}: {facts}{lacking}"))
