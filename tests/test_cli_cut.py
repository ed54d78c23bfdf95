"""`momentret cut`: from what search printed, or from a video, to files."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from momentret.video import Cut, CutReport, IsolatedCutter, Sampling, probe, sample_frames

from .answering import answer, seen_as, write_answers
from .helpers import momentret
from .video.rendering import read_number, render

H264 = {"preset": "ultrafast", "g": "10", "bf": "2"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("films") / "film.mp4", options=H264, audio=2.0)


def plain(path: Path) -> str:
    """Return the name of a cut without the letters that stand for its video's path."""
    name, count = re.subn(r"-[0-9a-f]{8}(?=\.\w+$)", "", path.name)
    assert count == 1
    return name


def first_number(path: Path) -> int:
    return read_number(next(sample_frames(path, Sampling(times=(0.0,)))).image)


def test_found_moments_become_files(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0), (film, 1.2, 1.6)]))
    assert momentret("cut", found, "--output", tmp_path / "out") == 0
    first, second = sorted((tmp_path / "out").iterdir())
    assert (plain(first), plain(second)) == ("01-film-0.5s-1s.mp4", "02-film-1.2s-1.6s.mp4")
    assert (first_number(first), first_number(second)) == (12, 30)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{first}: 0.50 s, 13 frames and sound"
    assert len(lines) == 2


