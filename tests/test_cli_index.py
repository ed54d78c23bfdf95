"""`momentret index` from videos to an index that is kept up to date."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from momentret.search import indexing

from .extract.films import film, films
from .helpers import momentret


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


def add(index: Path, *arguments: object) -> int:
    return momentret("index", "add", index, *arguments, "--encoder", "fake", "--clip-length", 0.5, "--threads", 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``index`` and the films it was made of, for tests that change neither."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("made")
    assert add(folder / "index", films(folder / "in", 2)) == 0
    return folder


@pytest.fixture
def index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """An index of the three films in ``in/``."""
    assert add(tmp_path / "index", films(tmp_path / "in", 3)) == 0
    capsys.readouterr()
    return tmp_path / "index"


def test_a_folder_becomes_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = films(tmp_path / "in", 3)
    (folder / "bad.mp4").write_text("no film")
    assert add(tmp_path / "index", folder, "--json") == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert summary["added"] == ["film 0", "film 1", "film 2"]
    assert (summary["videos"], summary["unchanged"], len(summary["quarantined"])) == (3, 0, 1)
    assert "quarantine: " in shown.err
    assert momentret("index", "verify", tmp_path / "index") == 0
    assert "3 videos" in capsys.readouterr().out


def test_the_summary_says_what_happened(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "film 0.mp4").rename(tmp_path / "in" / "renamed.mp4")
    (tmp_path / "in" / "film 2.mp4").unlink()
    film(tmp_path / "in" / "new.mp4", [("red", 1.0)])
    assert momentret("index", "add", index, tmp_path / "in") == 0, "encoder and settings are the index's"
    shown = capsys.readouterr()
    assert "1 added, 1 moved, 1 unchanged, 1 missing; 4 videos" in shown.out
    assert "momentret index update takes it out" in shown.err
    assert momentret("index", "update", index, tmp_path / "in") == 0
    assert "0 added, 3 unchanged, 1 removed; 3 videos" in capsys.readouterr().out


def test_stats_say_how_it_was_made(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("index", "stats", made / "index", "--json", "--videos") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["videos"], facts["encoder"], facts["settings"]["clip_length"]) == (2, "fake", 0.5)
    assert [video["video_id"] for video in facts["list"]] == ["film 0", "film 1"]
    assert momentret("index", "stats", made / "index", "--videos") == 0
    shown = capsys.readouterr().out
    assert "film 1.mp4" in shown
    rows = {name.strip(): value.strip() for name, value in re.findall(r"│ ([a-z ]+)│([^│]+)│\n", shown)}
    assert (rows["duration"], rows["clip length"]) == ("5 s", "0.5 s")


def test_removing_and_compacting(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("index", "remove", index, "film 0", tmp_path / "in" / "film 1.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["removed"] == ["film 0", "film 1"]
    assert momentret("index", "compact", index, "--json") == 0
    assert json.loads(capsys.readouterr().out)["segments"] == 1
    assert (tmp_path / "in" / "film 0.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "index", "in", "--encoder", "offlin"], "did you mean 'offline'"),
        (["add", "index", "in", "--clip-length", "1"], "made with clip_length 0.5, not 1.0"),
        (["add", "index", "in", "--keyframes"], "made with keyframes False, not True"),
        (["add", "index", "nowhere"], "'nowhere' does not exist"),
        (["add", "in", "in", "--encoder", "fake"], "is no index"),
        (["add", "new", "in"], "a new index needs --encoder"),
        (["add", "new", "in", "--encoder", "fake", "--fps", "0.3"], "frames a clip"),
        (["update", "new", "in"], "is missing"),
        (["remove", "index", "nobody"], "has no video 'nobody'"),
        (["verify", "in"], "is missing"),
        (["stats", "in/film 0.mp4"], "is missing; give the folder of an index"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    made: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(made)
    assert momentret("index", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (made / "new").exists()


def test_nothing_but_bad_files_make_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "in" / "a.mp4"
    bad.parent.mkdir()
    bad.write_text("no film")
    for _ in range(2):  # the second time as the first: nothing is remembered
        assert add(tmp_path / "index", bad.parent) == 1
        error = capsys.readouterr().err
        assert "a.mp4' cannot be read as a video" in error
        assert "index' was not made" in error
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
    film(bad, [("red", 1.0)])
    assert add(tmp_path / "index", bad.parent) == 0


def test_a_run_that_fails_leaves_no_new_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(tmp_path / "index", tmp_path / "nowhere") == 1
    assert "nowhere' does not exist" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_was_there_stays_though_it_is_empty(index: Path, tmp_path: Path) -> None:
    assert momentret("index", "remove", index, tmp_path / "in") == 0
    (tmp_path / "bad.mp4").write_text("no film")
    assert add(index, tmp_path / "bad.mp4") == 1
    assert momentret("index", "stats", index) == 0


def damage(index: Path) -> None:
    """Change a byte of the first video."""
    assert momentret("index", "compact", index) == 0
    codes = next((index / "segments").glob("*/clip_codes.bin"))
    content = bytearray(codes.read_bytes())
    content[10] ^= 255
    codes.write_bytes(content)


@pytest.mark.parametrize("command", [("index", "verify"), ("search", "red")])
def test_damage_is_named_with_the_next_step(
    index: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, str]
) -> None:
    damage(index)
    verb, argument = command
    assert momentret(*((verb, argument, index) if verb == "index" else (verb, index, argument))) == 1
    error = capsys.readouterr().err
    assert "clip_codes.bin' is damaged in the rows of video 'film 0'; momentret index verify INDEX --repair" in error
    assert error.count("momentret: ") == 1


def test_a_repair_says_what_is_lost_and_the_command_that_puts_it_back(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def found() -> list[dict[str, Any]]:
        capsys.readouterr()
        assert momentret("search", index, "red", "--json") == 0
        return json.loads(capsys.readouterr().out)["moments"]

    before = found()
    damage(index)
    assert momentret("index", "verify", index, "--repair") == 0
    *_, taken_out, command = capsys.readouterr().out.splitlines()
    assert taken_out == f"taken out: film 0 ({tmp_path / 'in' / 'film 0.mp4'})"
    said, _, command = command.partition(": momentret ")
    assert (said, *shlex.split(command)) == ("to put back", "index", "add", str(index), str(tmp_path / "in"))
    assert "film 0" not in {moment["video_id"] for moment in found()}
    assert momentret(*shlex.split(command)) == 0
    assert "1 added, 2 unchanged; 3 videos" in capsys.readouterr().out
    assert found() == before


def test_a_repair_for_programs(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"damaged": [], "moved_to": None, "taken_out": [], "folders": []}
    for expected in (3, 2):
        capsys.readouterr()
        assert momentret("index", "verify", index, "--repair", "--json") == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["sound"], facts["videos"]) == (True, expected)
        assert (facts | nothing == facts) == (expected == 3)
        damage(index)
    (file,) = facts["damaged"]
    assert (Path(facts["moved_to"]) / file).is_file()
    assert facts["taken_out"] == [{"video_id": "film 0", "path": str(tmp_path / "in" / "film 0.mp4")}]
    assert facts["folders"] == [str(tmp_path / "in")]


def test_nothing_to_repair_is_said(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("index", "verify", made / "index", "--repair") == 0
    assert capsys.readouterr().out.endswith("all sound; nothing to repair\n")


def test_a_log_that_was_cut_short_is_told(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (log,) = index.glob("log-*.wal")
    log.write_bytes(log.read_bytes()[:-9])
    assert momentret("index", "verify", index) == 0
    shown = capsys.readouterr()
    assert "2 videos" in shown.out
    assert "of a change that is not whole" in shown.err
    assert "momentret index add FOLDER puts back what is missing" in shown.err


def test_ctrl_c_says_what_is_in_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, finish = films(tmp_path / "in", 3), indexing._IndexKeeper.finish

    def interrupted(keeper: Any, video: Any, *rest: Any) -> Any:
        if video.video_id == "film 2":
            raise KeyboardInterrupt
        return finish(keeper, video, *rest)

    monkeypatch.setattr(indexing._IndexKeeper, "finish", interrupted)
    assert add(tmp_path / "index", folder, "--workers", 1) == 130
    first, second = capsys.readouterr().err.splitlines()
    assert first == "2 of 3 files done, 2 videos safely in the index; run the same command again to go on"
    assert second == "momentret: interrupted"
    monkeypatch.undo()
    assert add(tmp_path / "index", folder) == 0
    assert "1 added, 2 unchanged" in capsys.readouterr().out
