"""Every layout of the table reads the files of its package as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from momentret.errors import ConfigError, FeatureError, MismatchError
from momentret.features import LAYOUTS, FeatureConfig, FeatureStore, open_store
from momentret.features.layouts import ANY

from .files import moment_detr_folder, rows, save_npy, save_npz

VIDEO, QUERY = rows(5, 4, seed=1), rows(3, 4, seed=2)


def write(root: Path, path: str, array: np.ndarray, key: str) -> None:
    """Write one feature file of the kind that its name says."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.endswith(".npz"):
        save_npz(target, **{key: array})
    elif path.endswith(".npy"):
        save_npy(target, array)
    elif path.endswith(".pt"):
        torch.save(torch.from_numpy(array), target)
    else:
        with h5py.File(target, "a") as file:
            file[key] = array


# layout, family, file, key; one line for every pattern of the table
VIDEO_FILES = [
    ("moment_detr", "slowfast", "slowfast_features/v_1.npz", "features"),
    ("moment_detr", "clip", "clip_features/v_1.npz", "features"),
    ("moment_detr", "pann", "umt_pann_features/v_1.npy", ""),
    ("cg_detr_qvhighlights", "clip", "clip_features/v_1.npz", "features"),
    ("cg_detr_charades", "clip", "clip_features/v_1.npz", "features"),
    ("cg_detr_charades", "vgg", "vgg_features/rgb_features/v_1.npy", ""),
    ("cg_detr_tacos", "slowfast", "slowfast_features/v_1.npz", "features"),
    ("cg_detr_tvsum", "audio", "audio_features/v_1.npy", ""),
    ("cg_detr_youtube", "clip", "vid_clip/v_1.npz", "features"),
    ("cg_detr_youtube", "clip", "vid_clip/v_1.npy", ""),
    ("cg_detr_youtube", "slowfast", "vid_slowfast/v_1.npy", ""),
    ("univtg", "clip", "vid_clip/v_1.npz", "features"),
    ("univtg", "clip", "h5py/vid_clip.hdf5", "v_1"),
    ("univtg", "slowfast", "h5py/vid_slowfast.hdf5", "v_1"),
    ("lighthouse", "clip", "CLIP/v_1.npz", "features"),
    ("lighthouse_qvhighlights", "resnet", "resnet/v_1.npz", "features"),
    ("lighthouse_charades", "slowfast", "SlowFast/v_1.npz", "features"),
    ("lighthouse_activitynet", "pann", "pann/v_1.npy", ""),
    ("lighthouse_tacos", "clip", "clip/v_1.npz", "features"),
    ("lighthouse_tvsum", "clip", "clip/v_1.npz", "features"),
    ("lighthouse_youtube", "clip", "clip/v_1.npz", "features"),
    ("hirest", "eva_clip", "eva_clip_features/v_1.mp4.pt", ""),
    ("hirest", "eva_clip_32_frames", "eva_clip_features_32_frame/v_1.mp4.pt", ""),
    ("hirest", "speech", "ASR_feats_all-MiniLM-L6-v2/v_1.pt", ""),
    ("vid_morp", "clip", "data/charades/feat/v_1.npy", ""),
    ("hdf5", "c3d", "c3d.hdf5", "v_1"),
    ("hdf5", "c3d", "c3d.h5", "v_1/c3d_features"),
    ("hdf5", "sub_activitynet_v1-3.c3d.hdf5", "sub_activitynet_v1-3.c3d.hdf5", "v_1/c3d_features"),
    ("npz", "any-name", "any-name/v_1.npz", "features"),
]

TEXT_FILES = [
    ("moment_detr", "7", "clip_text_features/qid7.npz", "last_hidden_state"),
    ("moment_detr", "v_1_12", "clip_sub_features/v_1/12.npz", "last_hidden_state"),
    ("cg_detr_charades", "7", "clip_text_features/qid7.npz", "last_hidden_state"),
    ("cg_detr_tacos", "s1-d2_0", "clip_text_features/s1-d2_0.npz", "last_hidden_state"),
    ("cg_detr_tvsum", "v_1", "query_features/v_1.npz", "token"),
    ("cg_detr_youtube", "v_1", "txt_clip/v_1.npz", "last_hidden_state"),
    ("univtg", "7", "txt_clip/7.npz", "last_hidden_state"),
    ("univtg", "7", "txt_clip/qid7.npz", "last_hidden_state"),
    ("univtg", "7", "h5py/txt_clip.hdf5", "7"),
    ("lighthouse", "7", "clip_text/qid7.npz", "last_hidden_state"),
    ("lighthouse_tacos", "s1-d2_0", "clip_text/s1-d2_0.npz", "last_hidden_state"),
    ("lighthouse_tvsum", "v_1", "clip_text/v_1.npz", "token"),
    ("lighthouse_youtube", "v_1", "clip_text/v_1.npz", "last_hidden_state"),
]


