"""What all readers share: rows with checked fields, and everything that was found while reading a file.

A reader turns its format into `Row` values and each row into an `Annotation`. Whatever is wrong becomes a `Finding`
instead of an exception, so that one pass serves both callers: `read_annotations` refuses at the first error, `data
check` lists them all.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short
from typing import Any

from momentret.errors import AnnotationError
from momentret.records import Annotation, QueryId, Window

__all__ = ["MAX_OVERHANG", "Finding", "Level", "Reading", "Row", "Rows", "clamp", "read_json"]

Level = str
"""``error``: the file is refused. ``warning``: accepted, but doubtful. ``dropped``: the row was left out by the
dataset's rule. ``note``: it was changed by that rule, or left out because a subset was asked for."""

MAX_OVERHANG = 2.0  # seconds a repairable window may end after its video; the largest in the released files is 1.54
ROUNDING = 1e-6  # seconds by which a division of frames by their rate may miss the end of the video
MAX_DURATION = 1e6  # seconds, eleven days: what lasts longer is in another unit
MAX_JSON_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a file, or was put right."""

    level: Level
    where: str
    """``line 12``, a video's name, or empty for the whole file."""
    message: str
    rule: str = ""
    """What findings of the same kind have in common; empty for errors."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


@dataclass
class Reading:
    """One annotation file being read: what was asked for, and what was found."""

    path: Path
    durations: Sequence[Path] = ()
    subset: str = "full"
    annotations: list[Annotation] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where each annotation came from."""
    findings: list[Finding] = field(default_factory=list)
    query_places: dict[str, str] = field(default_factory=dict)
    """Query id -> where it was first seen, also in rows that are wrong."""

    @property
    def errors(self) -> list[Finding]:
        """Return what makes the file unusable."""
        return [finding for finding in self.findings if finding.level == "error"]

    def error(self, where: str, message: str) -> None:
        """Note something that makes the file unusable."""
        self.findings.append(Finding("error", where, message))

    def take(self, rows: Iterable[Row], parse: Callable[[Row], Annotation | None]) -> None:
        """Parse all rows and keep the annotations."""
        for row in rows:
            annotation = parse(row)
            if annotation is not None:
                self.annotations.append(annotation)
                self.places.append(row.where)
        if not (self.annotations or self.errors):
            self.error("", "holds no annotations that can be used")

    def json_rows(self) -> Rows:
        """Yield the rows of a JSON-lines file; a bad line is noted and skipped."""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as cause:
                    self.error(f"line {number}", f"not valid JSON ({cause}); fix or remove the line")
                    continue
                if isinstance(values, dict):
                    yield Row(self, f"line {number}", values)
                else:
                    self.error(f"line {number}", f"a {type(values).__name__}, expected a JSON object")


