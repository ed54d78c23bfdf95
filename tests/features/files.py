"""Feature files for the tests: small, of every kind, whole and damaged."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import FeatureError
from momentret.features import FeatureSource


def rows(count: int, dimension: int = 4, seed: int = 0, dtype: str = "float16") -> np.ndarray:
    """Return random rows ``(count, dimension)``."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(dtype)


def save_npz(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def save_npy(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def moment_detr_folder(root: Path, videos: int = 6) -> Path:
    """Write a package in the layout of the Moment-DETR release: two video families and text."""
    for i in range(videos):
        save_npz(root / "slowfast_features" / f"v_{i}.npz", features=rows(5 + i, 6, seed=i))
        save_npz(root / "clip_features" / f"v_{i}.npz", features=rows(5 + i, 4, seed=100 + i))
        save_npz(root / "clip_text_features" / f"qid{i}.npz", last_hidden_state=rows(3, 4, seed=200 + i))
    return root


def npy_bytes(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def npy_with_header(header: str, content: bytes = b"") -> bytes:
    """Return a .npy file whose header says what it is told to."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def zip_of(path: Path, content: bytes, name: str = "features.npy", compression: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path


def read_or_refuse(read: Callable[[], None], name: str) -> None:
    """Run `read` on a damaged file: it may succeed or raise our error with the file's name, nothing else."""
    message = name
    try:
        read()
    except FeatureError as error:
        message = str(error)
    assert name in message


def send_rows(source: FeatureSource, item_id: str, connection: Connection) -> None:
    """Send an item from another process."""
    connection.send(source.read(item_id))


def lie_about_size(path: Path, declared: int) -> None:
    """Overwrite the unpacked size that a one-member zip declares, in both of its headers."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(signature) + offset
        content[start : start + 4] = struct.pack("<I", declared)
    path.write_bytes(content)
