"""Answers to queries about videos that the tests made, as search prints them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from momentret.search.answers import Answer, Curve, FoundMoment


def answer(
    moments: Sequence[tuple[Path, float, float]],
    query: str = "a red square",
    sure: Sequence[float | None] = (),
    **changes: Any,
) -> Answer:
    """Return the answer that names windows ``(path, start, end)`` of videos of two seconds, 0.9 sure by default."""
    found = tuple(
        FoundMoment(rank, path.stem, str(path), 2.0, start, end, 1.0 / rank, sure[rank - 1] if sure else 0.9)
        for rank, (path, start, end) in enumerate(moments, start=1)
    )
    curves = {moment.video_id: Curve(0.0, 0.5, (0.1, 0.3, 0.9, 0.2)) for moment in found}
    values: dict[str, Any] = {"index": "films.index", "encoder": "fake", "presence": 0.9, "present": True}
    return Answer(**{**values, "min_confidence": 0.5, "query": query, "moments": found, "curves": curves, **changes})


def seen_as(found: Answer, size: int, modified: float) -> Answer:
    """Return an answer whose files were like that when they were searched."""
    moments = tuple(replace(moment, size=size, modified=modified) for moment in found.moments)
    return replace(found, moments=moments)


def write_answers(path: Path, *answers: Answer) -> Path:
    """Write answers as JSON lines."""
    path.write_text("".join(json.dumps(answer.to_row()) + "\n" for answer in answers))
    return path
