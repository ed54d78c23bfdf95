"""The command line as a whole: statuses, one-line errors, a quick --help."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from momentret.cli.console import LogLine

from .helpers import momentret


def test_help_names_the_command_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("--help") == 0
    assert "momentret" in capsys.readouterr().out


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("evaluat") == 2
    assert "No such command 'evaluat'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-dash", "--dash", "--dog runs"])
def test_what_begins_with_a_dash_is_said_to_go_after_two(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert momentret("search", "index", word) == 2
    assert "begin with - go last, after --" in capsys.readouterr().err


def test_a_misspelt_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("search", "index", "dog", "--minu", "cat") == 2
    assert "No such option: --minu (Possible options: --minus)" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["data", "check"], ["predict"], ["cut", "--output", "clips"]])
def test_a_folder_in_place_of_a_file_is_told_so(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["queries.jsonl", "--features", "f", "--output", tmp_path / "o.jsonl"] if verb[0] == "predict" else []
    assert momentret(*verb, tmp_path, *rest) == 1
    assert capsys.readouterr().err == f"momentret: {tmp_path} is a folder, and a file was expected; name the file\n"


def test_help_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "momentret", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The bar is 0.5 CPU-s; twice that leaves room for a shared machine and still catches any import of torch.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


TERMINATED = """
import os, signal, sys
from pathlib import Path
from momentret import cli, files

@cli.app.command()
def wait(path: Path) -> None:
    with files.stage_for(path / "made") as stage:
        (stage / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit("it goes on")

cli.main()
"""


def test_sigterm_ends_a_command_as_ctrl_c_does(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TERMINATED, "wait", tmp_path], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"momentret: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "who"), [("momentret.search.index.store", ""), ("av.container", "av.container: ")])
def test_a_log_record_is_one_line_that_names_its_source_if_foreign(name: str, who: str) -> None:
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, "%s could\nnot be \x1bread", ("a\nb",), None)
    assert LogLine().format(record) == f"warning: {who}a b could not be \\x1bread"
