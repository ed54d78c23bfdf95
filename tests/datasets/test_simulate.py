from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from momentret.datasets import read_annotations
from momentret.datasets.simulate import Simulation, simulate
from momentret.errors import OutputExistsError
from momentret.features import FeatureConfig, open_store

from ..helpers import momentret


def test_what_is_simulated_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("data", "simulate", tmp_path / "new", "--train", 9, "--val", 4, "--clips", 20) == 0
    for split in ("train", "val"):
        paths = tmp_path / "new" / f"{split}.jsonl", "--features", tmp_path / "new" / "features"
        assert momentret("data", "check", *paths) == 0


def test_the_query_can_be_seen_in_its_window(tmp_path: Path) -> None:
    paths = simulate(tmp_path / "new", Simulation(train=30, val=1))
    store = open_store(FeatureConfig(root=paths["features"]))
    inside, outside = [], []
    for annotation in read_annotations(paths["train"], "qvhighlights"):
        length = np.linalg.norm(store.read_video(annotation.video_id)[0].astype(float), axis=1)
        relevant = np.isin(np.arange(len(length)), annotation.relevant_clips)
        inside.append(length[relevant].mean())
        outside.append(length[~relevant].mean())
    assert np.mean(inside) > 1.2 * np.mean(outside)


def test_the_same_seed_makes_the_same_set(tmp_path: Path) -> None:
    a, b = (simulate(tmp_path / name, Simulation(train=3, val=2)) for name in "ab")
    assert a["train"].read_text() == b["train"].read_text()
    stores = [open_store(FeatureConfig(root=paths["features"])) for paths in (a, b)]
    np.testing.assert_array_equal(*(store.read_video("train00001")[0] for store in stores))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(OutputExistsError):
        simulate(tmp_path, Simulation())
