"""What the verbs that take answers share: which of the moments in them are meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from momentret.cli.console import one_line
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.search.answers import Answer

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
    return chosen


def _left_out(answer: Answer) -> str:
    doubtful = len(answer.moments) - len(answer.chosen().moments)
    if doubtful == len(answer.moments):
        return f"left out: nothing matches {answer.query!r}; --nearest takes the nearest moments"
    count = f"{doubtful} of {count_of(len(answer.moments), 'moment')}"
    return (
        f"left out: {count} for {answer.query!r}, less than {answer.min_confidence:.0%} sure; --nearest takes them too"
    )
