"""YouTube Highlights: highlights of sports and animal videos, one label for every clip.

Clips last about 100 frames and overlap by half, so a feature row is a clip of the table in the file, not a fixed number
of seconds.

Source: Sun, Farhadi, Seitz, "Ranking Domain-Specific Highlights", ECCV 2014; splits of Liu et al., "UMT", CVPR 2022.
"""

from __future__ import annotations

from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import MAX_OVERHANG, Reading, Row
from momentret.records import Annotation
from momentret.words import count_of

__all__ = ["INFO"]


def _read(reading: Reading) -> None:
    reading.take(reading.json_rows(), _parse)


def _parse(row: Row) -> Annotation | None:
    duration, domain = row.number("duration"), row.text("domain")
    labels = row.table("label", "[0] or [1]", lambda label: label in ([0], [1]))
    if row.has("match"):
        _check_matches(row, labels)
    if row.has("clip"):
        _check_clips(row, len(labels), duration)
    return row.annotation(duration, clip_labels=labels, domain=domain)


def _check_matches(row: Row, labels: tuple[tuple[float, ...], ...]) -> None:
    """Check that highlights are the clips whose match value is positive."""
    matches = row.values["match"]
    if not (isinstance(matches, list) and all(match in (-1, 0, 1) for match in matches)):
        row.error("'match' is not a list of -1, 0 and 1")
    elif not row.wrong and [(int(match > 0),) for match in matches] != list(labels):
        row.error("'label' is not 1 exactly where 'match' is positive")


def _check_clips(row: Row, labels: int, duration: float) -> None:
    """Check the table of every clip's first and last frame."""
    clips, rate = row.pairs("clip"), row.number("fps")
    if row.wrong:
        return
    if len(clips) != labels:
        row.error(f"{count_of(len(clips), 'entry')} in 'clip' for {count_of(labels, 'label')}")
    for start, end in clips:
        if not 0 <= start < end <= (duration + MAX_OVERHANG) * rate:
            row.error(f"clip [{start:g}, {end:g}] is empty or outside the {duration * rate:.0f} frames of the video")


INFO = DatasetInfo(
    name="youtube_highlights",
    read=_read,
    recognise=lambda row: row.get("label") is not None and "match" in row,
    clip_length=1.0,
    saliency="labels",
    clamp=None,
    round_to_clips=False,
    has_validation_split=False,
    licence="released for research; the videos remain their uploaders'",
)
