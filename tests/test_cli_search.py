"""`momentret search` and `momentret find`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from momentret.encoders.fake import COLOURS
from momentret.search.answers import Answer, read_answers
from momentret.search.index import CorpusIndex, IndexSettings

from .extract.films import film
from .helpers import momentret


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``index`` and the films that it is of."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("asked")
    film(root / "in" / "a.mp4", [("red", 2.0), ("blue", 2.0)])
    film(root / "in" / "sub" / "b.mp4", [("green", 3.0)])
    film(root / "in" / os.fsdecode(b"\xffc.mp4"), [("yellow", 1.0), ("red", 1.0)])
    options = ["--encoder", "fake", "--clip-length", 0.5, "--threads", 1]
    assert momentret("index", "add", root / "index", root / "in", *options) == 0
    os.utime(root / "in" / "a.mp4", (0, 10**9))
    return root


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> Answer:
    capsys.readouterr()
    assert momentret(*arguments, "--json") == 0
    return Answer.from_row(json.loads(capsys.readouterr().out))


def test_the_answer_is_one_json_object(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "search", made / "index", "a blue thing", "--top", 1)
    assert (answer.query, answer.index, answer.encoder) == ("a blue thing", str(made / "index"), "fake")
    assert answer.moments[0].video_id == "a"
    assert answer.moments[0].start >= 2.0
    assert answer.present


def test_the_answer_is_a_table_for_people(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("search", made / "index", "yellow") == 0
    shown = capsys.readouterr().out
    assert "yellow (sure: 9" in shown
    assert "0:00 - 0:02" in shown
    assert "\\udcff" in shown, "a name that is no text is escaped"


def test_what_is_not_there_is_said_and_no_failure(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("search", made / "index", "a dog catches a frisbee") == 0
    assert "Nothing here matches: a dog catches a frisbee" in capsys.readouterr().out
    assert not ask(capsys, "search", made / "index", "magenta").present


def test_how_sure_it_is_is_a_guess_or_not_known(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("search", made / "index", "red", "magenta") == 0
    assert capsys.readouterr().err == "in fewer than 10 videos, how sure it is is a rough guess\n"
    one = ["--encoder", "fake", "--clip-length", 0.5]
    assert momentret("index", "add", tmp_path / "one", made / "in" / "a.mp4", *one) == 0
    Image.new("RGB", (64, 48), COLOURS["red"]).save(tmp_path / "red.png")
    capsys.readouterr()
    assert momentret("search", tmp_path / "one", "--image", tmp_path / "red.png") == 0
    shown = capsys.readouterr()
    assert ("(sure: not known)" in shown.out, shown.err) == (True, "")


def test_several_queries_are_answers_one_after_the_other(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert momentret("search", made / "index", "red", "green", "magenta", "--json") == 0
    (tmp_path / "found.json").write_text(capsys.readouterr().out)
    answers = read_answers(tmp_path / "found.json")
    assert [(answer.query, answer.present) for answer in answers] == [
        ("red", True),
        ("green", True),
        ("magenta", False),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--folder", "in/sub"], {"b"}),
        (["--shortest", 2.5], {"a", "b"}),
        (["--longest", 2.5], {"c"}),
        (["--before", "2010-01-01"], {"a"}),
        (["--after", "2010-01-01"], {"b", "c"}),
    ],
)
def test_filters(
    made: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[object],
    expected: set[str],
) -> None:
    monkeypatch.chdir(made)
    if "--before" in options or "--after" in options:
        assert momentret("index", "add", "index", "in") == 0  # takes down that a file was touched
    answer = ask(capsys, "search", "index", "red", "--top", 50, *options)
    assert {Path(moment.path).stem.strip("\udcff") for moment in answer.moments} == expected


@pytest.mark.parametrize("options", [["--exact"], ["--certified"], ["--level", "video"], ["--per-video", 1]])
def test_ways_of_searching(made: Path, capsys: pytest.CaptureFixture[str], options: list[object]) -> None:
    answer = ask(capsys, "search", made / "index", "green", *options)
    assert answer.moments[0].video_id == "b"
    assert answer.present


def test_pictures_clips_and_sums(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 48), COLOURS["green"]).save(tmp_path / "g.png")
    assert ask(capsys, "search", made / "index", "--image", tmp_path / "g.png").moments[0].video_id == "b"
    assert ask(capsys, "search", made / "index", "--clip", "a@0-1").moments[0].video_id != "b"
    less = ask(capsys, "search", made / "index", "red", "--plus", "green", "--minus", "red", "--top", 1)
    assert (less.query, less.moments[0].video_id) == ("red + green - red", "b")


def test_a_hubness_state_corrects_scores_and_their_chances(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bank.txt").write_text("".join(f"red thing {number}\n" for number in range(40)))
    assert momentret("hubness", "index", made / "index", tmp_path / "bank.txt", "-o", tmp_path / "state") == 0
    plain = ask(capsys, "search", made / "index", "red")
    corrected = ask(capsys, "search", made / "index", "red", "--hubness", tmp_path / "state")
    assert {moment.score for moment in corrected.moments} != {moment.score for moment in plain.moments}
    assert corrected.present
    assert not ask(capsys, "search", made / "index", "a dog", "--hubness", tmp_path / "state").present


def test_several_indexes_are_searched_as_one(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "in" / "d.mp4", [("cyan", 2.0)])
    assert momentret("index", "add", tmp_path / "more", tmp_path / "in", "--encoder", "fake", "--clip-length", 0.5) == 0
    answer = ask(capsys, "search", made / "index", "cyan", "--also", tmp_path / "more", "--top", 4)
    assert answer.moments[0].video_id == "d"
    assert {moment.video_id for moment in answer.moments} > {"d"}


def test_indexes_of_different_encoders_are_not_searched_together(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = IndexSettings(dim=4, encoder="other")
    CorpusIndex.create(tmp_path / "more", settings).close()
    assert momentret("search", made / "index", "red", "--also", tmp_path / "more") == 1
    assert "search together what one encoder made" in capsys.readouterr().err


def test_a_hubness_state_is_of_one_index(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("search", made / "index", "red", "--also", made / "index", "--hubness", made) == 2
    assert "--hubness corrects one index folder" in capsys.readouterr().err


def test_one_file_needs_no_index(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--encoder", "fake", "--clip-length", 0.5, "--threads", 1]
    alone = ask(capsys, "find", "blue", made / "in" / "a.mp4", *options)
    there = ask(capsys, "search", made / "index", "blue", "--longest", 4.5, "--shortest", 3.5, "--per-video", 10)
    assert alone.index is None
    assert [(m.start, m.end, m.score) for m in alone.moments] == [(m.start, m.end, m.score) for m in there.moments]
    assert alone.present
    assert not ask(capsys, "find", "green", made / "in" / "a.mp4", *options).present


def test_files_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "a.mp4", [("red", 2.0)])
    (tmp_path / "bad.mp4").write_text("no film")
    assert momentret("find", "red", tmp_path, "--encoder", "fake", "--threads", 1, "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["moments"]
    assert f"left out: '{tmp_path / 'bad.mp4'}' cannot be read as a video" in shown.err
    (tmp_path / "a.mp4").write_bytes(b"")
    assert momentret("find", "red", tmp_path, "--encoder", "fake", "--threads", 1) == 1
    assert "a.mp4' is empty; get the file again; nor can 1 other file be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["search", "index"], 2, "the query is missing: give words, --image FILE or --clip VIDEO@START-END"),
        (["search", "index", "--minus", "red"], 2, "the query is missing"),
        (["search", "index", "red", "--clip", "a@0-1"], 2, "ask in one way: in words, with --image or with --clip"),
        (["search", "index", "red", "--after", "0001-01-01"], 2, "--after 0001-01-01T00:00:00 is no time that"),
        (["search", "index", "red", "--level", "frame"], 2, "level 'frame' is not moment or video"),
        (["search", "index", " "], 1, "the query is empty"),
        (["search", "index", "red", "--minus", "red"], 1, "nothing is left"),
        (["search", "in", "red"], 1, "is missing"),
        (["search", "http://127.0.0.1:9/films", "red"], 1, "check the address"),
        (["search", "http://127.0.0.1:9", "red"], 1, "names no collection"),
        (["search", "index", "--clip", "nobody@0-1"], 1, "neither a video of the index nor a file"),
        (["search", "index", "--image", "none.png"], 1, "none.png: No such file"),
        (["search", "index", "red", "--encoder", "offlin"], 1, "did you mean 'offline'"),
        (
            ["search", "index", "red", "--encoder", "ViT-B-32/openai"],
            1,
            "made with encoder 'fake', not 'ViT-B-32/openai'",
        ),
        (["search", "index", "red", "--refine", "none.safetensors"], 1, "No such file"),
        (["search", "index", "red", "--hubness", "none"], 1, "holds no hubness state"),
        (["find", "red", "none.mp4", "--encoder", "fake"], 1, "none.mp4"),
        (["find", "in/a.mp4", "red", "--encoder", "fake"], 2, "the query comes first"),
        (["find", "red", "in/a.mp4", "--encoder", "fake", "--fps", "0.3"], 1, "frames a clip"),
    ],
)
def test_what_cannot_be_done_says_why(
    made: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(made)
    assert momentret(*arguments) == status
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert status == 2 or error.count("\n") == 1


def test_searching_loads_nothing_of_training(made: Path) -> None:
    code = (
        "import sys; from momentret import cli; "
        f"status = cli.run(['search', {str(made / 'index')!r}, 'red', '--json']); "
        "print([m for m in ('lightning', 'pandas', 'matplotlib', 'scipy') if m in sys.modules], "
        "status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[] 0"
