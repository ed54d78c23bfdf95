"""Safe files: writes that are whole or absent, and JSON lines with line numbers.

No format knowledge lives here; see `records` for what a line means.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from momentret.errors import DataError, OutputExistsError

__all__ = [
    "absolute",
    "atomic_path",
    "atomic_write",
    "blamed_on",
    "cache_folder",
    "clean_name",
    "json_rows",
    "refuse_existing",
    "stage_for",
    "valid_text",
    "write_json",
    "write_jsonl",
]


def cache_folder() -> Path:
    """Return where a user keeps what can be made again: ``MOMENTRET_CACHE``, or a folder of the system's cache."""
    own, system = os.environ.get("MOMENTRET_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(system or os.path.expanduser("~/.cache"), "momentret")  # noqa: PTH111  never fails


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise `OutputExistsError` if `path` exists and may not be overwritten."""
    if path.exists() and not overwrite:
        raise OutputExistsError(path)


def absolute(path: Path | str) -> str:
    """Return a path from the root on. Links in it stay: a video is known by the path that it was given by."""
    return os.path.abspath(path)  # noqa: PTH100  resolving would follow links


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Let an `OSError` name `path` in place of a file of ours in it or beside it, or of none, as that of `os.write`."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # of the same class: it follows from errno


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its place when the block ends well.

    Readers see the old content or the new one, never a part; an error in the block leaves the old file.

    Args:
        path: the final path; missing parent folders are made.
        mode: ``"w"`` (UTF-8 text) or ``"wb"``.
    """
    with atomic_path(path) as temporary, open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give the path of an empty temporary file beside `path` that takes its place when the block ends well.

    For what others write by name; see `atomic_write`.
    """
    with _folder_for(path), _temporary_for(path) as temporary:
        yield temporary


@contextmanager
def stage_for(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`, to be renamed to it; what is left of it at the end is deleted."""
    stage = path.parent / f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.tmp"
    with _folder_for(path):
        with blamed_on(path):
            stage.mkdir()
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _folder_for(path: Path) -> Iterator[None]:
    """Make the parent folders that are missing; after an error, take back those that stayed empty."""
    made = [folder for folder in path.parents if not folder.exists()]  # the innermost first
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # not empty: another file got there meanwhile
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def _temporary_for(path: Path) -> Iterator[Path]:
    with blamed_on(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "r+b") as file:
            os.fsync(file.fileno())
        with blamed_on(path):
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def clean_name(text: str, longest: int = 200) -> str:
    """Return `text` as it can stand in a file name and in UTF-8, cut to `longest` characters.

    Example:
        >>> clean_name("a/b:c")
        'a_b:c'
    """
    text = valid_text(text)
    text = "".join("_" if character in "/\\" or not character.isprintable() else character for character in text)
    return text[:longest] if text.strip(".") else f"_{text}"


def valid_text(text: str) -> str:
    """Return `text` as it can be written in UTF-8: names are bytes, and what is no text in them becomes U+FFFD."""
    text = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)  # JSON can hold these, no file name does
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json_rows(path: Path, error: type[DataError] = DataError) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number from 1, object)`` for every non-blank line of a JSON-lines file.

    Args:
        path: a UTF-8 file, one JSON object a line.
        error: what to raise on a bad line, with the file and the line number in the message.

    Raises:
        DataError: (or the given subclass) a line is not UTF-8, not JSON, or not an object.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as cause:
                raise error(f"{path}, line {number}: not valid JSON ({cause}); fix or remove the line") from cause
            if not isinstance(row, dict):
                raise error(f"{path}, line {number}: a {type(row).__name__}, expected a JSON object")
            yield number, row


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    with atomic_write(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON value, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
