from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from momentret.datasets import read_annotations
from momentret.errors import AnnotationError
from tests.helpers import write_lines


def row(**changes: Any) -> dict[str, Any]:
    """A 20-s video whose window [4, 10) holds the clips 2, 3 and 4."""
    values = {
        "qid": 7,
        "query": " a dog runs ",
        "vid": "_a-b_c_0.0_20.0",
        "duration": 20,
        "relevant_windows": [[4, 10]],
        "relevant_clip_ids": [2, 3, 4],
        "saliency_scores": [[0, 1, 2], [4, 4, 4], [3, 2, 1]],
    }
    values.update(changes)
    return {key: value for key, value in values.items() if value != "absent"}


def read(tmp_path: Path, *rows: dict[str, Any]) -> Any:
    return read_annotations(write_lines(tmp_path / "val.jsonl", list(rows)), "qvhighlights")


def test_a_row_becomes_an_annotation(tmp_path: Path) -> None:
    (annotation,) = read(tmp_path, row(other_key=3))
    assert (annotation.query_id, annotation.video_id, annotation.query) == (7, "_a-b_c_0.0_20.0", "a dog runs")
    assert (annotation.duration, annotation.windows) == (20.0, ((4.0, 10.0),))
    assert annotation.relevant_clips == (2, 3, 4)
    assert annotation.saliency == ((0, 1, 2), (4, 4, 4), (3, 2, 1))


def test_rows_without_labels_are_read(tmp_path: Path) -> None:
    hidden = {"relevant_windows": "absent", "relevant_clip_ids": "absent", "saliency_scores": "absent"}
    first, second = read(tmp_path, row(**hidden), row(**hidden, qid="v_1"))
    assert (first.windows, first.saliency, first.relevant_clips) == ((), None, None)
    assert second.query_id == "v_1"


def test_captions_have_windows_without_saliency_between_clip_borders(tmp_path: Path) -> None:
    changes = {"qid": "v_1", "relevant_windows": [[3.5, 9.25]], "saliency_scores": "absent"}
    (annotation,) = read(tmp_path, row(**changes, relevant_clip_ids="absent"))
    assert (annotation.windows, annotation.saliency) == (((3.5, 9.25),), None)
    # clips 2 and 3 lie inside [3.5, 9.25), clips 1 and 4 reach into it and may or may not be listed
    for clips in ([2, 3], [1, 2, 3, 4], [2, 3, 4]):
        assert read(tmp_path, row(**changes, relevant_clip_ids=clips))[0].relevant_clips == tuple(clips)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qid": "absent"}, "key 'qid' is missing"),
        ({"vid": "absent"}, "key 'vid' is missing"),
        ({"query": "absent"}, "key 'query' is missing"),
        ({"duration": "absent"}, "key 'duration' is missing"),
        ({"qid": 1.5}, "'qid' is 1.5, expected an integer or a string"),
        ({"qid": True}, "'qid' is True"),
        ({"vid": 3}, "'vid' is 3, expected a text"),
        ({"query": "  "}, "'query' is '  ', expected a text that is not blank"),
        ({"query": "\ud800"}, "'query' is '\\ud800'"),
        ({"duration": "20"}, "'duration' is '20', expected a number above 0"),
        ({"duration": 0}, "'duration' is 0, expected"),
        ({"duration": float("nan")}, "'duration' is nan, expected"),
        ({"duration": float("inf")}, "'duration' is inf, expected"),
        ({"duration": 10**400}, "'duration' is 1000"),
        ({"duration": 2e7}, "'duration' is 20000000.0, expected a number above 0 and not above 1e+06"),
        ({"relevant_windows": []}, "'relevant_windows' is [], expected a list of at least one [start, end]"),
        ({"relevant_windows": 3}, "'relevant_windows' is 3, expected a list of at least one [start, end]"),
        ({"relevant_windows": [[4, 10, 0.5]]}, "'relevant_windows' has [4, 10, 0.5] at place 1"),
        ({"relevant_windows": [[4, 10], [4, float("nan")]]}, "'relevant_windows' has [4, nan] at place 2"),
        ({"relevant_windows": [["4", 10]]}, "'relevant_windows' has ['4', 10]"),
        ({"relevant_windows": [[10, 4]]}, "window [10.0, 4.0] s does not end after its start"),
        ({"relevant_windows": [[4, 4]]}, "window [4.0, 4.0] s does not end after its start"),
        ({"relevant_windows": [[-2, 4]]}, "window [-2.0, 4.0] s is outside the 20.0 s video"),
        ({"relevant_windows": [[4, 20.5]]}, "window [4.0, 20.5] s is outside the 20.0 s video"),
        ({"relevant_clip_ids": [2, 3]}, "disagree on clip 4 (1 in all)"),
        ({"relevant_clip_ids": [2, 3, 4, 7]}, "disagree on clip 7 (1 in all)"),
        ({"relevant_clip_ids": [2, 3, 4, 4]}, "'relevant_clip_ids' has a clip twice"),
        ({"relevant_clip_ids": [2, 3, 4.0]}, "'relevant_clip_ids' is not a list of integers"),
        ({"relevant_clip_ids": "absent"}, "'saliency_scores' without 'relevant_clip_ids'"),
        ({"relevant_windows": "absent", "relevant_clip_ids": [2, 3, 10]}, "has a clip outside the 20.0 s video"),
        ({"saliency_scores": 3}, "'saliency_scores' is 3, expected a list of at least one [a, b, c]"),
        ({"saliency_scores": [[0, 1, 2], [4, 4, 4]]}, "2 'saliency_scores' for 3 'relevant_clip_ids'"),
        ({"saliency_scores": [[0, 1, 2], [4, 4, 4], [3, 2]]}, "has [3, 2] at place 3, expected [a, b, c]"),
        ({"saliency_scores": [[0, 1, 2], [4, 4, 5], [3, 2, 1]]}, "has [4, 4, 5] at place 2"),
        ({"saliency_scores": [[0, 1, 2], [4, 4, 0.5], [3, 2, 1]]}, "has [4, 4, 0.5] at place 2"),
    ],
)
def test_a_wrong_row_is_named_with_file_line_and_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=re.escape(message)) as caught:
        read(tmp_path, row(qid=1), row(**changes))
    assert str(caught.value).startswith(f"{tmp_path / 'val.jsonl'}, line 2: ")


def test_a_query_id_may_occur_once_also_as_another_type(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="line 3: 'qid' '7' was used before, at line 1"):
        read(tmp_path, row(), row(qid=8), row(qid="7"))


def test_labels_are_in_all_rows_or_in_none(tmp_path: Path) -> None:
    hidden = {"relevant_windows": None, "relevant_clip_ids": None, "saliency_scores": None}
    with pytest.raises(AnnotationError, match="line 2: key 'relevant_windows' is missing, but other rows have it"):
        read(tmp_path, row(), row(qid=8, **hidden))
