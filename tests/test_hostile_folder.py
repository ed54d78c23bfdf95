"""A few of the files of `scripts/hostile_campaign.py`, of every kind, through `momentret index add`."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from momentret.search.index import CorpusIndex
from momentret.search.quarantine import Quarantine

from .helpers import momentret
from .hostile import CLIP, Case, fill, sources

SLOW = ("sparse film.mp4", "long samples.mp4", "a month of nothing.mkv")  # seconds each; the campaign has them


def some(cases: list[Case]) -> list[Case]:
    """Return two files of every folder and fate."""
    seen: Counter[tuple[str, str]] = Counter()
    chosen = []
    for case in cases:
        kind = case.path.parent.name, case.fate
        seen[kind] += 1
        if seen[kind] <= 2 and case.path.name not in SLOW and case.fate != "ignored":
            chosen.append(case)
    return chosen


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
def test_no_good_film_is_lost_among_hostile_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("made", "outside"):
        (tmp_path / name).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        films = sources(tmp_path / "made")
        cases = some(fill(tmp_path / "in", tmp_path / "outside", films, server.getsockname()[1], 1, os.geteuid() != 0))
        options = ["--encoder", "fake", "--clip-length", CLIP, "--threads", 1, "--workers", 2]
        assert len(cases) >= 25
        assert momentret("index", "add", tmp_path / "index", *options, "--", *(case.path for case in cases)) == 0
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "Traceback" not in capsys.readouterr().err
    with CorpusIndex.open(tmp_path / "index") as index:
        clips = {video.path: len(index.clips(video.video_id)) for video in index.videos()}
    reasons = {row.path: row.error for row in Quarantine(tmp_path / "index").all()}
    for case in cases:
        shown = os.fsencode(case.path).decode("utf-8", "backslashreplace")
        assert (str(case.path) in clips) != (shown in reasons), f"{shown!r} is either in or has a reason"
        assert case.fate != "good" or clips[str(case.path)] == 4, shown
        assert case.fate != "bad" or reasons[shown], shown
