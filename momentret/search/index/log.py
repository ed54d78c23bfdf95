"""The write-ahead log: what was acknowledged but is not in a sealed segment yet.

A file header, then records: a checked head (kind, length, checksums) and a body. A record that the file ends in is the
torn tail of a write that was never acknowledged and is dropped; any other mismatch is damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from momentret.search.index.disk import naming_path, reading, sync_folder, write_all, write_file
from momentret.search.index.errors import DamagedIndexError

__all__ = ["PUT", "REMOVE", "Log", "read_log"]

PUT, REMOVE = b"PUT ", b"DEL "
_MAGIC = b"momentret log 1\n"
_HEAD = struct.Struct("<4sQI")  # kind, length and CRC-32 of the body; the CRC-32 of these three follows
_HEAD_SIZE = _HEAD.size + 4


def _record(kind: bytes, body: bytes) -> bytes:
    head = _HEAD.pack(kind, len(body), zlib.crc32(body))
    return head + struct.pack("<I", zlib.crc32(head)) + body


def read_log(path: Path) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the records ``(kind, body)`` and the length in bytes of the file's sound part.

    Raises:
        DamagedIndexError: the file is missing, or a whole record does not match its checksum.
    """
    with reading(path):
        data = path.read_bytes()
    if data[: len(_MAGIC)] != _MAGIC:
        raise DamagedIndexError(path, "does not begin as a log of this format does")
    records, position = [], len(_MAGIC)
    for kind, body in _records(path, data):
        records.append((kind, body))
        position += _HEAD_SIZE + len(body)
    return records, position


def _records(path: Path, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_MAGIC)
    while position + _HEAD_SIZE <= len(data):
        head = data[position : position + _HEAD.size]
        if not any(data[position:]):
            return  # a tail of zeros: the file grew before a power cut, its bytes never arrived
        if data[position + _HEAD.size : position + _HEAD_SIZE] != struct.pack("<I", zlib.crc32(head)):
            raise DamagedIndexError(path, f"is damaged at byte {position}")
        kind, length, checksum = _HEAD.unpack(head)
        position += _HEAD_SIZE
        if position + length > len(data):
            return
        body = data[position : position + length]
        if zlib.crc32(body) != checksum or kind not in (PUT, REMOVE):
            raise DamagedIndexError(path, f"is damaged at byte {position}")
        yield kind, body
        position += length


class Log:
    """Appends records; each `append` is durable when it returns.

    Args:
        path: of the log.
        size: the sound part of an existing file, beyond which it is cut; None makes a new file.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path = path
        if size is None:
            write_file(path, [_MAGIC])
            sync_folder(path.parent)
        self.size = len(_MAGIC) if size is None else size
        self._handle = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        os.ftruncate(self._handle, self.size)
        os.lseek(self._handle, self.size, os.SEEK_SET)

    def append(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Write the records and sync once.

        Raises:
            OSError: with the path (disk full); the file is as it was, and none of the records is kept.
        """
        data = b"".join(_record(kind, body) for kind, body in records)
        try:
            write_all(self._handle, data)
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, self.size)
            os.lseek(self._handle, self.size, os.SEEK_SET)
            raise naming_path(error, self.path) from error
        self.size += len(data)

    def close(self) -> None:
        """Close the file; nothing is pending, since every `append` is synced."""
        os.close(self._handle)