def test_several_queries_get_a_folder_each(film: Path, tmp_path: Path) -> None:
    answers = [answer([(film, 0.5, 1.0)], query) for query in ("a: dog/cat?", "a \x07 bell")]
    assert momentret("cut", write_answers(tmp_path / "a", *answers), "--output", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["01-a-dog_cat", "02-a-_-bell"]


def test_answers_come_from_stdin(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(answer([(film, 0.5, 1.0)]).to_row()).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert momentret("cut", "-", "--output", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_bad_file_does_not_stop_the_others(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.mp4").write_text("no film")
    moments = [(tmp_path / "bad.mp4", 0.0, 1.0), (tmp_path / "gone.mp4", 0.0, 1.0), (film, 0.5, 1.0)]
    found = write_answers(tmp_path / "found.json", answer(moments))
    assert momentret("cut", found, "--output", tmp_path / "out", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["cut"], shown["failed"]) == (1, 2)
    assert "bad.mp4' cannot be read as a video" in shown["cuts"][0]["error"]
    assert "gone.mp4' cannot be opened" in shown["cuts"][1]["error"]
    assert "if it was moved, momentret index add" in shown["cuts"][1]["error"]
    assert [plain(path) for path in (tmp_path / "out").iterdir()] == ["03-film-0.5s-1s.mp4"]


def test_a_video_that_is_gone_keeps_its_cut_and_does_not_stop_the_others(film: Path, tmp_path: Path) -> None:
    gone, out = tmp_path / "gone.mp4", tmp_path / "out"
    gone.write_bytes(film.read_bytes())
    moments = [(gone, 0.0, 1.0), (tmp_path / ("a" * 300 + ".mp4"), 0.0, 1.0), (film, 0.5, 1.0)]
    found = write_answers(tmp_path / "found.json", answer(moments))
    assert momentret("cut", found, "--output", out, "--top", 1) == 0
    (old,) = out.iterdir()
    old.write_text("mine")
    gone.unlink()
    assert momentret("cut", found, "--output", out, "--overwrite") == 0
    assert old.read_text() == "mine"
    (new,) = set(out.iterdir()) - {old}
    assert plain(new) == "03-film-0.5s-1s.mp4"
    assert first_number(new) == 12


def test_a_file_that_changed_since_the_search_is_named_once_and_cut(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, windows = film.stat(), [(film, 0.5, 1.0), (film, 1.2, 1.6)]
    for size, modified in ((now.st_size + 1, now.st_mtime), (now.st_size, now.st_mtime - 5)):
        answers = [seen_as(answer(windows, index=index), size, modified) for index in (None, "films.index")]
        found, out = write_answers(tmp_path / "found.json", *answers), tmp_path / f"{size}-{modified}"
        assert momentret("cut", found, "--copy", "-o", out) == 0
        assert capsys.readouterr().err == f"changed since it was searched: {str(film)!r}; search again\n"
        assert len(list(out.glob("*/*"))) == 4


def test_a_file_as_it_was_searched_is_cut_without_a_word(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = film.stat()
    found = write_answers(tmp_path / "found.json", seen_as(answer([(film, 0.5, 1.0)]), now.st_size, now.st_mtime))
    assert momentret("cut", found, "--copy", "-o", tmp_path / "out") == 0
    assert capsys.readouterr().err == ""


def test_nothing_cut_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_answers(tmp_path / "found.json", answer([(tmp_path / "gone.mp4", 0.0, 1.0)]))
    assert momentret("cut", found, "--output", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith("not cut: ")
    assert not (tmp_path / "out").exists()


def test_top_and_pad_choose_what_is_cut(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.2, 1.0), (film, 1.2, 1.6)]))
    assert momentret("cut", found, "--output", tmp_path, "--top", 1, "--pad", 0.4, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["cuts"]
    assert (row["window"], row["start"], row["end"], row["frames"]) == ([0.0, 1.4], 0.0, 1.4, 35)


def test_what_nothing_matches_is_cut_on_demand_only(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = answer([(film, 0.5, 1.0)], "a whale", presence=0.1, present=False)
    found = write_answers(tmp_path / "found.json", absent)
    assert momentret("cut", found, "--output", tmp_path / "out") == 1
    assert "left out: nothing matches 'a whale'; --nearest" in capsys.readouterr().err
    assert momentret("cut", found, "--output", tmp_path / "out", "--nearest") == 0


def test_moments_that_are_less_sure_are_cut_on_demand_only(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = [(film, 0.2, 0.4), (film, 0.5, 1.0), (film, 1.2, 1.6)]
    found = write_answers(tmp_path / "found.json", answer(moments, sure=[0.4, 0.9, 0.3]))
    ranks = {"plain": [2], "top": [2], "bar": [1, 2], "all": [1, 2, 3], "none": []}
    more = {
        "top": ["--top", 1],
        "bar": ["--min-confidence", 0.4],
        "all": ["--nearest"],
        "none": ["--min-confidence", 1],
    }
    for name, expected in ranks.items():
        assert momentret("cut", found, "-o", tmp_path / name, "--copy", *more.get(name, [])) == (not expected)
        assert [int(path.name[:2]) for path in sorted(tmp_path.glob(f"{name}/*"))] == expected
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "left out: 2 of 3 moments for 'a red square', less than 50% sure; --nearest takes them too"
    assert said[-2] == "left out: nothing matches 'a red square'; --nearest takes the nearest moments"


def test_what_exists_is_left_alone_and_the_rest_is_cut(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0), (film, 1.2, 1.6)]))
    assert momentret("cut", found, "--output", tmp_path / "out", "--top", 1) == 0
    (first,) = (tmp_path / "out").iterdir()
    first.write_text("mine")
    capsys.readouterr()
    assert momentret("cut", found, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().err.startswith("1 of 2 cuts there already, left as they are; --overwrite makes")
    assert first.read_text() == "mine"
    assert len(list(first.parent.iterdir())) == 2
    assert momentret("cut", found, "--output", tmp_path / "out", "--overwrite") == 0
    assert first_number(first) == 12


def test_videos_of_one_name_do_not_share_a_cut(film: Path, tmp_path: Path) -> None:
    for folder in ("spring", "autumn"):
        path = tmp_path / folder / "film.mp4"
        path.parent.mkdir()
        path.write_bytes(film.read_bytes())
        for _ in range(2):
            assert momentret("cut", path, "-w", "0-0.5", "--copy", "-o", tmp_path / "out") == 0
    assert [plain(path) for path in (tmp_path / "out").iterdir()] == ["film-0s-0.5s-copy.mp4"] * 2


def test_a_video_that_changed_is_cut_again(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(film.read_bytes())
    assert momentret("cut", path, "-w", "0.5-1", "-o", tmp_path / "out") == 0
    assert momentret("cut", film, "-w", "1-2", "-o", path, "--overwrite") == 0
    assert momentret("cut", path, "-w", "0.5-1", "-o", tmp_path / "out") == 0
    assert "there already" not in capsys.readouterr().err
    numbers = {first_number(cut) for cut in (tmp_path / "out").iterdir()}
    assert len(numbers) == 2


def test_a_finished_run_can_be_repeated(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["cut", film, "-w", "0-0.5", "-w", "0.7-1", "--copy", "-o", tmp_path / "out"]
    assert momentret(*arguments) == 0
    capsys.readouterr()
    assert momentret(*arguments, "--json") == 0
    shown = capsys.readouterr()
    assert "2 of 2 cuts there already" in shown.err
    assert {name: json.loads(shown.out)[name] for name in ("cut", "there_already", "failed")} == {
        "cut": 0, "there_already": 2, "failed": 0,
    }  # fmt: skip


def test_another_pad_or_way_of_cutting_is_another_file(film: Path, tmp_path: Path) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0)]))
    for options in ([], ["--pad", 0.1], ["--copy"], ["--copy", "--pad", 0.75]):
        assert momentret("cut", found, "-o", tmp_path / "out", *options) == 0
    assert sorted(plain(path) for path in (tmp_path / "out").iterdir()) == [
        "01-film-0.4s-1.1s.mp4",
        "01-film-0.5s-1s-copy.mp4",
        "01-film-0.5s-1s.mp4",
        "01-film-0s-1.75s-copy.mp4",
    ]


def test_windows_that_differ_by_milliseconds_do_not_share_a_cut(film: Path, tmp_path: Path) -> None:
    assert momentret("cut", film, "-w", "1.201-1.5", "-w", "1.204-1.5", "--copy", "-o", tmp_path / "out") == 0
    assert sorted(plain(path) for path in (tmp_path / "out").iterdir()) == [
        "film-1.201s-1.5s-copy.mp4",
        "film-1.204s-1.5s-copy.mp4",
    ]


def test_ctrl_c_says_how_many_are_cut(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = IsolatedCutter.cut

    def interrupted(cutter: IsolatedCutter, path: Path, wanted: Cut, *rest: Any) -> CutReport:
        if wanted.start > 0:
            raise KeyboardInterrupt
        return cut(cutter, path, wanted, *rest)

    monkeypatch.setattr(IsolatedCutter, "cut", interrupted)
    assert momentret("cut", film, "-w", "0-0.5", "-w", "0.7-1", "-o", tmp_path / "out") == 130
    assert capsys.readouterr().err.startswith("1 of 2 cuts done; run the same command again to go on\n")
    assert [plain(path) for path in (tmp_path / "out").iterdir()] == ["film-0s-0.5s.mp4"]


def test_a_file_that_is_named_is_not_taken_for_the_cut(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_text("mine")
    assert momentret("cut", film, "-w", "0-0.5", "-o", tmp_path / "a.mp4") == 1
    assert "exists already" in capsys.readouterr().err


def test_a_window_of_a_video_becomes_the_file_that_is_named(film: Path, tmp_path: Path) -> None:
    assert momentret("cut", film, "--window", "0:0.5-1", "-o", tmp_path / "new" / "a.mkv") == 0
    assert probe(tmp_path / "new" / "a.mkv").container == "matroska,webm"
    assert first_number(tmp_path / "new" / "a.mkv") == 12


def test_several_windows_go_into_a_folder(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("cut", film, "-w", "0-0.5", "-w", "0.7-1", "--copy", "-o", tmp_path / "out") == 0
    assert sorted(plain(path) for path in (tmp_path / "out").iterdir()) == [
        "film-0.7s-1s-copy.mp4",
        "film-0s-0.5s-copy.mp4",
    ]
    assert "begins 0.30 s early, at a keyframe (0.40 s)" in capsys.readouterr().out
    assert momentret("cut", film, "-w", "0-0.5", "-w", "0.7-1", "-o", tmp_path / "a.mp4") == 1
    assert "is one file for 2 windows; give a folder" in capsys.readouterr().err


def test_a_folder_may_have_a_name_with_a_dot(film: Path, tmp_path: Path) -> None:
    (tmp_path / "my.cuts").mkdir()
    for name in ("my.cuts", "2026.11"):
        assert momentret("cut", film, "-w", "0.5-1", "--copy", "-o", tmp_path / name) == 0
        assert [plain(path) for path in (tmp_path / name).iterdir()] == ["film-0.5s-1s-copy.mp4"]


def test_a_copy_keeps_the_container(tmp_path: Path) -> None:
    path = render(tmp_path / "film.ts", options=H264)
    assert momentret("cut", path, "-w", "0.5-1", "--copy", "-o", tmp_path / "out") == 0
    assert [plain(path) for path in (tmp_path / "out").iterdir()] == ["film-0.5s-1s-copy.ts"]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX")
def test_names_that_are_no_text_are_cut_and_shown(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / os.fsdecode(b'-\xff\n"<b>.mp4')
    path.write_bytes(film.read_bytes())
    found = write_answers(tmp_path / "found.json", answer([(path, 0.5, 1.0), (tmp_path / "\ud800.mp4", 0.0, 1.0)]))
    assert momentret("cut", found, "-o", tmp_path / "out", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["cuts"]
    assert Path(rows[0]["path"]) == path
    assert plain(Path(rows[0]["output"])) == "01-_-b-0.5s-1s.mp4"
    assert "cannot be opened" in rows[1]["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{film}", "-o", "{out}"],
            "is not JSON (",
        ),
        (["{film}", "-o", "{out}"], "name a --window START-END of it"),
        (["{film}", "-w", "5", "-o", "{out}"], "window '5' is not START-END"),
        (["{film}", "-w", "5-2", "-o", "{out}"], "window '5-2' ends before it begins"),
        (["{film}", "-w", "5-5", "-o", "{out}"], "window '5-5' ends where it begins"),
        (["{film}", "-w", "0-1", "-o", "{out}", "--top", "1"], "choose found moments; every --window is cut"),
        (["{film}", "-w", "0-1", "-o", "{out}.wmv"], "out.wmv' does not end like a video that can be written"),
        (
            ["{film}", "-w", "0-1", "-o", "{out}.xyz"],
            "can be written; use one of .mp4, .m4v, .mov, .mkv, .webm, .ts, .avi, .flv (make the folder first",
        ),
        (["{film}", "-w", "0-1", "-o", "{out}.webm"], "use one of .mp4, .m4v, .mov, .mkv, .ts, .avi, .flv, or --copy"),
        (["{film}", "-o", "{out}.mp4"], "name a --window START-END of it"),
        (["{found}", "-w", "1-2", "-o", "{out}"], "found.json' holds found moments; leave --window out"),
        (["{found}", "-o", "{out}.mp4"], "names a file; give a folder"),
        (["{out}/absent", "-o", "{out}"], "No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0)]))
    words = [word.format(film=film, found=found, out=tmp_path / "out") for word in arguments]
    assert momentret("cut", *words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_video_is_never_cut_into_itself(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = film.read_bytes()
    assert momentret("cut", film, "-w", "0-1", "-o", film, "--overwrite") == 1
    assert "is the video itself" in capsys.readouterr().err
    assert film.read_bytes() == before
