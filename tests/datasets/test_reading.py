"""What is the same for every dataset: the table, the errors of a file, telling datasets apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momentret.datasets import DATASETS, detect_dataset, examine, read_annotations
from momentret.errors import AnnotationError, ConfigError
from tests.helpers import write_lines

COMMON = {"qid": "s1-d2_0", "query": "q", "vid": "s1-d2", "duration": 20.0}
LABELS = [[3] * 20] * 10
ROWS: dict[str, dict[str, Any]] = {
    "qvhighlights": {"relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1], "saliency_scores": [[1, 2, 3]] * 2},
    "charades_sta": {"relevant_windows": [[0, 4]], "vid": "0A1BC"},
    "activitynet": {"relevant_windows": [[0, 4]], "vid": "v_uqiMw7tQ1Cc"},
    "tacos": {"relevant_windows": [[0, 4]]},
    "tvsum": {"label": LABELS, "domain": "BK"},
    "youtube_highlights": {"label": [[1]], "match": [1], "clip": [[0, 20]], "fps": 1.0, "domain": "dog"},
}


def file_of(tmp_path: Path, dataset: str, *changes: dict[str, Any]) -> Path:
    return write_lines(tmp_path / "a.jsonl", [{**COMMON, **ROWS[dataset], **change} for change in changes or ({},)])


def test_every_dataset_has_a_row_here() -> None:
    assert set(ROWS) == set(DATASETS)
    assert all(name == info.name and info.licence for name, info in DATASETS.items())


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_dataset_is_recognised_by_its_first_row(tmp_path: Path, dataset: str) -> None:
    path = file_of(tmp_path, dataset)
    assert detect_dataset(path) == dataset
    assert len(read_annotations(path, dataset)) == 1


def test_a_dataset_is_recognised_by_the_file_name(tmp_path: Path) -> None:
    assert detect_dataset(tmp_path / "charades_sta_train.txt") == "charades_sta"
    assert detect_dataset(tmp_path / "val_1.json.gz") == "activitynet"


@pytest.mark.parametrize("content", ["", "{", json.dumps(COMMON | {"vid": "somebody's"})])
def test_what_nothing_tells_is_not_guessed(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    assert detect_dataset(path) is None


@pytest.mark.parametrize("dataset", DATASETS)
def test_all_errors_of_a_file_are_found_in_one_pass(tmp_path: Path, dataset: str) -> None:
    path = file_of(tmp_path, dataset, {}, {"qid": "b", "vid": None, "query": ""}, {"qid": "b"}, {"qid": "c"})
    with open(path, "a") as file:
        file.write("{oops\n[1]\n\n")
    reading = examine(path, dataset)
    assert [annotation.query_id for annotation in reading.annotations] == ["s1-d2_0", "c"]
    assert [str(error).split(": ", 1) for error in reading.errors][:3] == [
        ["line 2", "'vid' is None, expected a text that is not blank"],
        ["line 2", "'query' is '', expected a text that is not blank"],
        ["line 3", "'qid' 'b' was used before, at line 2; a query id may occur once"],
    ]
    assert [error.where for error in reading.errors] == ["line 2", "line 2", "line 3", "line 5", "line 6"]


def test_the_error_says_how_many_more_there_are(tmp_path: Path) -> None:
    path = file_of(tmp_path, "tacos", {"vid": 3, "query": ""}, {"duration": -1})
    with pytest.raises(AnnotationError, match=r"a\.jsonl, line 1: 'vid' is 3, .* \(3 more: momentret data check\)"):
        read_annotations(path, "tacos")


number = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 1, 20, 20.0, 1e-9])
value = st.recursive(
    st.none() | st.booleans() | number | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=6
)


@pytest.mark.parametrize("dataset", DATASETS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_row_becomes_an_annotation_or_an_error(
    tmp_path: Path, dataset: str, data: st.DataObject
) -> None:
    keys = st.sampled_from(sorted({*COMMON, *ROWS[dataset]}))
    changes = data.draw(st.dictionaries(keys, value, min_size=1, max_size=3))
    reading = examine(file_of(tmp_path, dataset, changes), dataset)
    assert bool(reading.annotations) != bool(reading.errors) or any(f.level == "dropped" for f in reading.findings)


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_empty_file_is_an_error(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(AnnotationError, match="holds no annotations"):
        read_annotations(write_lines(tmp_path / "a.jsonl", []), dataset)


def test_a_window_may_miss_the_end_by_rounding_only(tmp_path: Path) -> None:
    (annotation,) = read_annotations(file_of(tmp_path, "tacos", {"relevant_windows": [[0, 20 + 1e-9]]}), "tacos")
    assert annotation.windows == ((0.0, 20.0),)
    with pytest.raises(AnnotationError, match="outside the 20"):
        read_annotations(file_of(tmp_path, "tacos", {"relevant_windows": [[0, 20.01]]}), "tacos")


def test_an_unknown_dataset_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dataset 'qvhighlight' is unknown, did you mean 'qvhighlights'"):
        read_annotations(tmp_path / "a.jsonl", "qvhighlight")


def test_an_unknown_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tacos has no subset 'inside'; known: full"):
        read_annotations(file_of(tmp_path, "tacos"), "tacos", subset="inside")


def test_durations_are_refused_where_files_have_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tacos files have durations of their own"):
        read_annotations(file_of(tmp_path, "tacos"), "tacos", durations=[tmp_path / "d.csv"])
