"""The write-ahead log: what was acknowledged but is not in a sealed segment yet.

A file header, then records: a checked head (kind, length, checksums) and a body. A record that the file ends in is the
torn tail of a write that was never acknowledged and is dropped; any other mismatch is damage.

Before each change stands a note: what kind it is, how long, with which checksum, of which videos. Where one of the two
is damaged the other tells what is lost, if anything.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from momentret.files import blamed_on
from momentret.search.index.disk import reading, sync_folder, write_all, write_file
from momentret.search.index.errors import BEYOND_REPAIR, DamagedIndexError

__all__ = ["EMPTY", "PUT", "REMOVE", "Change", "Log", "read_log", "salvage_log"]

PUT, REMOVE = b"PUT ", b"DEL "
_NOTE = b"NOTE"
_MAGIC = b"momentret log 1\n"
EMPTY = len(_MAGIC)
"""Bytes of a log without changes."""
_HEAD = struct.Struct("<4sQI")  # kind, length and CRC-32 of the body; the CRC-32 of these three follows
_HEAD_SIZE = _HEAD.size + 4
_KINDS = re.compile(re.escape(PUT) + b"|" + re.escape(REMOVE))


class Change(NamedTuple):
    """What was done to some videos."""

    kind: bytes
    body: bytes
    names: Sequence[str]
    """The ids of the videos."""
    path: str = ""
    """Where the file of a video that was put is."""
    sound: bool = True
    """Whether the body is what was written."""


def _record(kind: bytes, body: bytes) -> bytes:
    head = _HEAD.pack(kind, len(body), zlib.crc32(body))
    return head + struct.pack("<I", zlib.crc32(head)) + body


def _note(change: Change) -> bytes:
    facts = change.kind.decode(), len(change.body), zlib.crc32(change.body), list(change.names), change.path
    return _record(_NOTE, json.dumps(facts).encode())


def read_log(path: Path) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the changes ``(kind, body)`` and the length in bytes of the file's sound part.

    Raises:
        DamagedIndexError: the file is missing, or a whole record does not match its checksum.
    """
    with reading(path):
        data = path.read_bytes()
    if data[:EMPTY] != _MAGIC:
        raise DamagedIndexError(path, "does not begin as a log of this format does")
    changes, size, position = [], EMPTY, EMPTY
    while (found := _record_at(path, data, position)) is not None:
        kind, body = found
        position += _HEAD_SIZE + len(body)
        if kind != _NOTE:
            changes.append((kind, body))
            size = position  # a note whose change never arrived is cut off
    return changes, size


def _is_blank(data: bytes, position: int) -> bool:
    """Tell whether only zeros follow: the file grew before a power cut, its bytes never arrived."""
    return not any(data[position : position + _HEAD.size]) and not any(data[position:])


def _record_at(path: Path, data: bytes, position: int) -> tuple[bytes, bytes] | None:
    """Return the record that begins at `position`; None where the log ends.

    Raises:
        DamagedIndexError: it does not match its checksum.
    """
    head = data[position : position + _HEAD.size]
    if position + _HEAD_SIZE > len(data) or _is_blank(data, position):
        return None
    if data[position + _HEAD.size : position + _HEAD_SIZE] != struct.pack("<I", zlib.crc32(head)):
        raise DamagedIndexError(path, f"is damaged at byte {position}")
    kind, length, checksum = _HEAD.unpack(head)
    body = data[position + _HEAD_SIZE : position + _HEAD_SIZE + length]
    if len(body) < length:
        return None
    if zlib.crc32(body) != checksum or kind not in (PUT, REMOVE, _NOTE):
        raise DamagedIndexError(path, f"is damaged at byte {position + _HEAD_SIZE}")
    return kind, body


def salvage_log(path: Path, noted: bool, describe: Callable[[bytes, bytes], Change]) -> Iterator[Change]:
    """Yield every change of a log that may be damaged; one that is damaged itself is told by its note.

    Args:
        path: of the log.
        noted: every change has a note, as from format 2 on.
        describe: says what a kind and a sound body are.

    Raises:
        DamagedIndexError: nothing says which videos a change was of.
    """
    with reading(path, BEYOND_REPAIR):
        data = path.read_bytes()
    if len(data) < EMPTY:
        raise DamagedIndexError(path, f"has {len(data)} bytes, fewer than it began with", BEYOND_REPAIR)
    position = EMPTY
    while (found := _change_at(path, data, position, noted, describe)) is not None:
        change, position = found
        yield change


def _change_at(
    path: Path, data: bytes, position: int, noted: bool, describe: Callable[[bytes, bytes], Change]
) -> tuple[Change, int] | None:
    """Return the change that begins at `position`, with its note, and where it ends; None where the log ends."""
    try:
        record = _record_at(path, data, position)
    except DamagedIndexError as damage:
        found = _after_damaged_note(path, data, position, describe) if noted else None
        if found is None:
            what = f"{damage.what}, and nothing else says which videos were changed there"
            raise DamagedIndexError(path, what, BEYOND_REPAIR) from damage
        return found
    if record is None:
        return None
    kind, body = record
    position += _HEAD_SIZE + len(body)
    return _noted_change(data, position, body) if kind == _NOTE else (describe(kind, body), position)


def _noted_change(data: bytes, position: int, note: bytes) -> tuple[Change, int] | None:
    """Return the change that a note is of, of whose own head nothing is needed."""
    kind, length, checksum, names, path = json.loads(note)
    end = position + _HEAD_SIZE + length
    if end > len(data) or _is_blank(data, position):
        return None  # it never arrived
    body = data[end - length : end]
    return Change(kind.encode(), body, names, path, zlib.crc32(body) == checksum), end


def _after_damaged_note(
    path: Path, data: bytes, position: int, describe: Callable[[bytes, bytes], Change]
) -> tuple[Change, int] | None:
    """Return the next sound change, if what lies before it is as long as its note and so can be nothing else."""
    for match in _KINDS.finditer(data, position):
        begin = match.start()
        try:
            record = _record_at(path, data, begin)
        except DamagedIndexError:
            continue
        if record is not None:
            change = describe(*record)
            if position + len(_note(change)) == begin:
                return change, begin + _HEAD_SIZE + len(record[1])
    return None


class Log:
    """Appends changes; each `append` is durable when it returns.

    Args:
        path: of the log.
        size: the sound part of an existing file, beyond which it is cut; None makes a new file.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path = path
        if size is None:
            write_file(path, [_MAGIC])
            sync_folder(path.parent)
        self.size = EMPTY if size is None else size
        self._handle = os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        os.ftruncate(self._handle, self.size)
        os.lseek(self._handle, self.size, os.SEEK_SET)

    def append(self, changes: Sequence[Change]) -> None:
        """Write the changes and sync once.

        Raises:
            OSError: with the path (disk full); the file is as it was, and none of the changes is kept.
        """
        data = b"".join(_note(change) + _record(change.kind, change.body) for change in changes)
        try:
            with blamed_on(self.path):
                write_all(self._handle, data)
                os.fsync(self._handle)
        except BaseException:  # Ctrl-C too
            os.ftruncate(self._handle, self.size)
            os.lseek(self._handle, self.size, os.SEEK_SET)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file; nothing is pending, since every `append` is synced."""
        os.close(self._handle)
