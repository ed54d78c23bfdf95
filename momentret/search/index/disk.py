"""Bytes on disk: written whole and synced, read back whole or with an error that names the file.

Nothing here knows what the bytes mean.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from momentret.files import blamed_on
from momentret.search.index.errors import DamagedIndexError, IndexLockedError

__all__ = [
    "Lock",
    "RowFile",
    "checksum_of",
    "raw",
    "read_array",
    "reading",
    "require_checksum",
    "sync_folder",
    "write_all",
    "write_file",
]

_CHUNK = 1 << 20
_BINARY = getattr(os, "O_BINARY", 0)


def raw(array: np.ndarray) -> memoryview:
    """Return the bytes of a contiguous array, without copying them."""
    return array.reshape(-1).view(np.uint8).data


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write every byte; `os.write` alone may write fewer."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(handle, view) :]


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> int:
    """Write a new file, sync it, and return the CRC-32 of its bytes.

    Raises:
        OSError: with the path; what was written so far stays for the caller to remove.
    """
    checksum = 0
    with blamed_on(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
        try:
            for chunk in chunks:
                write_all(handle, chunk)
                checksum = zlib.crc32(chunk, checksum)
            os.fsync(handle)
        finally:
            os.close(handle)
    return checksum


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a no-op where the system has no such call)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reading(path: Path, *step: str) -> Iterator[None]:
    """Let a file that is gone, or that the disk does not give back any more, be damage.

    Args:
        path: of the file.
        step: what to do about it, if not the usual.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EIO):
            raise
        what = f"cannot be read ({error.strerror})" if error.errno == errno.EIO else "is missing"
        raise DamagedIndexError(path, what, *step) from error


def checksum_of(path: Path) -> int:
    """Return the CRC-32 of a file.

    Raises:
        DamagedIndexError: it is missing or cannot be read.
    """
    with reading(path), open(path, "rb") as file:
        return _crc(file)


def _crc(file: IO[bytes]) -> int:
    checksum = 0
    while chunk := file.read(_CHUNK):
        checksum = zlib.crc32(chunk, checksum)
    return checksum


def read_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], checksum: int) -> np.ndarray:
    """Read a whole file as an array.

    Raises:
        DamagedIndexError: the size or the checksum is not what the manifest says.
    """
    with reading(path):
        array = np.fromfile(path, dtype=dtype)
    expected = int(np.prod(shape, dtype=np.int64))
    if array.size != expected or path.stat().st_size != array.nbytes:
        raise DamagedIndexError(path, f"has {path.stat().st_size} bytes, expected {expected * dtype.itemsize}")
    require_checksum(path, zlib.crc32(raw(array)), checksum)
    return array.reshape(shape)


def require_checksum(path: Path, found: int, expected: int) -> None:
    """Refuse a file whose CRC-32 is not what the manifest says.

    Raises:
        DamagedIndexError: naming it.
    """
    if found != expected:
        raise DamagedIndexError(path, "does not match its checksum")


class RowFile:
    """Fixed-size rows of one file, read on demand; stays readable after the file is unlinked.

    Plain reads, not a memory map: a file that another program truncates gives an error, not a dead process.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], columns: int) -> None:
        self.path, self.dtype, self.columns = path, dtype, columns
        with reading(path):
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self.close = weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()

    def read(self, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the rows of all ranges, one after the other."""
        out = np.empty((sum(end - begin for begin, end in ranges), self.columns), dtype=self.dtype)
        view, width, position = raw(out), self.columns * self.dtype.itemsize, 0
        with self._lock, reading(self.path):
            for begin, end in ranges:
                size = (end - begin) * width
                self._read_into(view[position : position + size], begin * width)
                position += size
        return out

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the given rows; neighbours are read at once."""
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        begins = rows[edges[:-1]].tolist() if len(rows) else []
        return self.read([(begin, begin + b - a) for begin, (a, b) in zip(begins, pairwise(edges), strict=False)])

    def check(self, checksum: int) -> None:
        """Compare the whole file with its CRC-32.

        Raises:
            DamagedIndexError: they differ.
        """
        with self._lock, reading(self.path):
            self._file.seek(0)
            found = _crc(self._file)
        require_checksum(self.path, found, checksum)

    def _read_into(self, view: memoryview, offset: int) -> None:
        self._file.seek(offset)
        done = self._file.readinto(view)
        while done < len(view):
            more = self._file.readinto(view[done:])
            if not more:
                raise DamagedIndexError(self.path, "ends early: it was truncated while in use")
            done += more


class Lock:
    """The right to write, held through the operating system: it ends with the process, however that dies."""

    def __init__(self, path: Path) -> None:
        with blamed_on(path.parent):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock_file(self._handle)
        except OSError as error:
            owner = os.read(self._handle, 20).decode("ascii", "replace").strip()
            os.close(self._handle)
            raise IndexLockedError(
                f"index {str(path.parent)!r} is being written by process {owner or 'unknown'}; "
                "wait until it is done, or open the index for reading"
            ) from error
        os.ftruncate(self._handle, 0)
        os.write(self._handle, str(os.getpid()).encode())
        self.release = weakref.finalize(self, os.close, self._handle)


def _lock_file(handle: int) -> None:
    if os.name == "posix":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
