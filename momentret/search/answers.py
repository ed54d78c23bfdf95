"""`Answer`: what a search says, as a value and as JSON. `momentret search --json` prints one, other verbs read it.

Nothing is searched here: see `engine`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from momentret.errors import DataError

__all__ = ["Answer", "AnswerError", "Curve", "FoundMoment", "read_answers"]

Record = TypeVar("Record", "FoundMoment", "Curve")


class AnswerError(DataError):
    """The answer to a query is malformed; the message names the part."""


@dataclass(frozen=True, slots=True)
class FoundMoment:
    """A moment that a search found.

    Raises:
        AnswerError: a number is not finite or out of range, or the end lies before the start.
    """

    rank: int
    """From 1, best first; of moments chosen from an answer it is the rank among all."""
    video_id: str
    path: str
    """Of the file; names that are not UTF-8 survive as Python's surrogate escapes."""
    duration: float
    """Of the video, in seconds."""
    start: float
    """Seconds of the container's timeline."""
    end: float
    """Seconds of the container's timeline."""
    score: float
    """Higher is better; comparable within one answer."""
    confidence: float | None
    """Probability in [0, 1] that this is what was asked for; None: not known."""
    size: int | None = None
    """Bytes of the file when it was looked at; None: not known, as in answers of earlier versions."""
    modified: float | None = None
    """Modification time of the file when it was looked at, seconds since 1970; None: not known."""

    def __post_init__(self) -> None:
        _require_types(self, {"rank": int, "video_id": str, "path": str, "size": (int, type(None))})
        _require_numbers(self, ("duration", "start", "end", "score"))
        if self.modified is not None:
            _require_numbers(self, ("modified",))
        if self.confidence is not None:
            _require_probability(self, "confidence")
        if self.rank < 1 or not self.video_id or self.duration <= 0 or self.end < self.start:
            raise AnswerError(
                f"moment {self.rank} of video {self.video_id!r}: [{self.start}, {self.end}] s of {self.duration} s; "
                "expected a rank from 1, a video, a duration above 0 and an end not before the start"
            )


