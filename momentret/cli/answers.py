"""What the verbs that take answers share: which of the moments in them are meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from momentret.cli.console import one_line
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.search.answers import Answer, FoundMoment

__all__ = ["MinConfidence", "Nearest", "Top", "chosen_answers"]

MinConfidence = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="How sure a moment has to be one that was asked for. Default: as in the search."),
]
Nearest = Annotated[
    bool, typer.Option("--nearest", help="Take the nearest moments too, which are less sure than that.")
]
Top = Annotated[int | None, typer.Option(min=1, help="Take the best N moments of every query only.")]


def chosen_answers(source: Path, min_confidence: float | None, nearest: bool, top: int | None) -> list[Answer]:
    """Read answers, keep the moments that are meant, and say on stderr which queries have others.

    Files that are not those that were searched are named, too.

    Raises:
        AnswerError: as `read_answers`.
    """
    from momentret.search.answers import read_answers

    answers = read_answers(source)
    if min_confidence is not None:
        answers = [answer.judged(min_confidence) for answer in answers]
    chosen = [answer.chosen(nearest, top) for answer in answers]
    for answer, kept in zip(answers, chosen, strict=True):
        if not nearest and len(kept.moments) < min(len(answer.moments), top or len(answer.moments)):
            typer.echo(one_line(_left_out(answer)), err=True)
    for line in _changes(chosen):
        typer.echo(one_line(line), err=True)
    return chosen


def _changes(answers: Sequence[Answer]) -> list[str]:
    """Return a line for every file that changed since it was searched."""
    lines = {}
    for answer in answers:
        step = "search again" if answer.index is None else "momentret index update the index and search again"
        for moment in answer.moments:
            if moment.path not in lines and _has_changed(moment):
                lines[moment.path] = f"changed since it was searched: {moment.path!r}; {step}"
    return list(lines.values())


def _has_changed(moment: FoundMoment) -> bool:
    """Tell whether the file is another one than the answer says; one that is gone is named when it is opened."""
    try:
        status = Path(moment.path).stat()
    except (OSError, ValueError):
        return False
    same_size = moment.size in (None, status.st_size)
    return not (same_size and moment.modified in (None, status.st_mtime))


def _left_out(answer: Answer) -> str:
    doubtful = len(answer.moments) - len(answer.chosen().moments)
    if doubtful == len(answer.moments):
        return f"left out: nothing matches {answer.query!r}; --nearest takes the nearest moments"
    count = f"{doubtful} of {count_of(len(answer.moments), 'moment')}"
    return (
        f"left out: {count} for {answer.query!r}, less than {answer.min_confidence:.0%} sure; --nearest takes them too"
    )
