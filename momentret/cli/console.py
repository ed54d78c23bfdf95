"""What the verbs share: where results go, tables, the progress bar."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

__all__ = ["LogLine", "amount_bar", "one_line", "print_json", "print_table", "progress_bar", "resumable"]

T = TypeVar("T")


class LogLine(logging.Formatter):
    """A log record as one line for people, ``warning: …``; those of other libraries name themselves."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback that comes with it follows."""
        source = "" if record.name.partition(".")[0] == "momentret" else f"{record.name}: "
        message = " ".join(record.getMessage().split())
        line = one_line(f"{record.levelname.lower()}: {source}{message}")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def print_json(value: Any) -> None:
    """Print one JSON value to stdout: the only thing there when a program asks with `--json`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # a file name that is not UTF-8 holds halves of surrogate pairs, which JSON can name but UTF-8 cannot hold
    sys.stdout.write(re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


@contextmanager
def amount_bar(description: str, total: float) -> Iterator[Callable[[float, str], None]]:
    """Give a function that moves a bar on stderr to an amount and renames it; silent when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, text: bar.update(task, completed=done, description=text)


@contextmanager
def resumable(reached: Callable[[], str]) -> Iterator[None]:
    """Say on stderr how far the block got if Ctrl-C ends it, and that doing the same again goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"{reached()}; run the same command again to go on", err=True)
        raise


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to stdout; the first column is left-aligned, the others right-aligned."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(one_line(str(cell))) for cell in row))
    Console(file=sys.stdout, soft_wrap=False, width=None if sys.stdout.isatty() else 120).print(table)


def one_line(text: str) -> str:
    """Return `text` with everything that would break a table or a terminal escaped."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def progress_bar(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Show a bar on stderr while iterating; silent when stderr is no terminal. Fits `momentret.progress.Progress`."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield from bar.track(items, total=total, description=description)
