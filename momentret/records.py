"""The values that rooms pass to each other: `Annotation`, `Moment`, `Prediction`.

Frozen, checked at birth. Dataset keys (`qid`, `vid`, `relevant_windows`) stop at the readers; the one exception is the
submission format, which `Prediction` reads and writes here because every room that exchanges predictions needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momentret.errors import AnnotationError, PredictionError
from momentret.files import json_rows, write_jsonl
from momentret.words import count_of

__all__ = ["Annotation", "Moment", "Prediction", "QueryId", "Window", "read_predictions", "write_predictions"]

QueryId = int | str
Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One query and what is true about it.

    Raises:
        AnnotationError: a number is not finite, a window is empty or lies outside ``[0, duration]``, or the
            saliency does not belong to the relevant clips.
    """

    query_id: QueryId
    """Unique within one file; compare as `str`."""
    video_id: str
    query: str
    duration: float
    """Seconds, greater than 0."""
    windows: tuple[Window, ...] = ()
    """``[start, end)`` in seconds; empty where the ground truth is hidden or the set has highlights only."""
    relevant_clips: tuple[int, ...] | None = None
    """The clips inside the windows, counted from 0 (QVHighlights)."""
    saliency: tuple[tuple[int, ...], ...] | None = None
    """One tuple of annotator scores (0 to 4) for each relevant clip (QVHighlights)."""
    clip_labels: tuple[tuple[float, ...], ...] | None = None
    """One tuple of rater labels for every clip (TVSum: 20 scores 1 to 5, YouTube Highlights: one 0 or 1)."""
    domain: str | None = None
    """The category that highlight models are trained and scored in."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration > 0):
            raise AnnotationError(f"query {self.query_id!r}: duration {self.duration} s, expected a positive number")
        for start, end in self.windows:
            if not 0 <= start < end <= self.duration:
                raise AnnotationError(
                    f"query {self.query_id!r}: window [{start}, {end}] s is not inside the {self.duration} s video"
                )
        if self.saliency is not None and len(self.saliency) != len(self.relevant_clips or ()):
            raise AnnotationError(
                f"query {self.query_id!r}: {count_of(len(self.saliency), 'saliency entry')} for "
                f"{count_of(len(self.relevant_clips or ()), 'relevant clip')}; they must be as many"
            )


@dataclass(frozen=True, slots=True)
class Moment:
    """A scored window: one answer.

    Raises:
        PredictionError: a number is not finite, or the end lies before the start.
    """

    start: float
    """Seconds."""
    end: float
    """Seconds, not before `start` (equal is legal: rounding to clips can produce it)."""
    score: float
    """Higher is better; comparable within one prediction."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and math.isfinite(self.score)):
            raise PredictionError(f"moment [{self.start}, {self.end}, {self.score}] has a value that is not finite")
        if self.end < self.start:
            raise PredictionError(f"moment [{self.start}, {self.end}] s ends before it starts")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one query: moments, best first, and one saliency score per clip."""

    query_id: QueryId
    video_id: str
    query: str
    moments: tuple[Moment, ...]
    """Sorted by score, descending."""
    saliency: tuple[float, ...] | None = None
    """One score per clip, unbounded, higher is better; None if the model has none."""

    def __post_init__(self) -> None:
        if any(a.score < b.score for a, b in zip(self.moments, self.moments[1:], strict=False)):
            raise PredictionError(f"query {self.query_id!r}: moments are not sorted by score, best first")
        if self.saliency is not None and not all(map(math.isfinite, self.saliency)):
            raise PredictionError(f"query {self.query_id!r}: a saliency score is not finite")

    def to_row(self) -> dict[str, Any]:
        """Return the row of the QVHighlights submission format."""
        row: dict[str, Any] = {
            "qid": self.query_id,
            "query": self.query,
            "vid": self.video_id,
            "pred_relevant_windows": [[m.start, m.end, m.score] for m in self.moments],
        }
        if self.saliency is not None:
            row["pred_saliency_scores"] = list(self.saliency)
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Prediction:
        """Read a row of the QVHighlights submission format.

        Raises:
            PredictionError: a key is missing or a value has the wrong form.
        """
        try:
            saliency = row.get("pred_saliency_scores")
            return cls(
                query_id=row["qid"],
                video_id=str(row["vid"]),
                query=str(row.get("query", "")),
                moments=tuple(Moment(float(s), float(e), float(x)) for s, e, x in row["pred_relevant_windows"]),
                saliency=None if saliency is None else tuple(map(float, saliency)),
            )
        except KeyError as cause:
            raise PredictionError(f"key {cause} is missing") from cause
        except (TypeError, ValueError) as cause:
            raise PredictionError(f"query {row.get('qid')!r}: {cause}; expected [[start, end, score], ...]") from cause


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines in the QVHighlights submission format, atomically."""
    write_jsonl(Path(path), (prediction.to_row() for prediction in predictions))


def read_predictions(path: Path | str) -> list[Prediction]:
    """Read JSON lines in the QVHighlights submission format.

    Raises:
        PredictionError: with the file and the line number.
    """
    predictions = []
    for number, row in json_rows(Path(path), PredictionError):
        try:
            predictions.append(Prediction.from_row(row))
        except PredictionError as cause:
            raise PredictionError(f"{path}, line {number}: {cause}") from cause
    return predictions
