"""`momentret extract` from videos to a store that the other verbs read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from momentret.cli.extraction import spare_threads
from momentret.extract import extract as carry_out

from .extract.films import film, films
from .helpers import make_unlistable, momentret


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


def extract(folder: Path, output: Path, *options: object) -> int:
    return momentret(
        "extract", folder, "--output", output, "--encoder", "fake", "--clip-length", 0.5, "--threads", 1, *options
    )


@pytest.mark.parametrize(("most", "threads"), [("1", 1), ("3", 3), ("64", 4), ("", 4), ("4,2", 4)])
def test_the_encoder_has_the_cores_left_over_and_no_more_threads_than_omp(
    most: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", most)
    assert spare_threads(4) == threads
    assert spare_threads(-1) == 1


def test_a_folder_becomes_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = films(tmp_path / "in", 3)
    (folder / "bad.mp4").write_text("no film")
    assert extract(folder, tmp_path / "store", "--json") == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["videos"], summary["quarantined"], summary["extracted_now"]) == (3, 1, 3), (
        "a file in quarantine is not extracted"
    )
    assert [row["video_id"] for row in summary["outcomes"]] == ["bad", "film 0", "film 1", "film 2"]
    assert "quarantine: " in shown.err
    assert "bad.mp4' cannot be read as a video" in shown.err
    assert momentret("features", "check", tmp_path / "store") == 0
    assert "3 items in video/clip: no problems" in capsys.readouterr().out
    lines = (tmp_path / "store.videos.jsonl").read_text().splitlines()
    assert [json.loads(line)["decoder"] for line in lines] == ["", "pyav", "pyav", "pyav"]


def test_a_folder_that_cannot_be_listed_is_named_once_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = films(tmp_path / "in", 2)
    film(folder / "b" / "other.mp4", [("red", 1.0)])
    make_unlistable(monkeypatch, folder / "b")
    warning = f"warning: '{folder / 'b'}' cannot be read (Input/output error): what is there is not looked at"
    assert extract(folder, tmp_path / "store", "--shard", "1/1") == 0
    assert capsys.readouterr().err.splitlines() == [warning]
    assert extract(folder, tmp_path / "store") == 0
    shown = capsys.readouterr()
    assert ("store: 2 videos" in shown.out, shown.err.splitlines()) == (True, [warning])
    assert momentret("find", "red", folder, "--encoder", "fake", "--threads", 1) == 0
    assert capsys.readouterr().err.splitlines().count(warning) == 1


def test_the_summary_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 2.0)])
    assert extract(tmp_path / "in", tmp_path / "store") == 0
    assert "store: 1 video, 4 clips, 0 in quarantine; 1 extracted now at" in capsys.readouterr().out


def test_shards_and_a_last_run_make_the_same_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = films(tmp_path / "in", 5)
    assert extract(folder, tmp_path / "whole") == 0
    for i in (2, 1, 3):
        assert extract(folder, tmp_path / "store", "--shard", f"{i}/3") == 0
        assert not (tmp_path / "store").exists()
    assert extract(folder, tmp_path / "store") == 0
    assert "0 extracted now" in capsys.readouterr().out.splitlines()[-1]
    for name in ("rows.npy", "index.json", "manifest.json"):
        part = Path("video", "clip", name)
        assert (tmp_path / "store" / part).read_bytes() == (tmp_path / "whole" / part).read_bytes()


def test_processes_make_the_same_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = films(tmp_path / "in", 3)
    (folder / "bad.mp4").write_text("no film")
    assert extract(folder, tmp_path / "whole") == 0
    assert extract(folder, tmp_path / "store", "--processes", 2) == 0
    assert "3 videos, 18 clips, 1 in quarantine; 3 extracted now" in capsys.readouterr().out.splitlines()[-1]
    rows = Path("video", "clip", "rows.npy")
    assert (tmp_path / "store" / rows).read_bytes() == (tmp_path / "whole" / rows).read_bytes()


@pytest.mark.parametrize(("option", "value"), [("--keyframes", None), ("--decoder", "pyav"), ("--fps", 4.0)])
def test_options_of_decoding_are_carried_out(tmp_path: Path, option: str, value: object) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 1.0), ("blue", 1.0)])
    assert extract(tmp_path / "in", tmp_path / "store", option, *([] if value is None else [value])) == 0
    assert json.loads((tmp_path / "store.videos.jsonl").read_text())["clips"] == 4


def test_an_output_of_something_else_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 1.0)])
    assert extract(tmp_path / "in", tmp_path / "in") == 1
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_cluster_that_is_not_there_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    film(tmp_path / "in" / "a.mp4", [("red", 1.0)])
    assert extract(tmp_path / "in", tmp_path / "store", "--ray", "127.0.0.1:9") == 1
    assert "no Ray cluster at '127.0.0.1:9'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_run_over_the_same_folder_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = films(tmp_path / "in", 2)
    (folder / "bad.mp4").write_text("no film")
    assert extract(folder, tmp_path / "store") == 0
    before = everything(tmp_path)
    for options in ((), ("--processes", 2), ("--shard", "1/2")):
        assert extract(folder, tmp_path / "store", *options) == 0
        shown = capsys.readouterr()
        assert shown.out.endswith("; nothing new\n")
        assert everything(tmp_path) == before
    assert "bad.mp4' cannot be read" in shown.err
    (folder / "bad.mp4").unlink()
    assert extract(folder, tmp_path / "store") == 0
    assert "2 videos, 10 clips, 0 in quarantine; nothing new" in capsys.readouterr().out
    assert extract(folder, tmp_path / "store", "--overwrite") == 0
    assert "; 2 extracted now" in capsys.readouterr().out


def test_a_run_ends_well_though_another_has_packed_the_same_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, alone = films(tmp_path / "in", 3), carry_out

    def overtaken(*arguments: Any, **options: Any) -> Iterator[Any]:
        monkeypatch.setattr("momentret.extract.extract", alone)
        outcomes = alone(*arguments, **options)
        yield next(outcomes)
        assert extract(folder, tmp_path / "store") == 0
        yield from outcomes

    monkeypatch.setattr("momentret.extract.extract", overtaken)
    assert extract(folder, tmp_path / "store") == 0
    other, ours = capsys.readouterr().out.splitlines()
    assert "3 videos, 18 clips, 0 in quarantine; 2 extracted now" in other
    assert "3 videos, 18 clips, 0 in quarantine; 3 extracted now" in ours
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("options", [(), ("--processes", 2)])
def test_a_folder_that_has_grown_or_changed_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...]
) -> None:
    folder = films(tmp_path / "in", 3)
    assert extract(folder, tmp_path / "store") == 0
    film(folder / "film 1.mp4", [("white", 1.5)])
    film(folder / "a new one.mp4", [("cyan", 1.0)])
    assert extract(folder, tmp_path / "store", *options) == 0
    assert "store: 4 videos, " in (said := capsys.readouterr().out)
    assert "; 2 extracted now" in said.splitlines()[-1]
    assert extract(folder, tmp_path / "anew") == 0
    rows = Path("video", "clip", "rows.npy")
    assert (tmp_path / "store" / rows).read_bytes() == (tmp_path / "anew" / rows).read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_a_store_is_not_mixed_and_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = films(tmp_path / "in", 2)
    assert extract(folder, tmp_path / "store") == 0
    before = everything(tmp_path)
    for paths, options, message in (
        (folder, ("--keyframes",), "begun with config keyframes False, now it is True"),
        (
            folder / "film 1.mp4",
            (),
            f"store' holds 1 video that the paths do not give (first: 'film 0' of '{folder / 'film 0.mp4'}')",
        ),
    ):
        assert extract(paths, tmp_path / "store", *options) == 1
        error = capsys.readouterr().err
        assert message in error
        assert "--overwrite" in error
        assert everything(tmp_path) == before


def test_what_is_gone_is_left_out_when_asked_to_and_nothing_else_is_done_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = films(tmp_path / "in", 3)
    assert extract(folder, tmp_path / "store") == 0
    (folder / "film 0.mp4").unlink()
    assert extract(folder, tmp_path / "store") == 1
    assert "pass --drop-missing (--overwrite would do everything anew)" in capsys.readouterr().err
    assert extract(folder, tmp_path / "store", "--drop-missing") == 0
    assert "2 videos, 14 clips, 0 in quarantine; 0 extracted now, 1 left out" in capsys.readouterr().out
    (folder / "film 1.mp4").rename(folder / "renamed.mp4")
    assert extract(folder, tmp_path / "store", "--drop-missing") == 0
    assert "2 videos, 14 clips, 0 in quarantine; 1 extracted now, 1 left out" in capsys.readouterr().out
    assert extract(folder, tmp_path / "anew") == 0
    rows = Path("video", "clip", "rows.npy")
    assert (tmp_path / "store" / rows).read_bytes() == (tmp_path / "anew" / rows).read_bytes()


def test_a_folder_that_cannot_be_listed_loses_nothing_of_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = films(tmp_path / "in", 1)
    film(folder / "b" / "other.mp4", [("red", 1.0)])
    assert extract(folder, tmp_path / "store") == 0
    before = everything(tmp_path)
    with monkeypatch.context() as patch:
        make_unlistable(patch, folder / "b")
        assert extract(folder, tmp_path / "store", "--drop-missing") == 1
    assert f"holds 'other' of '{folder / 'b' / 'other.mp4'}', and that cannot be" in capsys.readouterr().err
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fps", "0.3"], "frames a clip"),
        (["--encoder", "ofline"], "did you mean 'offline'"),
        (["--shard", "3/2"], "is not i/n"),
        (["--shard", "1/2", "--processes", "2"], "give one of these"),
        (["--time-limit", "0"], "time limit is 0.0 s"),
        (["--decoder", "ffmpeg"], "no decoder 'ffmpeg'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 1.0)])
    assert extract(tmp_path / "in", tmp_path / "store", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_path_that_is_not_there_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, nowhere = films(tmp_path / "in", 1), tmp_path / "nowhere"
    for command in (
        ("extract", folder, nowhere, "--output", tmp_path / "store", "--encoder", "fake"),
        ("find", "red", folder, nowhere, "--encoder", "fake"),
    ):
        assert momentret(*command) == 1
        assert capsys.readouterr().err == f"momentret: '{nowhere}' does not exist; check the path\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_but_quarantine_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_text("no film")
    (tmp_path / "in" / "b.mp4").touch()
    assert extract(tmp_path / "in", tmp_path / "store") == 1
    first, second, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"quarantine: '{tmp_path / 'in' / 'a.mp4'}' cannot be read as a video")
    assert second.startswith(f"quarantine: '{tmp_path / 'in' / 'b.mp4'}' is empty")
    assert "no video of 2 could be used" in last