@dataclass(frozen=True, slots=True)
class Curve:
    """The saliency of one video: how well each clip fits the query.

    Raises:
        AnswerError: a number is not finite or out of range.
    """

    start: float
    """Seconds at which the first clip begins."""
    clip_length: float
    """Seconds of a clip."""
    values: tuple[float, ...]
    """One score a clip, higher is better."""

    def __post_init__(self) -> None:
        _require_numbers(self, ("start", "clip_length"))
        if not isinstance(self.values, tuple) or not all(map(_is_number, self.values)):
            raise AnswerError("the values of a curve are not a list of finite numbers")
        if self.clip_length <= 0:
            raise AnswerError(f"the clip_length of a curve is {self.clip_length} s, expected seconds above 0")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one query: moments, best first, and how sure it is that any of them is what was asked for.

    Raises:
        AnswerError: a number is out of range, or the moments are not in the order of their ranks.
    """

    query: str
    index: str | None
    """Folder of the index; None where videos were searched without one."""
    encoder: str
    """Name of the encoder."""
    presence: float | None
    """Probability in [0, 1] that what was asked for is there at all; None: not known, or nothing was searched."""
    present: bool
    """False: `presence` is below `min_confidence`, and the moments are merely the nearest ones."""
    min_confidence: float
    """Of a moment too: what is less sure is shown beside the others as one of the nearest."""
    moments: tuple[FoundMoment, ...]
    curves: Mapping[str, Curve]
    """By video id, of the videos among the moments."""

    def __post_init__(self) -> None:
        _require_types(self, {"query": str, "index": (str, type(None)), "encoder": str, "present": bool})
        if self.presence is not None:
            _require_probability(self, "presence")
        _require_probability(self, "min_confidence")
        ranks = [moment.rank for moment in self.moments]
        if any(rank >= later for rank, later in pairwise(ranks)):
            raise AnswerError("the ranks of the moments do not go up, as in 1, 2, 3 …; list them best first")

    @property
    def searched_nothing(self) -> bool:
        """Tell whether there were no videos to look at: the index is empty or the filters pass none."""
        return not self.present and self.presence is None and not self.moments

    def is_likely(self, moment: FoundMoment) -> bool:
        """Tell whether a moment is as sure as `min_confidence` wants; one of which that is not known is taken as such.

        Where nothing matches no moment is.
        """
        return self.present and (moment.confidence is None or moment.confidence >= self.min_confidence)

    def judged(self, min_confidence: float) -> Answer:
        """Return the answer as a search with another `min_confidence` would have given it."""
        present = bool(self.moments) and (self.presence is None or self.presence >= min_confidence)
        return replace(self, min_confidence=min_confidence, present=present)

    def chosen(self, nearest: bool = False, top: int | None = None) -> Answer:
        """Return the answer with its likely moments only, each with the rank that it had.

        Args:
            nearest: keep the others too.
            top: at most so many, best first; None: all.
        """
        kept = [moment for moment in self.moments if nearest or self.is_likely(moment)]
        return replace(self, moments=tuple(kept[:top]))

    def to_row(self) -> dict[str, Any]:
        """Return plain JSON values; `from_row` takes them back."""
        return {
            "query": self.query,
            "index": self.index,
            "encoder": self.encoder,
            "presence": self.presence,
            "present": self.present,
            "min_confidence": self.min_confidence,
            "moments": [asdict(moment) for moment in self.moments],
            "curves": {name: {**asdict(curve), "values": list(curve.values)} for name, curve in self.curves.items()},
        }

    @classmethod
    def from_row(cls, row: Any) -> Answer:
        """Read what `to_row` wrote; keys of later versions are passed over.

        Raises:
            AnswerError: a key is missing or a value has the wrong form.
        """
        values = _pick(row, [field.name for field in fields(cls)], "an answer")
        if not isinstance(values["moments"], list) or not isinstance(values["curves"], Mapping):
            raise AnswerError("an answer holds a list 'moments' and an object 'curves'; search again with --json")
        moments = tuple(_record(FoundMoment, moment, "a moment") for moment in values["moments"])
        curves = {str(name): _record(Curve, curve, "a curve") for name, curve in values["curves"].items()}
        return cls(**{**values, "moments": moments, "curves": curves})


def read_answers(path: Path) -> list[Answer]:
    """Read what ``momentret search --json`` printed once or several times, or a list of that; ``-`` is stdin.

    Raises:
        AnswerError: it is not JSON, or not an answer, or there is none.
        OSError: the file cannot be read.
    """
    content = sys.stdin.buffer.read() if str(path) == "-" else _read_text(path)
    try:
        rows = list(_json_values(content.decode("utf-8", "surrogatepass")))
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"{path} is not JSON ({error}); write it with momentret search --json") from error
    answers = []
    for number, row in enumerate(rows, start=1):
        try:
            answers.append(Answer.from_row(row))
        except AnswerError as error:
            raise AnswerError(f"{path}, answer {number}: {error}") from error
    if not answers:
        raise AnswerError(f"{path} holds no answer; write it with momentret search --json")
    return answers


def _read_text(path: Path) -> bytes:
    """Return the content of a file, of which a video, named by mistake, may have more than there is memory."""
    with path.open("rb") as file:
        start = file.read(64)
        if b"\0" in start:
            raise AnswerError(f"{path} is not JSON (it is no text); write it with momentret search --json")
        return start + file.read()


def _json_values(text: str) -> Iterator[Any]:
    """Yield JSON values that stand one after the other; of a list, its elements."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        value, place = decoder.raw_decode(text, place)
        yield from value if isinstance(value, list) else [value]


def _record(kind: type[Record], row: Any, what: str) -> Record:
    values = _pick(row, [field.name for field in fields(kind) if field.default is MISSING], what)
    values |= {field.name: row[field.name] for field in fields(kind) if field.name in row}
    if isinstance(values.get("values"), list):
        values["values"] = tuple(values["values"])
    return kind(**values)


def _pick(row: Any, names: list[str], what: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise AnswerError(f"{what} is a {type(row).__name__}, expected an object")
    for name in names:
        if name not in row:
            raise AnswerError(f"{what} has no {name!r}; search again with --json")
    return {name: row[name] for name in names}


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # also of the whole numbers of JSON, which have no end


def _require_types(record: Any, types: Mapping[str, Any]) -> None:
    for name, expected in types.items():
        value = getattr(record, name)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise AnswerError(f"{name} is {value!r}, which is no {name}; search again with --json")


def _require_numbers(record: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if not _is_number(getattr(record, name)):
            raise AnswerError(f"{name} is {getattr(record, name)!r}, expected a finite number")


def _require_probability(record: Any, name: str) -> None:
    _require_numbers(record, (name,))
    if not 0 <= getattr(record, name) <= 1:
        raise AnswerError(f"{name} is {getattr(record, name)!r}, expected a probability from 0 to 1")
