"""`momentret features`: pack, check, info."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .features.files import moment_detr_folder, rows, save_npz
from .helpers import momentret


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return moment_detr_folder(tmp_path / "features")


def test_pack_check_and_info_work_without_naming_families(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert momentret("features", "pack", root, tmp_path / "packed") == 0
    assert "video/slowfast" in capsys.readouterr().out
    assert momentret("features", "check", tmp_path / "packed") == 0
    assert "6 items in video/slowfast, 6 items in text/clip: no problems" in capsys.readouterr().out
    assert momentret("features", "info", tmp_path / "packed") == 0
    assert "ViT-B-32/openai" in capsys.readouterr().out


def test_pack_takes_the_named_families_and_ids(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("v_1\nv_2\n3\n")
    options = ("--layout", "moment_detr", "--video", "clip", "--text", "clip", "--ids", ids, "--dtype", "float32")
    assert momentret("features", "pack", root, tmp_path / "packed", *options) == 0
    capsys.readouterr()
    assert momentret("features", "info", tmp_path / "packed", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert {name: family["items"] for name, family in summary.items()} == {"video/clip": 2, "text/clip": 1}
    assert summary["video/clip"]["manifest"]["dtype"] == "float32"


def test_text_can_be_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("features", "info", root, "--text", "none", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == ["video/slowfast", "video/clip"]


def test_check_prints_each_bad_file_and_exits_with_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_npz(root / "clip_features" / "v_1.npz", features=np.full((6, 4), np.nan))
    save_npz(root / "clip_features" / "v_2.npz", features=np.zeros((7, 4), int))
    assert momentret("features", "check", root) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "v_1.npz holds NaN" in lines[0]
    assert "v_2.npz holds int64 numbers" in lines[1]
    assert lines[2].endswith("2 problems")
    assert momentret("features", "check", root, "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_pack_does_not_overwrite_unless_asked(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("features", "pack", root, tmp_path / "packed") == 0
    assert momentret("features", "pack", root, tmp_path / "packed") == 1
    assert "pass --overwrite" in capsys.readouterr().err
    assert momentret("features", "pack", root, tmp_path / "packed", "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layout", "univgt"), "did you mean 'univtg'"),
        (("--video", "clop", "--text", "clip"), "did you mean 'clip'"),
        (("--video", "clip,clip"), "different family names"),
    ],
)
def test_wrong_options_are_one_line(
    root: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert momentret("features", "info", root, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_absent_root_and_a_wrong_dtype_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert momentret("features", "check", tmp_path / "nowhere") == 1
    assert "does not exist" in capsys.readouterr().err
    assert momentret("features", "pack", root, tmp_path / "packed", "--dtype", "int8") == 2
    assert momentret("features", "pack", root, tmp_path / "packed", "--ids", tmp_path / "nowhere") == 1


def test_a_damaged_item_is_one_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_npz(root / "clip_features" / "v_1.npz", features=rows(6, 4)[:0])
    assert momentret("features", "pack", root, tmp_path / "packed") == 1
    assert "v_1.npz has no rows" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
