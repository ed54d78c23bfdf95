"""QVHighlights: moments and highlights of vlogs and news, several windows a query.

Also the home of the JSON-lines format that other datasets were converted to, and of its caption files for
pre-training, which have windows but no saliency.

Source: Lei, Berg, Bansal, "QVHighlights", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import Reading, Row
from momentret.records import Annotation, Window

__all__ = ["INFO"]

CLIP_LENGTH = 2.0
ANNOTATORS = 3
SCORES = range(5)


def _read(reading: Reading) -> None:
    reading.take(reading.json_rows(), _parse)
    hidden = [place for a, place in zip(reading.annotations, reading.places, strict=True) if not a.windows]
    if len(hidden) < len(reading.annotations):
        for place in hidden:
            reading.error(place, "key 'relevant_windows' is missing, but other rows have it")


def _parse(row: Row) -> Annotation | None:
    duration = row.number("duration")
    windows = row.windows(duration) if row.has("relevant_windows") else ()
    clips = saliency = None
    if row.has("relevant_clip_ids"):
        clips = _clips(row, windows, duration)
    if row.has("saliency_scores"):
        saliency = _saliency(row, clips)
    return row.annotation(duration, windows=windows, relevant_clips=clips, saliency=saliency)


def _clips(row: Row, windows: Sequence[Window], duration: float) -> tuple[int, ...]:
    """Return the relevant clips: all that lie inside the windows, and none that lies outside."""
    clips = row.values["relevant_clip_ids"]
    if not (isinstance(clips, list) and all(type(clip) is int for clip in clips)):
        row.error("'relevant_clip_ids' is not a list of integers")
        return ()
    if len(set(clips)) < len(clips):
        row.error("'relevant_clip_ids' has a clip twice")
    if windows and not row.wrong:
        inside = {i for s, e in windows for i in range(-int(-s // CLIP_LENGTH), int(e // CLIP_LENGTH))}
        touched = {i for s, e in windows for i in range(int(s // CLIP_LENGTH), -int(-e // CLIP_LENGTH))}
        wrong = sorted((inside - set(clips)) | (set(clips) - touched))
        if wrong:
            row.error(f"'relevant_clip_ids' and the windows disagree on clip {wrong[0]} ({len(wrong)} in all)")
    elif not row.wrong and any(not 0 <= clip < duration / CLIP_LENGTH for clip in clips):
        row.error(f"'relevant_clip_ids' has a clip outside the {duration} s video")
    return tuple(clips)


def _saliency(row: Row, clips: tuple[int, ...] | None) -> tuple[tuple[int, ...], ...]:
    """Return the three annotators' scores of each relevant clip."""

    def valid(scores: list[Any]) -> bool:
        return len(scores) == ANNOTATORS and all(type(score) is int and score in SCORES for score in scores)

    saliency = row.table("saliency_scores", "[a, b, c] with scores 0 to 4", valid)
    if clips is None:
        row.error("'saliency_scores' without 'relevant_clip_ids': nothing says which clips were scored")
    elif len(clips) != len(saliency) and not row.wrong:
        row.error(f"{len(saliency)} 'saliency_scores' for {len(clips)} 'relevant_clip_ids'")
    return saliency


INFO = DatasetInfo(
    name="qvhighlights",
    read=_read,
    recognise=lambda row: row.get("relevant_clip_ids") is not None,
    clip_length=CLIP_LENGTH,
    saliency="scores",
    clamp=(0.0, 150.0),
    round_to_clips=True,
    has_validation_split=True,
    licence="CC BY-NC-SA 4.0",
)
