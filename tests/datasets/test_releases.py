"""The released files, where they are at hand: counts as published with each dataset."""

from __future__ import annotations

import pytest

from momentret.datasets import detect_dataset, examine, read_annotations
from momentret.datasets.splits import hold_out
from tests.helpers import SHARED

FILES = SHARED / "annotations"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the released annotations are not at hand")

RAW = FILES / "charades_sta_raw"
TABLES = [RAW / "Charades_v1_train.csv", RAW / "Charades_v1_test.csv"]

COUNTS = [  # file, dataset, queries, videos, windows
    ("qvhighlights/highlight_train_release.jsonl", "qvhighlights", 7218, 7100, 12803),
    ("qvhighlights/highlight_val_release.jsonl", "qvhighlights", 1550, 1519, 2803),
    ("qvhighlights/highlight_test_with_gt.jsonl", "qvhighlights", 1542, 1529, 2761),
    ("charades_sta/charades_train_release.jsonl", "charades_sta", 12404, 5336, 12404),
    ("charades_sta/charades_test_release.jsonl", "charades_sta", 3720, 1334, 3720),
    ("activitynet/activitynet_val_release.jsonl", "activitynet", 17505, 4917, 17505),
    ("activitynet_captions/train.json.gz", "activitynet", 37421 - 2, 10009, 37421 - 2),
    ("activitynet_captions/val_1.json", "activitynet", 17505, 4917, 17505),
    ("activitynet_captions/val_2.json", "activitynet", 17031, 4885, 17031),
    ("tacos/tacos_train_release.jsonl", "tacos", 9790, 75, 9790),
    ("tacos/tacos_val_release.jsonl", "tacos", 4436, 27, 4436),
    ("tacos/tacos_test_release.jsonl", "tacos", 4001, 25, 4001),
    ("tvsum/tvsum_train_release.jsonl", "tvsum", 40, 40, 0),
    ("tvsum/tvsum_val_release.jsonl", "tvsum", 10, 10, 0),
    ("youtube_highlights/youtube_highlight_train_release.jsonl", "youtube_highlights", 233, 233, 0),
    ("youtube_highlights/youtube_highlight_val_release.jsonl", "youtube_highlights", 152, 152, 0),
]


@pytest.mark.parametrize(("name", "dataset", "queries", "videos", "windows"), COUNTS)
def test_counts(name: str, dataset: str, queries: int, videos: int, windows: int) -> None:
    found = read_annotations(FILES / name, dataset)
    assert len(found) == queries
    assert len({annotation.video_id for annotation in found}) == videos
    assert sum(len(annotation.windows) for annotation in found) == windows
    assert detect_dataset(FILES / name) == dataset


def test_the_hidden_test_split_has_no_windows() -> None:
    found = read_annotations(FILES / "qvhighlights/highlight_test_release.jsonl", "qvhighlights")
    assert len(found) == 1542
    assert not any(annotation.windows for annotation in found)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_charades_text_becomes_exactly_the_release(split: str) -> None:
    text = read_annotations(RAW / f"charades_sta_{split}.txt", "charades_sta", durations=TABLES)
    assert text == read_annotations(FILES / f"charades_sta/charades_{split}_release.jsonl", "charades_sta")


@pytest.mark.parametrize(("split", "cut", "inside"), [("train", 1805, 10602), ("test", 562, 3158)])
def test_the_charades_repair(split: str, cut: int, inside: int) -> None:
    path = RAW / f"charades_sta_{split}.txt"
    rules = [f.rule for f in examine(path, "charades_sta", TABLES).findings]
    assert rules.count("window cut to the end of its video") == cut
    assert rules.count("window ends before it starts") == (4 if split == "train" else 0)
    assert len(read_annotations(path, "charades_sta", TABLES, subset="inside")) == inside


def test_the_corrected_charades_text_has_four_queries_more() -> None:
    durations = [FILES / "charades_sta/durations.json"]
    found = read_annotations(FILES / "charades_sta/charades_sta_train.txt", "charades_sta", durations)
    release = read_annotations(FILES / "charades_sta/charades_train_release.jsonl", "charades_sta")
    assert len(found) == 12408
    assert [a for a in found if int(a.query_id) < 12404] == release


@pytest.mark.parametrize(
    ("name", "cut", "turned", "dropped"),
    [("train.json.gz", 29, 2, 2), ("val_1.json", 5, 0, 0), ("val_2.json", 1, 0, 0)],
)
def test_the_activitynet_repair(name: str, cut: int, turned: int, dropped: int) -> None:
    rules = [f.rule for f in examine(FILES / "activitynet_captions" / name, "activitynet").findings]
    assert rules.count("window cut to the end of its video") == cut
    assert rules.count("window turned round") == turned
    assert rules.count("window is empty") == dropped


def test_activitynet_query_ids_are_those_of_the_release() -> None:
    original = read_annotations(FILES / "activitynet_captions/val_1.json", "activitynet")
    release = read_annotations(FILES / "activitynet/activitynet_val_release.jsonl", "activitynet")
    assert [(a.query_id, a.video_id) for a in original] == [(a.query_id, a.video_id) for a in release]


def test_a_tenth_of_the_charades_videos_is_held_out() -> None:
    release = read_annotations(FILES / "charades_sta/charades_train_release.jsonl", "charades_sta")
    train, held_out = hold_out(release)
    assert (len(train), len(held_out)) == (11200, 1204)
    assert len({a.video_id for a in held_out}) == 539
