from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from momentret.errors import FeatureError, MismatchError, OutputExistsError
from momentret.features import (
    FeatureConfig,
    FeatureStore,
    check_store,
    find_families,
    open_store,
    pack_store,
    summarise_store,
)

from .files import moment_detr_folder, rows, save_npz


def opened(root: Path, *video: str, text: str | None = "clip") -> FeatureStore:
    return open_store(FeatureConfig(root=root, video=video or ("slowfast", "clip"), text=text))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return moment_detr_folder(tmp_path / "features")


def test_sources_come_in_the_stated_order(root: Path) -> None:
    for video in (("slowfast", "clip"), ("clip", "slowfast")):
        store = opened(root, *video)
        assert tuple(source.family for source in store.manifest.video) == video
        assert [array.shape[1] for array in store.read_video("v_2")] == [{"slowfast": 6, "clip": 4}[f] for f in video]


def test_a_folder_alone_is_its_clip_features(root: Path) -> None:
    assert open_store(str(root)).manifest == opened(root, "clip").manifest


def test_rows_are_as_on_file(root: Path) -> None:
    store = opened(root)
    np.testing.assert_array_equal(store.read_video("v_1")[0], rows(6, 6, seed=1))
    np.testing.assert_array_equal(store.read_text(3), rows(3, 4, seed=203))
    np.testing.assert_array_equal(store.read_text("3"), store.read_text(3))


def test_what_is_missing_is_listed_with_the_files_tried(root: Path) -> None:
    (root / "clip_features" / "v_1.npz").unlink()
    missing = opened(root).missing({"v_0", "v_1", "v_9"}, {1, "77"})
    assert len(missing) == 4
    assert missing[0].startswith("slowfast features of 'v_9' (")
    assert missing[1].endswith("clip_features/v_1.npz)")
    assert missing[3].endswith("clip_text_features/qid77.npz)")
    assert opened(root).missing(["v_0"], [0]) == []


def test_a_store_without_text_says_so(root: Path) -> None:
    store = opened(root, text=None)
    with pytest.raises(FeatureError, match="opened without text"):
        store.read_text(0)
    assert len(store.missing(["v_0"], [0, 1])) == 2
    assert store.manifest.text is None


def test_text_that_is_not_there_is_called_text(root: Path) -> None:
    shutil.rmtree(root / "clip_text_features")
    with pytest.raises(FeatureError, match="holds no text features 'clip': tried clip_text_features"):
        opened(root)


def test_a_packed_store_holds_the_same_and_matches(root: Path, tmp_path: Path) -> None:
    folders = opened(root)
    pack_store(folders, tmp_path / "packed")
    packed = opened(tmp_path / "packed")  # recognised: the layout still says moment_detr
    for i in range(6):
        for own, other in zip(packed.read_video(f"v_{i}"), folders.read_video(f"v_{i}"), strict=True):
            np.testing.assert_array_equal(own, other)
            assert own.dtype == other.dtype
        np.testing.assert_array_equal(packed.read_text(i), folders.read_text(i))
    assert packed.manifest == folders.manifest
    folders.manifest.require_match(packed.manifest)


def test_features_in_another_order_do_not_match(root: Path) -> None:
    with pytest.raises(MismatchError, match="order of video sources"):
        opened(root).manifest.require_match(opened(root, "clip", "slowfast").manifest)


def test_a_clip_length_that_contradicts_a_packed_store_is_refused(root: Path, tmp_path: Path) -> None:
    pack_store(opened(root), tmp_path / "packed")
    config = FeatureConfig(layout="packed", root=tmp_path / "packed")
    assert open_store(replace(config, clip_length=2.0)).manifest.video[0].clip_length == 2.0
    with pytest.raises(MismatchError, match=r"features\.clip_length is 1\.0 s, but the 'clip' features say 2\.0 s"):
        open_store(replace(config, clip_length=1.0))


def test_a_clip_length_that_nobody_knew_is_filled_in(root: Path, tmp_path: Path) -> None:
    (root / "clip_features").rename(root / "clip")
    pack_store(
        open_store(FeatureConfig(layout="lighthouse", root=root, video=("clip",), text=None)), tmp_path / "packed"
    )
    config = FeatureConfig(layout="packed", root=tmp_path / "packed", text=None)
    assert open_store(config).manifest.video[0].clip_length is None
    assert open_store(replace(config, clip_length=1.0)).manifest.video[0].clip_length == 1.0


def test_a_clip_length_can_stand_in_for_the_layouts_but_not_for_a_packed_stores(root: Path, tmp_path: Path) -> None:
    assert open_store(FeatureConfig(root=root), clip_length=1.0).manifest.video[0].clip_length == 1.0
    assert open_store(FeatureConfig(root=root, clip_length=1.5), clip_length=1.0).manifest.video[0].clip_length == 1.5
    pack_store(opened(root), tmp_path / "packed")
    packed = FeatureConfig(layout="packed", root=tmp_path / "packed")
    assert open_store(packed, clip_length=1.0).manifest.video[0].clip_length == 2.0


