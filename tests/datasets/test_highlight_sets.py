"""TVSum and YouTube Highlights: a label for every clip, no windows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from momentret.datasets import read_annotations
from momentret.errors import AnnotationError
from tests.helpers import write_lines


def tvsum(**changes: Any) -> dict[str, Any]:
    """Three clips of two seconds; the duration counts clips as in the common release."""
    labels = [[1.0] * 19 + [5.0], [2.0] * 20, [3.0] * 20]
    values = {"qid": "v1", "query": "a title", "duration": 3, "vid": "v1", "domain": "BK", "label": labels}
    return {**values, "relevant_windows": None, "relevant_clip_ids": None, **changes}


def youtube(**changes: Any) -> dict[str, Any]:
    """Three clips of 100 frames that overlap by half, at 25 frames a second."""
    values = {"qid": "v1", "query": "dog", "duration": 8.0, "vid": "v1", "domain": "dog", "label": [[0], [1], [0]]}
    table = {"clip": [[0, 100], [50, 150], [100, 200]], "match": [-1, 1, 0], "frames": 200.0, "fps": 25.0}
    return {**values, **table, **changes}


def read(tmp_path: Path, row: dict[str, Any], dataset: str) -> Any:
    (annotation,) = read_annotations(write_lines(tmp_path / "val.jsonl", [row]), dataset)
    return annotation


def test_tvsum_duration_becomes_seconds(tmp_path: Path) -> None:
    annotation = read(tmp_path, tvsum(), "tvsum")
    assert (annotation.duration, annotation.domain, annotation.windows) == (6.0, "BK", ())
    assert annotation.clip_labels[0] == (1.0,) * 19 + (5.0,)


def test_tvsum_duration_in_seconds_stays(tmp_path: Path) -> None:
    assert read(tmp_path, tvsum(duration=6.6), "tvsum").duration == 6.6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "'label' is None, expected a list of at least one row of 20 scores"),
        ({"label": [], "duration": 3}, "'label' is [], expected a list of at least one row of 20 scores"),
        ({"label": [[1] * 20, [1] * 19]}, "expected row of 20 scores from 1 to 5"),
        ({"label": [[6] * 20] * 3}, "at place 1, expected row of 20 scores from 1 to 5"),
        ({"duration": 30}, "3 labels of 2 s cannot fit a 30.0 s video"),
        ({"domain": 3}, "'domain' is 3"),
    ],
)
def test_a_wrong_tvsum_row_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=re.escape(message)):
        read(tmp_path, tvsum(**changes), "tvsum")


def test_youtube_rows_have_one_label_a_clip(tmp_path: Path) -> None:
    annotation = read(tmp_path, youtube(), "youtube_highlights")
    assert (annotation.duration, annotation.domain) == (8.0, "dog")
    assert annotation.clip_labels == ((0,), (1,), (0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": [[0], [2], [0]]}, "'label' has [2] at place 2, expected [0] or [1]"),
        ({"label": [[0], [1]], "match": None}, "3 entries in 'clip' for 2 labels"),
        ({"label": [], "clip": [], "match": []}, "'label' is [], expected a list"),
        ({"match": [-1, 0, 0]}, "'label' is not 1 exactly where 'match' is positive"),
        ({"match": [-1, "1", 0]}, "'match' is not a list of -1, 0 and 1"),
        ({"clip": [[0, 100], [150, 50], [100, 200]]}, "clip [150, 50] is empty or outside the 200 frames"),
        ({"clip": [[0, 100], [50, 150], [100, 900]]}, "clip [100, 900] is empty or outside the 200 frames"),
        ({"clip": [[0, 100], [50], [100, 200]]}, "'clip' has [50] at place 2"),
        ({"fps": 0}, "'fps' is 0"),
    ],
)
def test_a_wrong_youtube_row_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=re.escape(message)):
        read(tmp_path, youtube(**changes), "youtube_highlights")