def video_store(root: Path, layout: str, family: str) -> FeatureStore:
    return open_store(FeatureConfig(layout=layout, root=root, video=(family,), text=None))


@pytest.mark.parametrize(("layout", "family", "path", "key"), VIDEO_FILES)
def test_video_files_are_read_where_the_package_has_them(
    tmp_path: Path, layout: str, family: str, path: str, key: str
) -> None:
    write(tmp_path, path, VIDEO, key)
    store = video_store(tmp_path, layout, family)
    assert store.video[0].ids() == ["v_1"]
    (read,) = store.read_video("v_1")
    np.testing.assert_array_equal(read, VIDEO)
    assert (store.manifest.video[0].dimension, store.manifest.video[0].dtype) == (4, "float16")


@pytest.mark.parametrize(("layout", "query_id", "path", "key"), TEXT_FILES)
def test_text_files_are_read_where_the_package_has_them(
    tmp_path: Path, layout: str, query_id: str, path: str, key: str
) -> None:
    name, family, video_path, video_key = next(row for row in VIDEO_FILES if row[0] == layout and row[1] != "pann")
    write(tmp_path, video_path, VIDEO, video_key)
    write(tmp_path, path, QUERY, key)
    store = open_store(FeatureConfig(layout=name, root=tmp_path, video=(family,), text="clip"))
    assert store.text is not None
    assert store.text.ids() == [query_id]
    np.testing.assert_array_equal(store.read_text(query_id), QUERY)


def test_every_layout_but_the_special_ones_is_tried_above() -> None:
    assert {row[0] for row in VIDEO_FILES} == set(LAYOUTS) - {"packed", "r2_tuning"}


@pytest.mark.parametrize(("layout", "folder"), [("cg_detr_tvsum", "video_features"), ("lighthouse_tvsum", "i3d")])
def test_colour_and_flow_are_joined_by_columns(tmp_path: Path, layout: str, folder: str) -> None:
    save_npy(tmp_path / folder / "v_1_rgb.npy", VIDEO)
    save_npy(tmp_path / folder / "v_1_opt.npy", VIDEO + 1)
    store = video_store(tmp_path, layout, "i3d")
    assert store.video[0].ids() == ["v_1"]
    np.testing.assert_array_equal(store.read_video("v_1")[0], np.hstack((VIDEO, VIDEO + 1)))


def test_colour_and_flow_of_different_lengths_are_refused(tmp_path: Path) -> None:
    for i, shorter in enumerate((0, 1)):
        save_npy(tmp_path / "i3d" / f"v_{i}_rgb.npy", VIDEO)
        save_npy(tmp_path / "i3d" / f"v_{i}_opt.npy", VIDEO[shorter:])
    with pytest.raises(FeatureError, match=r"v_1_rgb\.npy .* \(5, 4\) and \(4, 4\)"):
        video_store(tmp_path, "lighthouse_tvsum", "i3d").read_video("v_1")


def test_r2_tuning_gives_the_class_token_of_the_last_layer(tmp_path: Path) -> None:
    video, text = rows(5 * 4 * 3 * 2).reshape(5, 4, 3, 8), rows(3 * 4 * 2).reshape(3, 4, 8)
    save_npy(tmp_path / "clip_b32_vid_k4" / "v_1.npy", video)
    save_npy(tmp_path / "clip_b32_vid_k4" / "s1-d2-cam-002.npy", video[:2])
    save_npy(tmp_path / "clip_b32_txt_k4" / "7.npy", text)
    store = open_store(FeatureConfig(layout="r2_tuning", root=tmp_path))
    np.testing.assert_array_equal(store.read_video("v_1")[0], video[:, -1, 0])
    np.testing.assert_array_equal(store.read_video("s1-d2")[0], video[:2, -1, 0])
    np.testing.assert_array_equal(store.read_text(7), text[:, -1])
    assert store.video[0].ids() == ["s1-d2", "v_1"]


