"""TVSum: highlights of web videos, every two-second clip scored by 20 raters.

Source: Song, Vallmitjana, Stent, Jaimes, "TVSum", CVPR 2015; splits of Liu et al., "UMT", CVPR 2022.
"""

from __future__ import annotations

from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import Reading, Row
from momentret.records import Annotation
from momentret.words import count_of

__all__ = ["INFO"]

CLIP_LENGTH = 2.0
RATERS = 20
BEST = 5  # the highest score of a rater


def _read(reading: Reading) -> None:
    reading.take(reading.json_rows(), _parse)


def _parse(row: Row) -> Annotation | None:
    labels = row.table("label", f"row of {RATERS} scores from 1 to {BEST}", _is_rated)
    return row.annotation(_seconds(row, len(labels)), clip_labels=labels, domain=row.text("domain"))


def _is_rated(scores: list[float]) -> bool:
    return len(scores) == RATERS and all(1 <= score <= BEST for score in scores)


def _seconds(row: Row, clips: int) -> float:
    """Return the duration; the common release has the number of clips in its place."""
    duration = row.number("duration")
    if row.wrong:
        return duration
    if duration == clips:
        message = f"duration {duration:g} is the number of clips, now {CLIP_LENGTH * clips:g} s"
        row.note("note", "duration counted clips, now in seconds", message)
        return CLIP_LENGTH * clips
    if abs(duration - CLIP_LENGTH * clips) > 2 * CLIP_LENGTH:
        row.error(f"{count_of(clips, 'label')} of {CLIP_LENGTH:g} s cannot fit a {duration} s video")
    return duration


INFO = DatasetInfo(
    name="tvsum",
    read=_read,
    recognise=lambda row: row.get("label") is not None and "match" not in row,
    clip_length=CLIP_LENGTH,
    saliency="labels",
    clamp=None,
    round_to_clips=False,
    has_validation_split=False,
    licence="CC BY; the videos remain their uploaders'",
)
