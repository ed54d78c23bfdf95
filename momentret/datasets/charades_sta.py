"""Charades-STA: one moment a query in videos of daily indoor activities; there is no validation split.

The text release lacks durations (they come from the Charades tables) and has windows that end after their video. It is
repaired as all JSON-lines releases were, and its rows get the same query ids, so that their text features fit.

Source: Gao, Sun, Yang, Nevatia, "TALL", ICCV 2017.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from itertools import count
from pathlib import Path

from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import MAX_OVERHANG, Reading, Row, Rows, clamp, read_json
from momentret.errors import AnnotationError, ConfigError
from momentret.records import Annotation

__all__ = ["INFO", "read_durations"]

FIRST_TEST_ID = 12404
"""Query ids of the releases: 0 to 12403 in train, 12404 to 16123 in test."""
FIRST_UNRELEASED_ID = 16124
REANNOTATED = {("LEOL6", 0.0, 2.5), ("IOL8Q", 20.9, 25.8), ("AKKWU", 3.4, 8.8)}
"""Inverted in the original training text and therefore absent from the releases; corrected in a later version."""
MOMENT = re.compile(r"(\S+) +(\d+(?:\.\d+)?) +(\d+(?:\.\d+)?) *##(.*)", re.ASCII)


def _read(reading: Reading) -> None:
    if reading.path.suffix == ".txt":
        reading.take(_text_rows(reading), _parse)
        return
    if reading.subset == "inside":
        raise ConfigError(
            f"{reading.path}: subset 'inside' keeps windows that end inside their video before any repair, which only "
            "the text release tells; read charades_sta_*.txt"
        )
    reading.take(reading.json_rows(), _parse)


def _parse(row: Row) -> Annotation | None:
    duration = row.number("duration")
    return row.annotation(duration, windows=row.windows(duration))


def _text_rows(reading: Reading) -> Rows:
    """Yield the lines of a text release as rows of the JSON-lines release, repaired and numbered as there."""
    durations = read_durations(reading.durations)
    ids = count(FIRST_TEST_ID if "test" in reading.path.stem else 0)
    unreleased = count(FIRST_UNRELEASED_ID)
    with open(reading.path, "rb") as file:
        for number, line in enumerate(file, start=1):
            row = Row(reading, f"line {number}", {})
            if line.isspace() or not _fill(row, line, durations):
                continue
            raw = row.values["relevant_windows"][0]
            if _repair(row):
                row.values["qid"] = next(unreleased if (row.values["vid"], *raw) in REANNOTATED else ids)
                if reading.subset == "inside" and raw[1] > row.values["duration"]:
                    row.note("note", "window is not in subset 'inside'", f"window {raw} s left out")
                else:
                    yield row


def _fill(row: Row, line: bytes, durations: dict[str, float]) -> bool:
    """Set the values of a row from ``<vid> <start> <end>##<sentence>`` and say whether that was possible."""
    moment = MOMENT.fullmatch(line.decode("utf-8", "replace").rstrip())
    if moment is None:
        row.error(f"{line[:60]!r} is not '<video id> <start> <end>##<sentence>'")
    elif moment[1] not in durations:
        row.error(f"no duration of video {moment[1]!r}; pass the Charades table that lists it as durations")
    else:
        window = [float(moment[2]), float(moment[3])]
        row.values = {"vid": moment[1], "query": moment[4], "duration": durations[moment[1]]}
        row.values["relevant_windows"] = [window]
        row.where += f", video {moment[1]!r}"
    return not row.wrong


def _repair(row: Row) -> bool:
    """Cut the window to its video and say whether anything is left of it."""
    (start, end), duration = row.values["relevant_windows"][0], row.values["duration"]
    row.values["relevant_windows"] = [list(clamp(row, (start, end), duration))]
    if start < min(end, duration) or end > duration + MAX_OVERHANG:
        return True  # a window that is far outside is an error, not a flaw of the release
    row.note("dropped", "window ends before it starts", f"window [{start}, {end}] s dropped")
    return False


def read_durations(paths: Sequence[Path]) -> dict[str, float]:
    """Return seconds by video id from Charades tables (columns ``id``, ``length``) or JSON objects.

    Raises:
        AnnotationError: none is given, a file is malformed, a duration is no positive number, or two disagree.
    """
    if not paths:
        raise AnnotationError("Charades-STA text has no durations; pass Charades_v1_train.csv and Charades_v1_test.csv")
    durations: dict[str, float] = {}
    for path in paths:
        for video_id, seconds in (_table(path) if path.suffix != ".json" else _json_durations(path)).items():
            if not (math.isfinite(seconds) and seconds > 0):
                raise AnnotationError(f"{path}: video {video_id!r} lasts {seconds} s, expected a number above 0")
            if durations.setdefault(video_id, seconds) != seconds:
                raise AnnotationError(
                    f"{path}: video {video_id!r} lasts {seconds} s here, {durations[video_id]} s before"
                )
    return durations


def _table(path: Path) -> dict[str, float]:
    import pandas

    types: dict[Hashable, type[str] | type[float]] = {"id": str, "length": float}
    try:
        table = pandas.read_csv(path, usecols=list(types), dtype=types, keep_default_na=False)
    except ValueError as cause:
        raise AnnotationError(f"{path}: {cause}; expected a CSV with the columns id and length (seconds)") from cause
    return dict(zip(table["id"], table["length"].tolist(), strict=True))


def _json_durations(path: Path) -> dict[str, float]:
    values = read_json(path)
    if not isinstance(values, dict) or not all(type(v) in (int, float) for v in values.values()):
        raise AnnotationError(f"{path}: expected a JSON object {{video id: seconds}}")
    return {video_id: float(seconds) for video_id, seconds in values.items()}


INFO = DatasetInfo(
    name="charades_sta",
    read=_read,
    recognise=lambda row: re.fullmatch("[A-Z0-9]{5}", str(row.get("vid"))) is not None,
    clip_length=1.0,
    saliency="window",
    clamp=(0.0, 150.0),
    round_to_clips=True,
    has_validation_split=False,
    licence="videos and tables: non-commercial research only; the sentences carry no licence of their own",
    suffixes=(".txt",),
    subsets=("full", "inside"),
    needs_durations=True,
)