def test_hdf5_may_be_the_root_itself(tmp_path: Path) -> None:
    write(tmp_path, "one.h5", VIDEO, "v_1")
    np.testing.assert_array_equal(video_store(tmp_path / "one.h5", "hdf5", "c3d").read_video("v_1")[0], VIDEO)


def test_our_npz_says_what_it_is(tmp_path: Path) -> None:
    save_npz(tmp_path / "clip" / "v_1.npz", features=VIDEO, clip_length=np.float64(1.5), encoder="ViT-B-16/x")
    manifest = video_store(tmp_path, "npz", "clip").manifest.video[0]
    assert (manifest.clip_length, manifest.encoder) == (1.5, "ViT-B-16/x")


def test_folders_that_differ_by_case_only_are_ambiguous(tmp_path: Path) -> None:
    for folder in ("CLIP", "Clip"):
        save_npz(tmp_path / folder / "v_1.npz", features=VIDEO)
    with pytest.raises(FeatureError, match="CLIP and Clip; rename the right one to clip"):
        video_store(tmp_path, "lighthouse", "clip")
    save_npz(tmp_path / "clip" / "v_2.npz", features=VIDEO)
    assert video_store(tmp_path, "lighthouse", "clip").video[0].ids() == ["v_2"]


def test_a_folder_is_preferred_to_the_cache_and_the_cache_is_known_to_be_normalised(tmp_path: Path) -> None:
    write(tmp_path, "h5py/vid_clip.hdf5", VIDEO, "v_1")
    assert video_store(tmp_path, "univtg", "clip").manifest.video[0].normalisation == "l2"
    write(tmp_path, "vid_clip/v_2.npz", VIDEO, "features")
    store = video_store(tmp_path, "univtg", "clip")
    assert (store.manifest.video[0].normalisation, store.video[0].ids()) == ("none", ["v_2"])


def test_a_file_belongs_to_the_pattern_that_fits_it_best(tmp_path: Path) -> None:
    moment_detr_folder(tmp_path / "a")
    (tmp_path / "a" / "clip_text_features").rename(tmp_path / "txt_clip")
    (tmp_path / "a" / "clip_features").rename(tmp_path / "vid_clip")
    store = open_store(FeatureConfig(layout="univtg", root=tmp_path))
    assert store.text is not None
    assert store.text.ids() == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "item_id", ["", ".", "..", "../v_1", "a/b", "/etc/passwd", "a\\b", "v\0", "../../x", "..\\v"], ids=repr
)
@pytest.mark.parametrize("layout", ["moment_detr", "hdf5"])
def test_ids_that_leave_the_folder_are_refused(tmp_path: Path, layout: str, item_id: str) -> None:
    moment_detr_folder(tmp_path)
    write(tmp_path, "clip.hdf5", VIDEO, "v_1")
    store = video_store(tmp_path, layout, "clip")
    uses: list[Callable[[str], object]] = [store.read_video, lambda name: store.missing([name])]
    for use in uses:
        with pytest.raises(FeatureError, match="cannot name features"):
            use(item_id)


def test_a_query_id_cannot_leave_the_folder_through_its_video_part(tmp_path: Path) -> None:
    save_npz(tmp_path / "clip_sub_features" / "v_1" / "0.npz", last_hidden_state=QUERY)
    save_npz(tmp_path / "clip_features" / "v_1.npz", features=VIDEO)
    store = open_store(FeatureConfig(root=tmp_path))
    with pytest.raises(FeatureError, match="cannot name features"):
        store.read_text(".._0")
    with pytest.raises(FeatureError, match=r"'7'.*are missing"):
        store.read_text(7)


@pytest.mark.parametrize("item_id", ["-x_y.0", "bP5KfdFJzC4_660.0_810.0", "...", "a b", "é", "{vid}", "%s", "~", "*"])
def test_odd_ids_that_are_file_names_work(tmp_path: Path, item_id: str) -> None:
    write(tmp_path, f"clip_features/{item_id}.npz", VIDEO, "features")
    write(tmp_path, "clip.hdf5", VIDEO, item_id)
    for layout in ("moment_detr", "hdf5"):
        store = video_store(tmp_path, layout, "clip")
        assert store.video[0].ids() == [item_id]
        np.testing.assert_array_equal(store.read_video(item_id)[0], VIDEO)


