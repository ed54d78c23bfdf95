from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .helpers import momentret, write_lines


def row(qid: int, **changes: Any) -> dict[str, Any]:
    clips = {"relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1], "saliency_scores": [[1, 2, 3]] * 2}
    return {"qid": qid, "query": "q", "vid": f"v{qid}", "duration": 20, **clips, **changes}


def test_a_clean_file_gives_one_line_and_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "val.jsonl", [row(1), row(2, vid="v1")])
    assert momentret("data", "check", path) == 0
    expected = "val.jsonl, read as qvhighlights: ok: 2 queries, 1 video, 2 windows, videos of 20 to 20 s\n"
    assert capsys.readouterr().out == expected


def test_every_error_is_printed_with_its_line_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [row(1), row(2, relevant_windows=[[0, 24]]), row(1), row(4, query="", relevant_windows=[[4, 0]])]
    assert momentret("data", "check", write_lines(tmp_path / "val.jsonl", bad)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "error: line 2: window [0.0, 24.0] s is outside the 20.0 s video",
        "error: line 3: 'qid' 1 was used before, at line 1; a query id may occur once",
        "error: line 4: window [4.0, 0.0] s does not end after its start",
        "error: line 4: 'query' is '', expected a text that is not blank",
        "val.jsonl, read as qvhighlights: 4 errors; the rest: 1 query, 1 video, 1 window, videos of 20 to 20 s",
    ]


def test_json_holds_all_findings_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "val.jsonl", [row(1), row(2, duration=float("nan"))])
    assert momentret("data", "check", path, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "dataset": "qvhighlights",
        "queries": 1,
        "videos": 1,
        "windows": 1,
        "shortest_s": 20.0,
        "longest_s": 20.0,
        "findings": [
            {
                "level": "error",
                "where": "line 2",
                "message": "'duration' is nan, expected a number above 0 and not above 1e+06",
            }
        ],
    }


def test_repairs_of_the_release_are_counted_and_do_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.txt").write_text("AAAAA 0.0 10.8##one.\nAAAAA 7.0 6.0##two.\n")
    (tmp_path / "table.csv").write_text("id,length\nAAAAA,10.5\n")
    assert momentret("data", "check", tmp_path / "train.txt", "--durations", tmp_path / "table.csv") == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("note: window cut to the end of its video (1): line 1, video 'AAAAA': ")
    assert second.startswith("dropped: window ends before it starts (1): line 2, video 'AAAAA': ")
    assert last.startswith("train.txt, read as charades_sta: ok: 1 query, ")


def test_a_file_that_nothing_tells_is_read_strictly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"qid": 1, "query": "q", "vid": "mine", "duration": 20, "relevant_windows": [[0, 20.5]]}]
    path = write_lines(tmp_path / "a.jsonl", rows)
    assert momentret("data", "check", path) == 1
    assert momentret("data", "check", path, "--dataset", "activitynet") == 0
    assert "note: window cut to the end of its video (1)" in capsys.readouterr().out


def test_features_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "val.jsonl", [row(1), row(2)])
    (tmp_path / "clip_features").mkdir()
    np.savez(tmp_path / "clip_features" / "v1.npz", features=np.ones((20, 4), np.float32))
    arguments = ["data", "check", path, "--features", tmp_path, "--video", "clip", "--text", "none"]
    assert momentret(*arguments) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("error: 1 feature missing: ")
    assert out[1].startswith("error: line 1: 'clip' features of video 'v1' have 20 rows, expected 10: ")
    np.savez(tmp_path / "clip_features" / "v1.npz", features=np.ones((10, 4), np.float32))
    np.savez(tmp_path / "clip_features" / "v2.npz", features=np.ones((11, 4), np.float32))
    assert momentret(*arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl"], "No such file"),
        (["a.jsonl", "--dataset", "qvhighlight"], "did you mean 'qvhighlights'"),
        (["a.jsonl", "--features", "absent"], "features.root"),
        (["charades.txt"], "pass Charades_v1_train.csv"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_lines(tmp_path / "a.jsonl", [row(1)])
    (tmp_path / "charades.txt").write_text("AAAAA 0.0 1.0##one.\n")
    monkeypatch.chdir(tmp_path)
    assert momentret("data", "check", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
