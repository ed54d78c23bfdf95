"""One feature file -> one checked array: .npz, .npy, .pt, never unpickled, never larger than it claims to be.

A file is what a stranger made: sizes are read from headers and refused before anything is allocated, and header and
content must agree to the byte.
"""

from __future__ import annotations

import ast
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from momentret.errors import FeatureError

__all__ = ["MAX_BYTES", "READERS", "as_float", "check_rows", "check_size", "npy_header", "read_array", "read_facts"]

MAX_BYTES = 4 << 30  # one item: 18,000 clips of 2,816 float32 (ten hours) are 0.2 GB
MAX_RATIO = 1000  # deflate reaches about 1,030 on zeros; nothing real comes near
FREE_BYTES = 256 << 20  # below this size a high ratio can do no harm
MAX_HEADER = 1 << 14  # a plain array's header is about 120 bytes
_EXPONENT = {2: 0x7C00, 4: 0x7F800000}  # all exponent bits set: infinity, or above it NaN


def read_array(path: Path, keys: Sequence[str]) -> np.ndarray:
    """Return the array of a feature file as it is, checked for number format only.

    Args:
        path: a file whose ending is a key of `READERS`.
        keys: names of the array inside a .npz (or a dictionary in a .pt); the first that is there is read.

    Raises:
        FileNotFoundError: the file is absent.
        FeatureError: it cannot be read, holds something else, or is larger than it may be.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise FeatureError(f"{path} ends in {path.suffix!r}, expected one of {', '.join(READERS)}")
    try:
        return as_float(reader(path, keys), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FeatureError(f"{path} cannot be read: {error.strerror or error}") from error


def as_float(array: np.ndarray, path: object) -> np.ndarray:
    """Return float16 and float32 in native byte order, float64 as float32; refuse all else with `FeatureError`."""
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise FeatureError(f"{path} holds {array.dtype} numbers, expected float16, float32 or float64; extract again")
    if array.dtype.itemsize == 8:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused as that
            return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def check_rows(rows: np.ndarray, name: object, dimension: int | None = None) -> np.ndarray:
    """Return `rows` if it is a finite ``(L, D)`` array with at least one row.

    Args:
        rows: float16 or float32.
        name: the file or item, for the message.
        dimension: the width D it must have; None accepts any.

    Raises:
        FeatureError: saying what is wrong with it.
    """
    if rows.ndim != 2:
        raise FeatureError(f"{name} has shape {rows.shape}, expected (rows, dimension); extract again")
    if rows.shape[0] < 1 or rows.shape[1] < 1:
        raise FeatureError(f"{name} has no rows (shape {rows.shape}); extract again or leave the item out")
    if dimension is not None and rows.shape[1] != dimension:
        raise FeatureError(
            f"{name} has rows of {rows.shape[1]} numbers, expected {dimension}; is it another encoder's?"
        )
    if not _is_finite(rows):
        first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise FeatureError(f"{name} holds NaN or infinite numbers (first in row {first}); extract again")
    return rows


def _is_finite(rows: np.ndarray) -> bool:
    """Compare exponent bits as integers: ten times as fast as `np.isfinite` on float16."""
    exponent = _EXPONENT[rows.dtype.itemsize]
    sign = 1 << (8 * rows.dtype.itemsize - 1)
    bits = np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}")
    return bool((bits & bits.dtype.type(sign - 1)).max() < exponent)


def check_size(size: int, stored: int, path: object) -> None:
    """Refuse an item that unpacks to more than `MAX_BYTES`, or to far more than is on disk.

    Args:
        size: bytes that the header declares.
        stored: bytes on disk that it comes from.
        path: the file, for the message.
    """
    if size > MAX_BYTES:
        raise FeatureError(
            f"{path} declares {size:,} bytes for one item, at most {MAX_BYTES:,} are read; is it damaged?"
        )
    if size > FREE_BYTES and size > MAX_RATIO * stored:
        raise FeatureError(f"{path} unpacks {stored:,} bytes to {size:,}: no feature file does; get it again")


def _read_npz(path: Path, keys: Sequence[str]) -> np.ndarray:
    with _open_zip(path) as archive:
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        key = next((key for key in keys if key in names), None)
        if key is None:
            raise FeatureError(f"{path} holds {', '.join(names[:5]) or 'nothing'}, expected {' or '.join(keys)}")
        return _read_member(archive, f"{key}.npy", path)


_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, KeyError)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _ZIP_ERRORS as error:
        raise FeatureError(f"{path} is not a whole zip file ({error}); get it again") from error


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        info = archive.getinfo(name)
        check_size(info.file_size, info.compress_size, path)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FeatureError(f"{path} is compressed in a way that NumPy never writes; save it again")
        with archive.open(info) as file:
            return _read_npy_stream(file, info.file_size, path)
    except _ZIP_ERRORS as error:
        raise FeatureError(f"{path} is damaged ({error}); get it again") from error


def _read_npy(path: Path, keys: Sequence[str]) -> np.ndarray:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        check_size(size, size, path)
        return _read_npy_stream(file, size, path)


def _read_npy_stream(file: IO[bytes], size: int, path: Path) -> np.ndarray:
    """Read an array from `file`, which holds `size` bytes: a header and exactly its numbers."""
    shape, fortran_order, dtype, offset = npy_header(file, path)
    if offset + math.prod(shape) * dtype.itemsize != size:
        raise FeatureError(
            f"{path} holds {size - offset:,} bytes of numbers, but its header declares {dtype} {shape}; get it again"
        )
    content = file.read(size - offset)
    if len(content) != size - offset:
        raise FeatureError(f"{path} is cut short; get it again")
    array = np.frombuffer(content, dtype)
    return np.ascontiguousarray(array.reshape(shape[::-1]).T) if fortran_order else array.reshape(shape)


def npy_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, number format and length of the header at the start of a .npy file.

    Raises:
        FeatureError: not a .npy header, of a dtype that is not plain numbers or text, or a shape below zero.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise FeatureError(f"{path} is not a NumPy array file of version 1 or 2; save it again with numpy.save")
    count = file.read(2 * start[6])
    length = int.from_bytes(count, "little")
    if length > MAX_HEADER:
        raise FeatureError(f"{path} has a header of {length:,} bytes, expected about 120; is it damaged?")
    shape, fortran_order, dtype = _parse_header(file.read(length), path)
    return shape, fortran_order, dtype, len(start) + len(count) + length


def _parse_header(header: bytes, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        text = re.sub(r"(?<=\d)L(?=[,)])", "", header.decode("latin1"))  # Python 2 wrote some shapes as (75L, 512L)
        values = ast.literal_eval(text.strip())
        shape, fortran_order, descr = values["shape"], values["fortran_order"], values["descr"]
        dtype = np.dtype(descr) if isinstance(descr, str) else np.dtype(object)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise FeatureError(f"{path} has a damaged array header; get it again") from error
    if dtype.hasobject or dtype.kind == "V":
        raise FeatureError(f"{path} holds Python objects or records, which are never loaded; save plain numbers")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise FeatureError(f"{path} declares the shape {shape!r}; is it damaged?")
    return shape, bool(fortran_order), dtype


def _read_pt(path: Path, keys: Sequence[str]) -> np.ndarray:
    import torch

    with _open_zip(path) as archive:
        for info in archive.infolist():
            check_size(info.file_size, info.compress_size, path)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the loader of a stranger's file may raise anything
        raise FeatureError(f"{path} holds more than a tensor, or is damaged: {str(error)[:200]}") from error
    if isinstance(value, dict):
        value = next((value[key] for key in keys if key in value), None)
    if type(value) is not torch.Tensor or value.layout != torch.strided or value.device.type != "cpu":
        raise FeatureError(f"{path} holds no plain tensor; save the tensor alone")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():  # strides that repeat the same bytes
        raise FeatureError(f"{path} declares {tuple(value.shape)}, more than it holds; save the tensor again")
    if value.dtype not in (torch.float16, torch.float32, torch.float64, torch.bfloat16):
        raise FeatureError(f"{path} holds {value.dtype} numbers, expected floating-point; extract again")
    value = value.float() if value.dtype == torch.bfloat16 else value
    return np.array(value.detach().resolve_neg().numpy())  # a copy, which lets go of the mapped file


READERS: dict[str, Callable[[Path, Sequence[str]], np.ndarray]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".pt": _read_pt,
}
"""The reader of each file ending."""


def read_facts(path: Path) -> dict[str, Any]:
    """Return ``clip_length`` and ``encoder`` of a self-described .npz, each where it is there and a single value."""
    facts: dict[str, Any] = {}
    with _open_zip(path) as archive:
        names = archive.namelist()
        for name, kind in (("clip_length", "f"), ("encoder", "U")):
            if f"{name}.npy" in names and archive.getinfo(f"{name}.npy").file_size <= MAX_HEADER:
                value = _read_member(archive, f"{name}.npy", path)
                if value.ndim == 0 and value.dtype.kind == kind:
                    facts[name] = value.item()
    return facts
