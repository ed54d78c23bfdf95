"""The films of `scripts/demo` show what their truth says, when it says so."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momentret.datasets import read_annotations
from momentret.files import write_jsonl
from momentret.video import Sampling, sample_frames

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import demo_corpus

    yield demo_corpus
    sys.modules.pop("demo_corpus")


@pytest.fixture
def photographs(tmp_path: Path) -> dict[str, Path]:
    """Two plain photographs, red and blue."""
    files = {}
    for name in ("red", "blue"):
        files[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (120, 100), name).save(files[name])
    return files


@pytest.mark.parametrize("dissolves", [False, True])
@pytest.mark.parametrize("name", ["reel.mp4", "reel.mkv", "reel.ts"])
def test_scenes_change_where_the_truth_says(maker, photographs, tmp_path, name: str, dissolves: bool) -> None:  # type: ignore[no-untyped-def]
    scenes = [("red", 2.0), ("blue", 1.5), ("card", 1.0), ("red", 1.5)]
    reel = maker.Reel(name, scenes, (96, 64), Fraction(30000, 1001), 20, dissolves)
    windows = maker.scene_windows(reel)
    assert np.allclose(windows, [(0, 2.002), (2.002, 3.503), (3.503, 4.504), (4.504, 6.006)], atol=0.02)
    path = maker.render(reel, photographs, tmp_path)
    margin = 0.41 if dissolves else 0.01
    for (what, _), (start, end) in zip(scenes, windows, strict=True):
        times = tuple(np.linspace(start + margin, end - margin - 0.034, 4).tolist())
        for frame in sample_frames(path, Sampling(times=times)):
            red, _, blue = frame.image.mean(axis=(0, 1))
            assert {"red": red > 230 > 30 > blue, "blue": blue > 230 > 30 > red, "card": max(red, blue) < 130}[what]


def test_a_film_that_is_too_short_stays_on_its_last_picture(maker, photographs, tmp_path) -> None:  # type: ignore[no-untyped-def]
    short = maker.Reel("short.mp4", [("blue", 0.5)], (96, 64), Fraction(10))
    film = {"short": maker.render(short, photographs, tmp_path)}
    frames = list(maker.frames(maker.Reel("long.mp4", [("short", 2.0)], (96, 64), Fraction(10)), film))
    assert len(frames) == 20
    assert frames[-1][..., 2].mean() > 230


def test_every_query_of_the_demo_is_about_one_reel(maker, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = list(maker.truth(maker.REELS, maker.QUERIES))
    write_jsonl(tmp_path / "truth.jsonl", rows)
    annotations = read_annotations(tmp_path / "truth.jsonl", "qvhighlights")
    assert [annotation.query for annotation in annotations] == list(maker.QUERIES)
    known = {*maker.PHOTOGRAPHS, *maker.FILMS, "card"}
    assert {what for reel in maker.REELS for what, _ in reel.scenes} <= known
