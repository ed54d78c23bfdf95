"""`momentret report` from what search printed to a page and a sheet."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from momentret.video import Sampling, sample_frames

from .answering import answer, seen_as, write_answers
from .extract.films import film as coloured
from .helpers import momentret
from .video.rendering import render


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("films") / "film.mp4", options={"preset": "ultrafast"})


def test_a_page_and_a_sheet_are_written(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0)]), answer([(film, 1.2, 1.6)]))
    page, sheet = tmp_path / "new" / "report.html", tmp_path / "new" / "sheet.png"
    assert momentret("report", found, "--output", page, "--sheet", sheet) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{page}, and {sheet}: 2 queries, 2 moments, ")
    assert (shown.out.count("\n"), shown.err) == (1, "")
    assert page.read_text().startswith("<!doctype html>")
    with Image.open(sheet) as image:
        assert image.format == "PNG"


def test_the_summary_is_json_and_names_what_is_missing(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / os.fsdecode(b"g\xffne.mp4")
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0), (gone, 0.0, 1.0)]))
    assert momentret("report", found, "-o", tmp_path / "r.html", "--json") == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["queries"], summary["moments"], summary["sheet"]) == (1, 2, None)
    assert summary["bytes"] == (tmp_path / "r.html").stat().st_size
    assert list(summary["problems"]) == [str(gone)]
    assert shown.err.startswith("no pictures: ")


def test_a_file_that_changed_since_the_search_is_named(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = write_answers(tmp_path / "found.json", seen_as(answer([(film, 0.5, 1.0)]), 7, film.stat().st_mtime))
    assert momentret("report", found, "-o", tmp_path / "r.html") == 0
    step = "momentret index update the index and search again"
    assert capsys.readouterr().err == f"changed since it was searched: {str(film)!r}; {step}\n"


def test_a_video_that_got_shorter_is_among_those_without_pictures(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 2.5, 3.0)]))
    assert momentret("report", found, "-o", tmp_path / "r.html", "--sheet", tmp_path / "s.png") == 0
    shown = capsys.readouterr()
    assert shown.out.endswith("; 1 video without pictures\n")
    assert shown.err.startswith(f"no pictures: {str(film)!r} ends at 2.00 s")


def test_top_leaves_the_best(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0), (film, 1.2, 1.6)]))
    assert momentret("report", found, "-o", tmp_path / "r.html", "--top", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["moments"] == 1
    assert (tmp_path / "r.html").read_text().count("<article") == 1


def test_doubtful_moments_are_shown_on_demand_only(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = [(film, 0.5, 1.0), (film, 1.2, 1.6), (film, 1.6, 2.0)]
    found = write_answers(tmp_path / "found.json", answer(moments, sure=[0.9, 0.4, None]))
    words, page = ["report", found, "-o", tmp_path / "r.html", "--overwrite"], tmp_path / "r.html"
    for options, count in ([], 2), (["--min-confidence", 0.3], 3), (["--nearest"], 3), (["--nearest", "--top", 2], 2):
        assert momentret(*words, *options) == 0
        assert page.read_text().count("<article") == count
        said = "left out: 1 of 3 moments for 'a red square', less than 50% sure; --nearest takes them too\n"
        assert capsys.readouterr().err == (said if not options else "")


def test_answers_come_from_stdin(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(answer([(film, 0.5, 1.0)]).to_row(), indent=2).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert momentret("report", "-", "-o", tmp_path / "r.html") == 0
    assert "<article" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("taken", ["r.html", "s.png"])
def test_what_exists_is_kept_unless_overwritten(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0)]))
    words = ["report", found, "-o", tmp_path / "r.html", "--sheet", tmp_path / "s.png"]
    (tmp_path / taken).write_text("mine")
    assert momentret(*words) == 1
    assert f"{taken}' exists already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["found.json", taken])
    assert momentret(*words, "--overwrite") == 0
    assert (tmp_path / taken).stat().st_size > 1000


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "holds no answer"),
        ("{", [], "is not JSON"),
        ('{"query": "a"}', [], "answer 1: an answer has no"),
        (None, [], "No such file"),
        ("", ["--time-limit", "0"], "time limit is 0.0 s"),
        ("", ["--sheet", "{folder}/s.jpg"], "s.jpg' does not end in .png, and that is what is written; name it so"),
        ("", ["-o", "{folder}/r.pdf"], "r.pdf' does not end in .html, and that is what is written; name it so"),
        ("", ["--sheet", "{folder}/r.html"], "r.html' is named twice"),
        ("", ["--sheet", "{folder}/found.json", "--overwrite"], "found.json' is named twice"),
        ("", ["-o", "{folder}/found.json", "--overwrite"], "found.json' is named twice"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, options: list[str], message: str
) -> None:
    if content is not None:
        (tmp_path / "found.json").write_text(content)
    words = [option.format(folder=tmp_path) for option in options]
    assert momentret("report", tmp_path / "found.json", "-o", tmp_path / "r.html", *words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_full_disk_is_named_by_the_file(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = write_answers(tmp_path / "found.json", answer([(film, 0.5, 1.0)]))
    monkeypatch.setattr(os, "fsync", full)
    assert momentret("report", found, "-o", tmp_path / "r.html") == 1
    assert capsys.readouterr().err == f"momentret: {tmp_path / 'r.html'}: No space left on device\n"
    assert list(tmp_path.iterdir()) == [found]


def test_what_find_prints_is_shown_and_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coloured(tmp_path / "in" / "a.mp4", [("blue", 3.0), ("red", 2.0), ("green", 3.0)])
    assert momentret("find", "red", tmp_path / "in", "--encoder", "fake", "--clip-length", 0.5, "--json") == 0
    (tmp_path / "found.json").write_text(capsys.readouterr().out)
    assert momentret("report", tmp_path / "found.json", "-o", tmp_path / "r.html") == 0
    assert "<video" in (tmp_path / "r.html").read_text()
    assert momentret("cut", tmp_path / "found.json", "-o", tmp_path / "cuts", "--top", 1, "--nearest") == 0
    (cut,) = (tmp_path / "cuts").iterdir()
    image = next(sample_frames(cut, Sampling(clip_length=0.2))).image.mean(axis=(0, 1))
    assert image.argmax() == 0  # red