def test_the_error_of_a_missing_query_names_all_that_was_tried(tmp_path: Path) -> None:
    write(tmp_path, "vid_clip/v_1.npz", VIDEO, "features")
    write(tmp_path, "txt_clip/1.npz", QUERY, "last_hidden_state")
    store = open_store(FeatureConfig(layout="univtg", root=tmp_path))
    with pytest.raises(FeatureError, match=r"'9' .*txt_clip/9\.npz or .*txt_clip/qid9\.npz.* are missing"):
        store.read_text(9)


def test_one_damaged_file_does_not_decide_the_dimension(tmp_path: Path) -> None:
    moment_detr_folder(tmp_path)
    (tmp_path / "clip_features" / "v_0.npz").write_bytes(b"PK")
    save_npz(tmp_path / "clip_features" / "v_1.npz", features=rows(5, 99))
    store = video_store(tmp_path, "moment_detr", "clip")
    assert store.manifest.video[0].dimension == 4
    with pytest.raises(FeatureError, match=r"clip_features/v_1\.npz has rows of 99 numbers, expected 4"):
        store.read_video("v_1")


def test_a_family_of_damaged_files_does_not_open(tmp_path: Path) -> None:
    save_npz(tmp_path / "clip_features" / "v_1.npz", features=np.full((2, 3), np.nan))
    with pytest.raises(FeatureError, match=r"v_1\.npz holds NaN"):
        video_store(tmp_path, "moment_detr", "clip")


def test_an_empty_folder_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "clip_features").mkdir()
    with pytest.raises(FeatureError, match=r"clip_features holds no file \{vid\}\.npz"):
        video_store(tmp_path, "moment_detr", "clip")


def test_an_absent_family_names_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"tried vid_clip/\{vid\}\.npz or h5py/vid_clip\.hdf5"):
        video_store(tmp_path, "univtg", "clip")
    with pytest.raises(FeatureError, match="does not exist"):
        video_store(tmp_path / "nowhere", "univtg", "clip")


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'moment_dert' is unknown, did you mean 'moment_detr'"):
        FeatureConfig(layout="moment_dert", root=tmp_path)
    with pytest.raises(ConfigError, match="no video family 'slowfats', did you mean 'slowfast'"):
        video_store(tmp_path, "moment_detr", "slowfats")


@pytest.mark.parametrize(
    "options", [{"video": ()}, {"video": ("clip", "clip")}, {"video": ("..",)}, {"text": "a/b"}, {"clip_length": 0.0}]
)
def test_a_config_that_cannot_be_meant_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FeatureConfig(root=tmp_path, **options)  # type: ignore[arg-type]


def test_the_clip_length_is_the_familys_then_the_layouts_unless_the_user_says(tmp_path: Path) -> None:
    moment_detr_folder(tmp_path)
    save_npy(tmp_path / "vgg_features" / "rgb_features" / "v_1.npy", VIDEO)
    assert video_store(tmp_path, "cg_detr_charades", "clip").manifest.video[0].clip_length == 1.0
    assert video_store(tmp_path, "cg_detr_charades", "vgg").manifest.video[0].clip_length == 0.166666
    config = FeatureConfig(root=tmp_path, clip_length=1.5)
    assert open_store(config).manifest.video[0].clip_length == 1.5


def test_families_of_different_clip_lengths_are_not_joined(tmp_path: Path) -> None:
    moment_detr_folder(tmp_path)
    save_npy(tmp_path / "vgg_features" / "rgb_features" / "v_1.npy", VIDEO)
    with pytest.raises(MismatchError, match=r"clip_length of 'vgg' is 0\.166666 s, of 'clip' 1\.0 s"):
        open_store(FeatureConfig(layout="cg_detr_charades", root=tmp_path, video=("clip", "vgg"), text=None))


def test_the_table_uses_only_known_placeholders() -> None:
    assert LAYOUTS
    for layout in LAYOUTS.values():
        for families, item in ((layout.video, "vid"), (layout.text, "qid")):
            for name, alternatives in families.items():
                for pattern in (pattern for family in alternatives for pattern in family.files):
                    values = {item: "1", "vid": "1", "k": "1", **({"family": "x"} if name == ANY else {})}
                    pattern.format(**values)
