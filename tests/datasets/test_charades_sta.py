from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from momentret.datasets import read_annotations
from momentret.errors import AnnotationError, ConfigError
from tests.helpers import write_lines

LINES = """AAAAA 0.0 6.9##a person sits ## down.
BBBBB 20.8 30.0##person plays.
CCCCC 38.0 13.0##person opens.
AAAAA 9.9 10.8##person leaves.
"""
TABLE = """id,subject,script,length
AAAAA,S1,"sits, then leaves; done",10.5
BBBBB,S2,plays,29.42
CCCCC,S3,opens,35
00123,S4,"a ""quoted"" word",1e1
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "Charades_v1_train.csv"
    path.write_text(TABLE)
    return path


def text(tmp_path: Path, content: str = LINES, name: str = "charades_sta_train.txt") -> Path:
    path = tmp_path / name
    path.write_text(content)
    return path


def test_text_lines_are_repaired_and_numbered_as_the_releases(tmp_path: Path, table: Path) -> None:
    found = read_annotations(text(tmp_path), "charades_sta", durations=[table])
    assert [(a.query_id, a.video_id, a.windows, a.duration) for a in found] == [
        (0, "AAAAA", ((0.0, 6.9),), 10.5),
        (1, "BBBBB", ((20.8, 29.42),), 29.42),
        (2, "AAAAA", ((9.9, 10.5),), 10.5),
    ]
    assert found[0].query == "a person sits ## down."


def test_test_queries_are_numbered_after_those_of_train(tmp_path: Path, table: Path) -> None:
    found = read_annotations(text(tmp_path, name="charades_sta_test.txt"), "charades_sta", durations=[table])
    assert [a.query_id for a in found] == [12404, 12405, 12406]


def test_the_corrected_rows_of_the_later_text_do_not_shift_the_numbers(tmp_path: Path) -> None:
    durations = tmp_path / "durations.json"
    durations.write_text(json.dumps({"LEOL6": 30, "AAAAA": 10.5}))
    path = text(tmp_path, "AAAAA 0.0 1.0##one.\nLEOL6 0.0 2.5##corrected.\nAAAAA 1.0 2.0##two.\n")
    found = read_annotations(path, "charades_sta", durations=[durations])
    assert [(a.query_id, a.query) for a in found] == [(0, "one."), (16124, "corrected."), (1, "two.")]


def test_subset_inside_keeps_windows_that_need_no_repair(tmp_path: Path, table: Path) -> None:
    found = read_annotations(text(tmp_path), "charades_sta", durations=[table], subset="inside")
    assert [(a.query_id, a.windows) for a in found] == [(0, ((0.0, 6.9),))]


def test_dropped_rows_are_logged_once_with_their_videos(
    tmp_path: Path, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read_annotations(text(tmp_path), "charades_sta", durations=[table])
    by_level = {record.levelname: record.getMessage() for record in caplog.records}
    assert len(caplog.records) == 2
    assert "in 1 row: line 3, video 'CCCCC': window [38.0, 13.0] s dropped" in by_level["WARNING"]
    assert "end of its video in 2 rows: line 2, video 'BBBBB'" in by_level["INFO"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AAAAA 0.0 6.9 a person sits.", "line 2: b'AAAAA 0.0 6.9 a person sits.\\n' is not '<video id> <start> <end>"),
        ("AAAAA 0.0##a person sits.", "line 2: b'AAAAA 0.0##"),
        ("AAAAA nan 6.9##a person sits.", "line 2: b'AAAAA nan"),
        ("AAAAA -1.0 6.9##a person sits.", "line 2: b'AAAAA -1.0"),
        ("ZZZZZ 0.0 6.9##a person sits.", "line 2: no duration of video 'ZZZZZ'; pass the Charades table"),
        ("AAAAA 0.0 6.9## ", "line 2, video 'AAAAA': 'query' is '', expected a text that is not blank"),
        ("AAAAA 0.0 13.0##in another unit.", "line 2, video 'AAAAA': window [0.0, 13.0] s is outside the 10.5 s video"),
        ("AAAAA 50.0 60.0##in another unit.", "line 2, video 'AAAAA': window [50.0, 60.0] s is outside the 10.5 s"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, table: Path, line: str, message: str) -> None:
    path = text(tmp_path, f"AAAAA 0.0 1.0##fine.\n{line}\n")
    with pytest.raises(AnnotationError, match=re.escape(f"{path}, {message}")):
        read_annotations(path, "charades_sta", durations=[table])


def test_text_needs_durations(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"pass Charades_v1_train\.csv"):
        read_annotations(text(tmp_path), "charades_sta")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", "id,seconds\nAAAAA,3\n", "expected a CSV with the columns id and length"),
        ("d.csv", "id,length\nAAAAA,long\n", "expected a CSV with the columns"),
        ("d.csv", "", "expected a CSV with the columns"),
        ("d.csv", "id,length\nAAAAA,-3\n", "video 'AAAAA' lasts -3.0 s, expected a number above 0"),
        ("d.csv", "id,length\nAAAAA,nan\n", "expected a CSV with the columns"),
        ("d.csv", "id,length\nAAAAA,inf\n", "video 'AAAAA' lasts inf s, expected a number above 0"),
        ("d.csv", "id,length\nAAAAA,11\n", "video 'AAAAA' lasts 11.0 s here, 10.5 s before"),
        ("d.json", '{"AAAAA": "10.5"}', "expected a JSON object {video id: seconds}"),
        ("d.json", '{"AAAAA": ', "not a valid JSON file"),
    ],
)
def test_wrong_durations_are_named(tmp_path: Path, table: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(AnnotationError, match=re.escape(message)) as caught:
        read_annotations(text(tmp_path), "charades_sta", durations=[table, path])
    assert str(path) in str(caught.value)


def release(**changes: Any) -> dict[str, Any]:
    return {"qid": 0, "query": "q.", "duration": 10.5, "vid": "AAAAA", "relevant_windows": [[0.0, 6.9]], **changes}


def test_the_json_lines_release_is_read_and_not_repaired(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train.jsonl", [release()])
    assert read_annotations(path, "charades_sta")[0].windows == ((0.0, 6.9),)
    for window in ([9.0, 10.8], [7.0, 6.0]):
        write_lines(path, [release(relevant_windows=[window])])
        with pytest.raises(AnnotationError, match="line 1: window"):
            read_annotations(path, "charades_sta")


def test_subset_inside_needs_the_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which only the text release tells"):
        read_annotations(write_lines(tmp_path / "train.jsonl", [release()]), "charades_sta", subset="inside")
