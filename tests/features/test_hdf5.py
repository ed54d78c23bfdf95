from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from momentret.errors import FeatureError
from momentret.features import FeatureConfig, FeatureStore, open_store

from .files import read_or_refuse, rows, send_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "c3d.hdf5", "w") as file:
        for i in range(8):
            file[f"v_{i}"] = rows(5, seed=i)
    return tmp_path / "c3d.hdf5"


def opened(path: Path) -> FeatureStore:
    return open_store(FeatureConfig(layout="hdf5", root=path, video=("c3d",), text=None))


def test_links_and_numbers_in_other_files_are_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/v_1")
        file["other"] = h5py.ExternalLink(str(path), "/v_1")
        file.create_dataset("raw", (4, 4), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
        layout = h5py.VirtualLayout((5, 4), "f2")
        layout[:] = h5py.VirtualSource(str(path), "v_1", (5, 4))
        file.create_virtual_dataset("virtual", layout)
    store = opened(path)
    for name in ("soft", "other"):
        with pytest.raises(FeatureError, match=f"'{name}'.*are missing"):
            store.read_video(name)
    for name in ("raw", "virtual"):
        with pytest.raises(FeatureError, match=f"'{name}'.*in other files"):
            store.read_video(name)


@pytest.mark.parametrize("array", [np.zeros((2, 4), int), np.array([b"a"]), np.zeros(4), np.zeros((0, 4))], ids=str)
def test_data_sets_that_are_no_rows_are_refused(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "a") as file:
        file["bad"] = array
    with pytest.raises(FeatureError, match=r"'bad' \(.*c3d\.hdf5"):
        opened(path).read_video("bad")


def test_what_unpacks_to_far_more_than_is_stored_is_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("empty", (10**9, 1024), "f4", chunks=(1, 1024))  # nothing is stored: all fill value
        file.create_dataset("large", (10**8, 4), "f2", chunks=(1000, 4))
        file.create_dataset("chunk", (2, 4), "f4", maxshape=(None, 4), chunks=(2**26, 4), compression="gzip")
    for name in ("empty", "large", "chunk"):
        with pytest.raises(FeatureError, match=f"'{name}'.* (declares|unpacks)"):
            opened(path).read_video(name)


def test_float64_becomes_float32_and_nan_is_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["double"] = rows(3, dtype="float64")
        file["nan"] = np.full((2, 4), np.nan, np.float32)
    store = opened(path)
    assert store.read_video("double")[0].dtype == np.float32
    with pytest.raises(FeatureError, match=r"'nan'.*NaN"):
        store.read_video("nan")


def read_all(path: Path) -> None:
    store = opened(path)
    for item in store.video[0].ids():
        assert store.read_video(item)[0].shape[1] == 4


def test_truncated_and_flipped_files_give_our_error_or_the_right_rows(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    bad = tmp_path / "bad.hdf5"
    for place in range(0, len(content), 211):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        for version in (content[:place], bytes(damaged)):
            bad.write_bytes(version)
            read_or_refuse(lambda: read_all(bad), "bad.hdf5")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # libraries may have started threads; forks are common
def test_other_processes_open_the_file_themselves(path: Path) -> None:
    store = opened(path)
    expected = store.read_video("v_3")[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read_video("v_3")[0], expected)
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=send_rows, args=(store.video[0], "v_3", child))
    process.start()
    assert parent.poll(60)
    np.testing.assert_array_equal(parent.recv(), expected)
    process.join()
