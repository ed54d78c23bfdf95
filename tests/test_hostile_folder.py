"""A few of the files of `scripts/hostile_campaign.py`, of every kind, through `index add` and `extract`."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from momentret.search.index import CorpusIndex
from momentret.search.quarantine import Quarantine

from .helpers import momentret
from .hostile import CLIP, Case, fill, sources

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
OPTIONS = ("--encoder", "fake", "--clip-length", CLIP, "--threads", 1, "--workers", 2)
SLOW = ("sparse film.mp4", "long samples.mp4", "a month of nothing.mkv")  # seconds each; the campaign has them


WHOLE = ("good", "special", "folder.mp4", "closed")  # folders of different files; the others hold many of a kind
Filled = tuple[Path, list[Case]]


def some(cases: list[Case]) -> list[Case]:
    """Delete all but a few files of every folder and fate, and return those."""
    seen: Counter[tuple[str, str]] = Counter()
    chosen = []
    for case in cases:
        kind = case.path.parent.name, case.fate
        seen[kind] += 1
        if kind[0] in WHOLE or (seen[kind] <= 2 and case.path.name not in SLOW):
            chosen.append(case)
        else:
            case.path.unlink()
    return chosen


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A folder of hostile files and good ones; in the end nobody has asked the server that they name."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("made", "outside"):
        (folder / name).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        films, port = sources(folder / "made"), server.getsockname()[1]
        chosen = some(fill(folder / "in", folder / "outside", films, port, 1, os.geteuid() != 0))
        assert len(chosen) >= 50
        yield folder / "in", chosen
        with pytest.raises(BlockingIOError):
            server.accept()


def judge(case: Case, clips: int | None, reason: str | None) -> None:
    """Assert that a file became what it has to."""
    if case.fate == "ignored":
        assert clips is reason is None, case
        return
    assert (clips is None) == bool(reason), f"{case} is either in or has a reason"
    assert case.fate != "good" or clips == 4, case
    assert case.fate != "bad" or reason, case
    assert "\n" not in (reason or ""), case


def shown(case: Case) -> str:
    return os.fsencode(case.path).decode("utf-8", "backslashreplace")


def test_no_good_film_is_lost_to_an_index(filled: Filled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, cases = filled
    command = ("index", "add", tmp_path / "index", folder, *OPTIONS)
    assert momentret(*command) == 0
    assert "Traceback" not in capsys.readouterr().err
    with CorpusIndex.open(tmp_path / "index") as index:
        clips = {video.path: len(index.clips(video.video_id)) for video in index.videos()}
    reasons = {row.path: row.error for row in Quarantine(tmp_path / "index").all()}
    for case in cases:
        judge(case, clips.get(str(case.path)), reasons.get(shown(case)))
    assert momentret(*command) == 0
    assert f"0 added, {len(clips)} unchanged, {len(reasons)} in quarantine" in capsys.readouterr().out


def test_no_good_film_is_lost_to_a_store(filled: Filled, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, cases = filled
    assert momentret("extract", folder, "--output", tmp_path / "store", *OPTIONS, "--json") == 0
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    outcomes = {row["path"]: row for row in json.loads(output.out)["outcomes"]}
    for case in cases:
        row = outcomes.get(shown(case), {})
        judge(case, row.get("clips") or None, row.get("error"))
    assert momentret("features", "check", tmp_path / "store") == 0
