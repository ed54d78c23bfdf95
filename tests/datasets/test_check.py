"""Annotations against features: what is missing, damaged or of the wrong length, by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from momentret.datasets import read_annotations
from momentret.datasets.check import Check, check_annotations, other_clip_length
from momentret.features import FeatureConfig, open_store
from tests.helpers import write_lines


def rows(count: int = 8) -> list[dict[str, Any]]:
    """Queries of 40-s videos: 20 clips of two seconds."""
    common = {"query": "q", "duration": 40.0, "relevant_windows": [[0, 4]]}
    return [{"qid": i, "vid": f"v{i}", **common} for i in range(count)]


def save(root: Path, i: int, clips: int = 20, dimension: int = 4, value: float = 1.0) -> None:
    for folder, name, key, length in [
        ("clip_features", f"v{i}", "features", clips),
        ("clip_text_features", f"qid{i}", "last_hidden_state", 3),
    ]:
        (root / folder).mkdir(exist_ok=True)
        np.savez(root / folder / f"{name}.npz", **{key: np.full((length, dimension), value, np.float32)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(8):
        save(tmp_path, i)
    return tmp_path


def check(root: Path, annotations: list[dict[str, Any]], dataset: str = "qvhighlights", **config: Any) -> Check:
    store = open_store(FeatureConfig(root=root, **config))
    return check_annotations(write_lines(root / "a.jsonl", annotations), dataset, store=store)


def found(result: Check) -> list[tuple[str, str]]:
    return [(finding.level, finding.where) for finding in result.findings]


def test_features_that_fit_leave_nothing_to_say(root: Path) -> None:
    result = check(root, rows())
    assert result == Check("qvhighlights", 8, 8, 8, (40.0, 40.0), ())
    assert result.ok


@pytest.mark.parametrize(
    ("clips", "level"), [(18, None), (22, None), (17, "warning"), (25, "warning"), (14, "error"), (26, "error")]
)
def test_lengths_are_compared_with_the_duration(root: Path, clips: int, level: str | None) -> None:
    save(root, 3, clips=clips)
    result = check(root, rows())
    assert found(result) == ([(level, "line 4")] if level else [])
    assert result.ok == (level != "error")
    if level:
        message = f"'clip' features of video 'v3' have {clips} rows, expected 20: 40 s at clip_length 2 s"
        assert result.findings[0].message == message


def test_missing_features_are_one_finding_with_the_first_five_and_the_count(root: Path) -> None:
    for i in range(7):
        (root / "clip_features" / f"v{i}.npz").unlink()
    result = check(root, rows())
    assert found(result) == [("error", "")]
    message = result.findings[0].message
    assert message.startswith("7 features missing: ")
    assert all(f"v{i}.npz" in message for i in range(5))
    assert "v5.npz" not in message


@pytest.mark.parametrize("folder", ["clip_features/v5.npz", "clip_text_features/qid5.npz"])
def test_a_damaged_file_is_named_at_its_row(root: Path, folder: str) -> None:
    (root / folder).write_bytes(b"PK\x03\x04 cut short")
    result = check(root, rows())
    assert found(result) == [("error", "line 6")]
    assert folder in result.findings[0].message


def test_values_and_dimensions_are_checked(root: Path) -> None:
    save(root, 6, value=float("nan"))
    save(root, 7, dimension=5)
    assert {where for _, where in found(check(root, rows()))} == {"line 7", "line 8"}


def test_a_video_is_reported_once_at_its_first_row(root: Path) -> None:
    save(root, 0, clips=40)
    annotations = rows(3)
    annotations[2]["vid"] = "v0"
    assert found(check(root, annotations)) == [("error", "line 1")]


def test_sources_that_cannot_be_joined_are_an_error(root: Path) -> None:
    (root / "slowfast_features").mkdir()
    for i in range(8):
        np.savez(root / "slowfast_features" / f"v{i}.npz", features=np.ones((18 if i else 17, 2), np.float32))
    result = check(root, rows(), video=("slowfast", "clip"))
    assert ("error", "line 1") in found(result)
    assert any("have [17, 20] rows; sources cannot be joined" in f.message for f in result.findings)
    assert {where for _, where in found(result)} == {"line 1"}


def test_rows_with_clip_labels_are_compared_with_their_labels(root: Path) -> None:
    labels = {"label": [[0]] * 20, "domain": "dog", "query": "dog", "duration": 33.3}
    annotations = [{"qid": i, "vid": f"v{i}", **labels} for i in range(2)]
    assert check(root, annotations, "youtube_highlights").ok
    save(root, 1, clips=30)
    result = check(root, annotations, "youtube_highlights")
    assert found(result) == [("error", "line 2")]
    assert "have 30 rows, expected 20: as many clips have labels" in result.findings[0].message


def test_an_unknown_clip_length_is_said_instead_of_guessed(root: Path) -> None:
    (root / "clip_features").rename(root / "vid_clip")
    (root / "clip_text_features").rename(root / "txt_clip")
    result = check(root, rows(), layout="univtg")
    assert found(result) == [("warning", "")]
    assert "clip length of 'clip' features is unknown" in result.findings[0].message
    assert found(check(root, rows(), layout="univtg", clip_length=2.0)) == []
    assert {level for level, _ in found(check(root, rows(), layout="univtg", clip_length=1.0))} == {"error"}


def test_text_features_are_optional(root: Path) -> None:
    (root / "clip_text_features" / "qid2.npz").unlink()
    assert not check(root, rows()).ok
    assert check(root, rows(), text=None).ok


def test_wrong_rows_do_not_hide_what_is_wrong_with_features(root: Path) -> None:
    annotations = rows()
    annotations[0]["duration"] = "long"
    save(root, 3, clips=40)
    result = check(root, annotations)
    assert found(result) == [("error", "line 1"), ("error", "line 4")]
    assert (result.queries, result.videos, result.windows) == (7, 7, 7)


def other(root: Path, clip_length: float, **config: Any) -> str:
    annotations = read_annotations(write_lines(root / "a.jsonl", rows()), "qvhighlights")
    return other_clip_length(annotations, open_store(FeatureConfig(root=root, **config)), clip_length)


def test_a_clip_length_that_features_deny_is_told(root: Path) -> None:
    assert other(root, 2.0) == ""
    assert other(root, 2.2) == "the 'clip' features say 2 s"


def test_a_clip_length_is_compared_with_rows_where_nothing_else_knows_it(root: Path) -> None:
    (root / "clip_features").rename(root / "vid_clip")
    (root / "clip_text_features").rename(root / "txt_clip")
    assert other(root, 2.0, layout="univtg") == ""
    told = "the 'clip' features of video 'v0' have 20 rows for 40 s, one every 2 s"
    assert other(root, 4.0, layout="univtg") == other(root, 1.0, layout="univtg") == told


def test_a_single_video_of_another_length_does_not_deny_a_clip_length(root: Path) -> None:
    for i in range(4):
        save(root, i, clips=40)
    assert other(root, 2.0) == ""
    save(root, 4, clips=40)
    assert other(root, 2.0) == "the 'clip' features of video 'v0' have 40 rows for 40 s, one every 1 s"