class Row:
    """One annotated query as its file has it. A getter notes what is wrong and then returns an empty value."""

    def __init__(self, reading: Reading, where: str, values: dict[str, Any]) -> None:
        self.reading, self.where, self.values = reading, where, values
        self.wrong = False

    def error(self, message: str) -> None:
        """Note something that makes the row unusable."""
        self.wrong = True
        self.reading.error(self.where, message)

    def note(self, level: Level, rule: str, message: str) -> None:
        """Note something that leaves the file usable; `rule` is the part that rows have in common."""
        self.reading.findings.append(Finding(level, self.where, message, rule))

    def has(self, key: str) -> bool:
        """Return whether a value other than null is there."""
        return self.values.get(key) is not None

    def _get(self, key: str, expected: str, valid: Callable[[Any], bool]) -> Any:
        """Return the value of a required key, or None after noting that it is missing or not as expected."""
        if key not in self.values:
            self.error(f"key {key!r} is missing")
        elif valid(self.values[key]):
            return self.values[key]
        else:
            self.error(f"{key!r} is {short(self.values[key])}, expected {expected}")
        return None

    def query_id(self) -> QueryId:
        """Return ``qid`` as it is; an id may occur once in a file."""
        value: QueryId | None = self._get("qid", "an integer or a string", lambda v: type(v) is int or _is_text(v))
        if value is None:
            return ""
        first = self.reading.query_places.setdefault(str(value), self.where)
        if first is not self.where:
            self.error(f"'qid' {short(value)} was used before, at {first}; a query id may occur once")
        return value

    def text(self, key: str) -> str:
        """Return a string as it is; a blank one is an error."""
        return self._get(key, "a text that is not blank", _is_text) or ""

    def number(self, key: str, largest: float = MAX_DURATION) -> float:
        """Return a number above 0; NaN after an error."""
        expected = f"a number above 0 and not above {largest:g}"
        value = self._get(key, expected, lambda v: _is_number(v) and 0 < v <= largest)
        return math.nan if value is None else float(value)

    def table(self, key: str, expected: str, valid: Callable[[Any], bool]) -> tuple[tuple[Any, ...], ...]:
        """Return a list of lists of numbers, not empty; `valid` sees each inner list, all its numbers being finite."""
        value = self._get(key, f"a list of at least one {expected}", lambda v: isinstance(v, list) and v != [])
        rows = []
        for i, entry in enumerate(value or ()):
            if isinstance(entry, list) and all(map(_is_number, entry)) and valid(entry):
                rows.append(tuple(entry))
            else:
                self.error(f"{key!r} has {short(entry)} at place {i + 1}, expected {expected}")
        return tuple(rows)

    def pairs(self, key: str) -> list[Window]:
        """Return a list of ``[start, end]`` as they are, all finite."""
        return [(float(s), float(e)) for s, e in self.table(key, "[start, end]", lambda pair: len(pair) == 2)]

    def inside(self, windows: Iterable[Window], duration: float) -> tuple[Window, ...]:
        """Check that windows have a length and lie in the video."""
        checked = []
        for start, end in windows:
            if start >= end:
                self.error(f"window [{start}, {end}] s does not end after its start")
            elif start < 0 or end > duration + ROUNDING:
                self.error(f"window [{start}, {end}] s is outside the {duration} s video")
            else:
                checked.append((start, min(end, duration)))
        return tuple(checked)

    def windows(self, duration: float) -> tuple[Window, ...]:
        """Return ``relevant_windows``, checked against the duration."""
        return self.inside(self.pairs("relevant_windows"), duration)

    def annotation(self, duration: float, **labels: Any) -> Annotation | None:
        """Return the annotation with the keys that all formats share, or None if anything of the row is wrong."""
        query_id, video_id, query = self.query_id(), self.text("vid"), self.text("query").strip()
        if self.wrong:
            return None
        return Annotation(query_id=query_id, video_id=video_id, query=query, duration=duration, **labels)


Rows = Iterator[Row]


def clamp(row: Row, window: Window, duration: float) -> Window:
    """Cut a window that ends a little after its video; one that ends far after it is left to be refused."""
    start, end = window
    if ROUNDING < end - duration <= MAX_OVERHANG:
        message = f"window [{start}, {end}] s now ends with the video at {duration} s"
        row.note("note", "window cut to the end of its video", message)
        return start, duration
    return window


def read_json(path: Path) -> Any:
    """Read one JSON value from a file, which may be compressed (``.gz``).

    Raises:
        AnnotationError: it is damaged, no JSON, or larger than 1 GiB.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise AnnotationError(f"{path}: more than {MAX_JSON_BYTES} bytes of JSON; split the file")
        return json.loads(content)
    except (ValueError, RecursionError, EOFError, zlib.error, gzip.BadGzipFile) as cause:
        raise AnnotationError(f"{path}: not a valid JSON file ({cause}); download it again") from cause


def _is_number(value: Any) -> bool:
    """Return whether a JSON value is a finite number, of a size that no float rounds, and not true or false."""
    return type(value) in (int, float) and -1e15 < value < 1e15  # false for NaN too


def _is_text(value: Any) -> bool:
    """Return whether a JSON value is a string that is not blank and can be written as UTF-8."""
    return isinstance(value, str) and not value.isspace() and value != "" and not _has_surrogate(value)


def _has_surrogate(value: str) -> bool:
    return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
