"""ActivityNet Captions: one moment a query in untrimmed videos of human activities.

Every validation video was annotated twice: ``val_1`` and ``val_2`` share their videos and are not independent.

Source: Krishna, Hata, Ren, Fei-Fei, Niebles, "Dense-Captioning Events in Videos", ICCV 2017.
"""

from __future__ import annotations

from itertools import count
from reprlib import repr as short
from typing import Any

from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import Reading, Row, Rows, clamp, read_json
from momentret.errors import AnnotationError
from momentret.records import Annotation, Window

__all__ = ["INFO"]

SUFFIXES = (".json", ".json.gz")
FIRST_IDS = {"val_1": 37421, "val": 37421, "val_2": 54926, "test": 54926}
"""Query ids count the sentences of train, val_1 and val_2 in this order, as in the JSON-lines release of val_1."""


def _read(reading: Reading) -> None:
    original = reading.path.name.endswith(SUFFIXES)
    reading.take(_original_rows(reading) if original else reading.json_rows(), _parse)


def _parse(row: Row) -> Annotation | None:
    duration = row.number("duration")
    pairs = row.pairs("relevant_windows")
    windows = row.inside([kept for pair in pairs if (kept := _repaired(row, pair, duration))], duration)
    annotation = row.annotation(duration, windows=windows)
    return annotation if windows else None


def _repaired(row: Row, window: Window, duration: float) -> Window | None:
    """Swap a reversed window, cut one that ends after the video, drop an empty one."""
    start, end = window
    if start == end:
        row.note("dropped", "window is empty", f"window [{start}, {end}] s dropped")
        return None
    if start > end:
        row.note("note", "window turned round", f"window [{start}, {end}] s is now [{end}, {start}]")
    return clamp(row, (min(window), max(window)), duration)


def _original_rows(reading: Reading) -> Rows:
    """Yield the sentences of ``{video id: {duration, timestamps, sentences}}`` as rows of the JSON-lines release."""
    videos = read_json(reading.path)
    if not isinstance(videos, dict):
        raise AnnotationError(f"{reading.path}: a {type(videos).__name__}, expected an object with one entry a video")
    ids = count(FIRST_IDS.get(reading.path.name.split(".")[0], 0))
    for video_id, video in videos.items():
        times, sentences = _lists(video)
        if times is None or sentences is None or len(times) != len(sentences):
            reading.error(f"video {short(video_id)}", "expected 'timestamps' and 'sentences', lists of the same length")
            continue
        for i, (window, sentence) in enumerate(zip(times, sentences, strict=True), start=1):
            values = {"qid": next(ids), "vid": video_id, "query": sentence, "relevant_windows": [window]}
            values |= {"duration": video["duration"]} if "duration" in video else {}
            yield Row(reading, f"video {short(video_id)}, sentence {i}", values)


def _lists(video: Any) -> tuple[list[Any] | None, list[Any] | None]:
    """Return the timestamps and the sentences of a video, None for what is not a list."""
    found = (video.get(key) if isinstance(video, dict) else None for key in ("timestamps", "sentences"))
    times, sentences = (value if isinstance(value, list) else None for value in found)
    return times, sentences


INFO = DatasetInfo(
    name="activitynet",
    read=_read,
    recognise=lambda row: str(row.get("vid")).startswith("v_") and len(str(row.get("vid"))) == 13,
    clip_length=2.0,
    saliency="window",
    clamp=None,
    round_to_clips=True,
    has_validation_split=True,
    licence="released for research; the videos remain their uploaders'",
    suffixes=SUFFIXES,
)
