from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from momentret.datasets import read_annotations
from momentret.errors import AnnotationError
from tests.helpers import write_lines

VIDEOS = {
    "v_abcdefghijk": {
        "duration": 55.15,
        "timestamps": [[0.28, 55.16], [13.79, 13.79], [40, 30.5]],
        "sentences": ["One.", "  Two is empty.", " Three is reversed."],
    },
    "v_lmnopqrstuv": {"duration": 73.1, "timestamps": [[0, 10.23]], "sentences": [" Four."]},
}


def original(tmp_path: Path, content: Any = VIDEOS, name: str = "train.json") -> Path:
    path = tmp_path / name
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(("name", "first"), [("train.json", 0), ("val_1.json.gz", 37421), ("val_2.json", 54926)])
def test_the_original_file_is_repaired_and_numbered_by_sentence(tmp_path: Path, name: str, first: int) -> None:
    found = read_annotations(original(tmp_path, name=name), "activitynet")
    assert [(a.query_id - int(first), a.query, a.windows) for a in found] == [  # type: ignore[operator]
        (0, "One.", ((0.28, 55.15),)),
        (2, "Three is reversed.", ((30.5, 40.0),)),
        (3, "Four.", ((0.0, 10.23),)),
    ]


def test_the_json_lines_release_is_repaired_by_the_same_rule(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"qid": i, "query": f" {i}", "vid": "v_abcdefghijk", "duration": 55.15, "relevant_windows": [window]}
        for i, window in enumerate(VIDEOS["v_abcdefghijk"]["timestamps"])  # type: ignore[arg-type]
    ]
    with caplog.at_level(logging.INFO):
        found = read_annotations(write_lines(tmp_path / "train.jsonl", rows), "activitynet")
    assert [(a.query_id, a.windows) for a in found] == [(0, ((0.28, 55.15),)), (2, ((30.5, 40.0),))]
    assert sorted(record.levelname for record in caplog.records) == ["INFO", "INFO", "WARNING"]
    assert "line 2: window [13.79, 13.79] s dropped" in caplog.text


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ({"timestamps": [[0, 1]], "sentences": ["a"]}, "sentence 1: key 'duration' is missing"),
        ({"duration": 9, "timestamps": [[0, 1]], "sentences": []}, "lists of the same length"),
        ({"duration": 9, "sentences": ["a"]}, "lists of the same length"),
        ([1, 2], "lists of the same length"),
        ({"duration": 9, "timestamps": [[0]], "sentences": ["a"]}, "'relevant_windows' has \\[0\\] at place 1"),
        ({"duration": 9, "timestamps": [[0, 90]], "sentences": ["a"]}, "window \\[0.0, 90.0\\] s is outside"),
        ({"duration": 9, "timestamps": [[0, 1]], "sentences": [3]}, "'query' is 3"),
    ],
)
def test_a_wrong_video_is_named(tmp_path: Path, video: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=f"train.json, video 'v_x'.*{message}"):
        read_annotations(original(tmp_path, {**VIDEOS, "v_x": video}), "activitynet")


def test_a_row_without_a_window_is_an_error(tmp_path: Path) -> None:
    row = {"qid": 0, "query": "q", "vid": "v", "duration": 9, "relevant_windows": []}
    with pytest.raises(AnnotationError, match="'relevant_windows' is \\[\\], expected"):
        read_annotations(write_lines(tmp_path / "train.jsonl", [row]), "activitynet")


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_original_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"train\.json: "):
        read_annotations(path, "activitynet")


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}" * 100)[:-9], gzip.compress(b"{}")[:-8] + b"12345678"],
    ids=["not gzip", "cut", "wrong checksum"],  # the bytes hold the time of day
)
def test_a_damaged_compressed_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.json.gz"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match="not a valid JSON file"):
        read_annotations(path, "activitynet")


def test_a_compressed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momentret.datasets.reading.MAX_JSON_BYTES", 1000)
    with pytest.raises(AnnotationError, match="more than 1000 bytes"):
        read_annotations(original(tmp_path, {"v_x": " " * 5000}, "train.json.gz"), "activitynet")
