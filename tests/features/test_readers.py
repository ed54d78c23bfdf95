"""Files that a stranger made: each kind of damage is refused with the file's name, nothing is executed."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from momentret.errors import FeatureError
from momentret.features import readers
from momentret.features.readers import check_rows, read_array

from .files import lie_about_size, npy_bytes, npy_with_header, read_or_refuse, rows, save_npz, zip_of

KEYS = ("features",)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_and_npy_give_what_numpy_gives(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.asarray(rows(7, dtype=dtype), order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", features=array)
    for name in ("a.npy", "a.npz"):
        read = read_array(tmp_path / name, KEYS)
        assert read.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read, array)


def test_float64_becomes_float32(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", features=np.array([[0.1, 1e-50]]))
    np.testing.assert_array_equal(read_array(path, KEYS), np.array([[0.1, 0.0]], np.float32))


def test_a_float64_too_large_for_float32_is_infinite_and_refused(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", features=np.array([[1e300]]))
    with pytest.raises(FeatureError, match="infinite"):
        check_rows(read_array(path, KEYS), path)


def test_a_header_as_python_2_wrote_it_is_read(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }"
    (tmp_path / "a.npy").write_bytes(npy_with_header(header, bytes(24)))
    assert read_array(tmp_path / "a.npy", ()).shape == (2, 3)


def test_the_first_key_that_is_there_counts(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", token=rows(2), other=rows(3))
    assert len(read_array(path, ("features", "token"))) == 2


def test_a_missing_key_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", embedding=rows(2))
    with pytest.raises(FeatureError, match=r"a\.npz holds embedding, expected features"):
        read_array(path, KEYS)


def test_an_absent_file_is_absent_not_damaged(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "a.pt"):
        with pytest.raises(FileNotFoundError):
            read_array(tmp_path / name, KEYS)


@pytest.mark.parametrize("array", [np.zeros((2, 3), int), np.array([["a"]]), np.zeros((2, 3), complex)], ids=str)
def test_numbers_that_are_no_floats_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(FeatureError, match=r"a\.npz holds .* numbers, expected float16"):
        read_array(save_npz(tmp_path / "a.npz", features=array), KEYS)


def test_pickled_arrays_are_refused_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    objects = np.array([Canary(canary)], dtype=object)
    zip_of(tmp_path / "a.npz", npy_bytes(objects, allow_pickle=True))
    (tmp_path / "a.npy").write_bytes(npy_bytes(objects, allow_pickle=True))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Canary(canary)))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Canary(canary)))
    for name in ("a.npz", "a.npy", "b.npy", "b.npz"):
        with pytest.raises(FeatureError, match=name):
            read_array(tmp_path / name, KEYS)
    assert not canary.exists()
    pickle.loads((tmp_path / "b.npy").read_bytes())
    assert canary.exists()  # the canary would have sung


def test_records_are_refused(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", features=np.zeros(3, [("x", "f4")]))
    with pytest.raises(FeatureError, match="objects or records"):
        read_array(path, KEYS)


@pytest.mark.parametrize(
    "shape",
    ["(10**9,)", "(1000000000000, 1000000000000)", "(-1, -6)", "(2, 2)", "(True, 6)", "(6.0,)", "6", "(4, 4)"],
)
def test_a_header_that_lies_about_the_shape_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    (tmp_path / "a.npy").write_bytes(npy_with_header(header, bytes(24)))
    zip_of(tmp_path / "a.npz", npy_with_header(header, bytes(24)))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(FeatureError, match=name):
            read_array(tmp_path / name, KEYS)


@pytest.mark.parametrize("header", ["", "{", "[]", "(" * 5000, "{'descr': 'zz', 'fortran_order': 0, 'shape': ()}"])
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy_with_header(header))
    with pytest.raises(FeatureError, match=r"a\.npy has a damaged array header"):
        read_array(tmp_path / "a.npy", ())


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100))
    with pytest.raises(FeatureError, match="header of 4,294,967,295 bytes"):
        read_array(tmp_path / "a.npy", ())


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_every_truncation_is_refused(tmp_path: Path, compress: Callable[..., None]) -> None:
    compress(tmp_path / "whole.npz", features=rows(5))
    content = (tmp_path / "whole.npz").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(FeatureError, match=r"cut\.npz"):
            read_array(tmp_path / "cut.npz", KEYS)


def expect(path: Path, array: np.ndarray) -> None:
    np.testing.assert_array_equal(read_array(path, KEYS), array)


def test_no_flipped_byte_raises_anything_else(tmp_path: Path) -> None:
    array = rows(5)
    np.savez_compressed(tmp_path / "whole.npz", features=array)
    content = (tmp_path / "whole.npz").read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "flipped.npz").write_bytes(damaged)
        read_or_refuse(lambda: expect(tmp_path / "flipped.npz", array), "flipped.npz")  # a flipped date does no harm


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "FREE_BYTES", 1 << 20)  # 256 MiB would take seconds to write
    np.savez_compressed(tmp_path / "bomb.npz", features=np.zeros((2**16, 256), np.float16))
    tracemalloc.start()
    with pytest.raises(FeatureError, match=r"bomb\.npz unpacks .* bytes to 33,554,560: no feature file does"):
        read_array(tmp_path / "bomb.npz", KEYS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_an_item_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_BYTES", 1000)
    for name, save in (("a.npz", lambda p, a: np.savez(p, features=a)), ("a.npy", np.save)):
        save(tmp_path / name, np.zeros((200, 2), np.float32))
        with pytest.raises(FeatureError, match=rf"{name} declares .* at most 1,000 are read"):
            read_array(tmp_path / name, KEYS)


@pytest.mark.parametrize("declared", [10, 4_000_000_000])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path, declared: int, compression: int) -> None:
    path = zip_of(tmp_path / "lie.npz", npy_bytes(rows(50)), compression=compression)
    lie_about_size(path, declared)
    with pytest.raises(FeatureError, match=r"lie\.npz"):
        read_array(path, KEYS)


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_compression_that_numpy_never_writes_is_refused(tmp_path: Path, compression: int) -> None:
    path = zip_of(tmp_path / "a.npz", npy_bytes(rows(50)), compression=compression)
    with pytest.raises(FeatureError, match="compressed in a way"):
        read_array(path, KEYS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
def test_tensors_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.save(tensor, tmp_path / "a.pt")
    torch.save({"features": tensor}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        np.testing.assert_array_equal(read_array(tmp_path / name, KEYS), tensor.float().numpy())


def test_a_pt_that_holds_code_is_refused_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save(Canary(canary), tmp_path / "zip.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Canary(canary)))
    for name in ("zip.pt", "old.pt"):
        with pytest.raises(FeatureError, match=name):
            read_array(tmp_path / name, KEYS)
    assert not canary.exists()


def test_a_tensor_that_repeats_its_bytes_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(10**9, 1024), tmp_path / "a.pt")
    with pytest.raises(FeatureError, match="more than it holds"):
        read_array(tmp_path / "a.pt", KEYS)


@pytest.mark.parametrize("value", [torch.zeros(2, 3, dtype=torch.int64), [torch.zeros(2, 3)], {"x": 1}, 3], ids=str)
def test_a_pt_without_a_float_tensor_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(FeatureError, match=r"a\.pt holds"):
        read_array(tmp_path / "a.pt", KEYS)


def test_a_truncated_pt_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(torch.zeros(50, 8), buffer)
    for length in (0, 10, 200, len(buffer.getvalue()) - 30):
        (tmp_path / "a.pt").write_bytes(buffer.getvalue()[:length])
        with pytest.raises(FeatureError, match=r"a\.pt"):
            read_array(tmp_path / "a.pt", KEYS)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_rows_must_have_two_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureError, match=r"x has shape .*, expected \(rows, dimension\)"):
        check_rows(np.zeros(shape, np.float32), "x")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_rows_must_not_be_empty(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureError, match="no rows"):
        check_rows(np.zeros(shape, np.float32), "x")


def test_rows_must_have_the_dimension() -> None:
    with pytest.raises(FeatureError, match="x has rows of 4 numbers, expected 5"):
        check_rows(np.zeros((2, 4), np.float32), "x", 5)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_must_be_finite(value: float, dtype: str) -> None:
    array = rows(9, dtype=dtype)
    array[6, 2] = value
    with pytest.raises(FeatureError, match=r"NaN or infinite numbers \(first in row 6"):
        check_rows(array, "x")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_largest_and_the_smallest_numbers_are_finite(dtype: str) -> None:
    facts = np.finfo(dtype)
    array = np.array([[facts.max, facts.min, -0.0, facts.smallest_subnormal]], dtype)
    assert check_rows(array, "x") is array
    assert check_rows(array.T, "x").shape == (4, 1)