def test_packing_can_keep_some_ids(root: Path, tmp_path: Path) -> None:
    pack_store(opened(root), tmp_path / "packed", ids={"v_1", "v_3", "5"})
    store = opened(tmp_path / "packed")
    assert [source.ids() for _, source in store.families()] == [["v_1", "v_3"], ["v_1", "v_3"], ["5"]]


def test_ids_that_are_nowhere_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="2 ids in no family: w_1, w_2; correct the list"):
        pack_store(opened(root), tmp_path / "packed", ids={"v_1", "0", "w_1", "w_2"})
    assert not (tmp_path / "packed").exists()


def test_packing_can_change_the_number_format(root: Path, tmp_path: Path) -> None:
    pack_store(opened(root), tmp_path / "packed", dtype="float32")
    store = opened(tmp_path / "packed")
    assert {source.manifest.dtype for _, source in store.families()} == {"float32"}
    np.testing.assert_array_equal(store.read_text(1), rows(3, 4, seed=201).astype(np.float32))


def test_packing_as_float16_refuses_what_does_not_fit(root: Path, tmp_path: Path) -> None:
    save_npz(root / "clip_features" / "v_3.npz", features=np.full((8, 4), 1e6, np.float32))
    with pytest.raises(FeatureError, match=r"'v_3' .* would lose precision"):
        pack_store(opened(root), tmp_path / "packed")
    with pytest.raises(FeatureError, match="'v_3' holds NaN or infinite"):
        pack_store(opened(root), tmp_path / "packed", dtype="float16")
    pack_store(opened(root), tmp_path / "packed", dtype="float32")


def test_a_damaged_file_stops_the_packing_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    (root / "clip_features" / "v_4.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(FeatureError, match=r"v_4\.npz is not a whole zip file"):
        pack_store(opened(root), tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["features"]


def test_packing_does_not_overwrite(root: Path, tmp_path: Path) -> None:
    pack_store(opened(root), tmp_path / "packed")
    with pytest.raises(OutputExistsError):
        pack_store(opened(root), tmp_path / "packed")
    pack_store(opened(tmp_path / "packed"), tmp_path / "packed", overwrite=True)  # onto itself
    assert check_store(opened(tmp_path / "packed")) == []


def test_a_whole_package_has_no_problems(root: Path) -> None:
    assert check_store(opened(root)) == []


def test_the_check_finds_every_bad_file(root: Path) -> None:
    save_npz(root / "clip_features" / "v_0.npz", features=rows(9, 4))  # slowfast has 5
    save_npz(root / "clip_features" / "v_1.npz", features=np.full((6, 4), np.nan))
    save_npz(root / "slowfast_features" / "v_2.npz", features=rows(7, 3))
    (root / "slowfast_features" / "v_3.npz").unlink()
    (root / "clip_text_features" / "qid4.npz").write_bytes(b"")
    problems = check_store(opened(root))
    assert len(problems) == 5
    for expected in (
        "v_2.npz has rows of 3 numbers, expected 6",
        "v_1.npz holds NaN",
        "qid4.npz is not a whole zip",
        "video/slowfast: 1 of 6 videos missing: v_3",
        "video 'v_0' has 5 rows in video/slowfast, 9 rows in video/clip",
    ):
        assert any(expected in problem for problem in problems), expected


def test_the_check_finds_damage_in_a_packed_store(root: Path, tmp_path: Path) -> None:
    pack_store(opened(root), tmp_path / "packed")
    path = tmp_path / "packed" / "video" / "clip" / "rows.npy"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    (problem,) = check_store(opened(tmp_path / "packed"))
    assert problem.startswith("clip features of 'v_1' (")
    assert "checksum differs" in problem


def test_the_summary_counts_items_and_rows(root: Path) -> None:
    summary = summarise_store(opened(root))
    assert list(summary) == ["video/slowfast", "video/clip", "text/clip"]
    clip = summary["video/clip"]
    assert (clip["items"], clip["rows"], clip["bytes"]) == (6, 45, 45 * 4 * 2)
    assert clip["rows_per_item"] == {"min": 5, "median": 7.5, "mean": 7.5, "max": 10}
    assert clip["manifest"]["encoder"] == "ViT-B-32/openai"


def test_the_families_that_are_there_are_found(root: Path, tmp_path: Path) -> None:
    assert find_families("moment_detr", root) == (("slowfast", "clip"), "clip")
    pack_store(opened(root), tmp_path / "packed")
    assert find_families("moment_detr", tmp_path / "packed") == (("clip", "slowfast"), "clip")
    shutil.rmtree(root / "slowfast_features")
    shutil.rmtree(root / "clip_text_features")
    assert find_families("moment_detr", root) == (("clip",), None)


def test_a_folder_without_features_says_so(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="holds no video features in the layout 'univtg'"):
        find_families("univtg", tmp_path)
