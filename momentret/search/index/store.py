"""The index as files: what is sealed, what is in the log, and the steps between, each of which may be the last.

One process writes, under a lock; any number read. Segments never change, the manifest is replaced by renaming, and
every change is in the log, synced, before it is acknowledged: whatever moment the process dies at, what the manifest
and its log say is the index.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from momentret.errors import ConfigError, DataError, OutputExistsError
from momentret.search.index.basis import join_pools
from momentret.search.index.columns import Columns, concatenate, pack, texts, unpack
from momentret.search.index.disk import Lock, raw, reading, sync_folder, write_file
from momentret.search.index.errors import DamagedIndexError
from momentret.search.index.log import PUT, REMOVE, Change, Log, read_log
from momentret.search.index.manifest import (
    MANIFEST,
    Manifest,
    SegmentEntry,
    copy_manifest,
    read_manifest,
    write_manifest,
)
from momentret.search.index.segment import COPY, Segment, copied_columns, open_segment, write_segment
from momentret.search.index.settings import IndexSettings

__all__ = ["SEGMENTS", "Store", "can_begin", "create_store", "described"]

Mode = Literal["r", "rw"]
Result = TypeVar("Result")
SEGMENTS = "segments"
_LOCK = "lock"
_FAN_OUT = 8
_ATTEMPTS = 5
logger = logging.getLogger(__name__)


class Store:
    """The segments of an index folder, and its log.

    Args:
        folder: of the index.
        mode: ``"r"`` changes nothing, not even on disk; ``"rw"`` takes the lock.
        lock: the lock, where it is held already.

    Raises:
        DamagedIndexError: a file is missing or is not what was written.
        IndexLockedError: mode ``"rw"`` while another process writes.
    """

    def __init__(self, folder: Path, mode: Mode = "r", lock: Lock | None = None) -> None:
        self.folder, self.mode = folder, mode
        self._manifest()  # says so if this is no index, before a lock file is left in it
        self._lock = Lock(folder / _LOCK) if mode == "rw" and lock is None else lock
        self._log: Log | None = None
        self.sealed: list[Segment] = []
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        for attempt in range(_ATTEMPTS):
            self.manifest = self._manifest()
            try:
                self._read_all()
                break
            except DamagedIndexError:
                # a writer may have replaced the files between our reads: then the manifest is another one by now
                if attempt + 1 == _ATTEMPTS or read_manifest(self.folder) == self.manifest:
                    raise
        if self.mode == "rw":
            copy_manifest(self.folder)
            self._remove_leftovers()
            self._log = Log(self.folder / self.manifest.log, self._log_size)
            if not self.manifest.guarded:
                self._replace(len(self.sealed), self._unsealed())

    def _read_all(self) -> None:
        known = {segment.entry.name: segment for segment in self.sealed if segment.entry in self.manifest.segments}
        for segment in self.sealed:
            segment.close() if segment.entry not in self.manifest.segments else segment.restore()
        self.sealed, self.pending, self._place, self._memory = [], [], None, None
        for entry in self.manifest.segments:
            self.sealed.append(known.get(entry.name) or self._open(entry))
        self._replay(self._logged())

    def _manifest(self) -> Manifest:
        return read_manifest(self.folder)

    def _open(self, entry: SegmentEntry) -> Segment:
        return open_segment(self.folder / SEGMENTS / entry.name, entry, self.manifest.settings)

    def _logged(self) -> Iterable[tuple[bytes, bytes]]:
        """Return the changes in the log."""
        path = self.folder / self.manifest.log
        with reading(path):
            self._log_seen = path.stat().st_size
        changes, self._log_size = read_log(path)
        return changes

    def _replay(self, changes: Iterable[tuple[bytes, bytes]]) -> None:
        """Apply what the log says, without asking where every video of the index is: a second for a million."""
        newest: dict[str, int] = {}
        touched: set[str] = set()
        for kind, body in changes:
            columns = unpack(body, self.manifest.settings) if kind == PUT else None
            names = json.loads(body) if columns is None else texts(columns, "id")
            for row in (newest.pop(name) for name in names if name in newest):
                self.pending[row] = None
            touched.update(names)
            if columns is not None:
                newest[names[0]] = len(self.pending)
                self.pending.append(columns)
        for segment in self.sealed if touched else ():
            segment.removed[segment.rows_of(touched)] = True

    # what is there

    def __len__(self) -> int:
        sealed = sum(int(np.count_nonzero(~segment.removed)) for segment in self.sealed)
        return sealed + sum(columns is not None for columns in self.pending)

    @property
    def torn_bytes(self) -> int:
        """Count what the log had behind its last whole change when it was read."""
        return max((self._log_seen or 0) - self._log_size, 0) if self.mode == "r" else 0

    @property
    def place(self) -> dict[str, tuple[int, int]]:
        """Map each video id to its segment (-1: in the log only) and its row there."""
        if self._place is None:
            self._place = {
                name: (number, row)
                for number, segment in enumerate(self.sealed)
                for row, (name, removed) in enumerate(zip(segment.ids, segment.removed.tolist(), strict=True))
                if not removed
            }
            logged = ((row, columns) for row, columns in enumerate(self.pending) if columns is not None)
            self._place |= {texts(columns, "id")[0]: (-1, row) for row, columns in logged}
        return self._place

    def segments(self) -> list[Segment]:
        """Return the sealed segments and, last, the videos that are only in the log."""
        if self._memory is None:
            live = [columns for columns in self.pending if columns is not None]
            self._memory = Segment(concatenate(live, self.manifest.settings), self.manifest.settings)
        return [*self.sealed, *([self._memory] if self._memory.videos else [])]

    def _unsealed(self) -> list[Segment]:
        """Return the videos that are only in the log, if there are any."""
        return self.segments()[len(self.sealed) :]

    def pending_columns(self, row: int) -> Columns:
        """Return the columns of one video that is only in the log."""
        columns = self.pending[row]
        assert columns is not None
        return columns

    pending: list[Columns | None]
    _place: dict[str, tuple[int, int]] | None
    _memory: Segment | None = None
    _log_size: int
    """Bytes of the log that were sound when it was read, and"""
    _log_seen: int | None
    """bytes that it had; None if not all of the index could be read then."""

    def _apply_put(self, columns: Columns) -> None:
        name = texts(columns, "id")[0]
        self._apply_remove([name] if name in self.place else [])
        self.place[name] = (-1, len(self.pending))
        self.pending.append(columns)
        self._memory = None

    def _apply_remove(self, names: Iterable[str]) -> None:
        for name in names:
            number, row = self.place.pop(name)
            if number < 0:
                self.pending[row] = None
            else:
                self.sealed[number].removed[row] = True
        self._memory = None

    # changes

    def _writer(self) -> Log:
        if self._log is None:
            raise ConfigError(f"index {str(self.folder)!r} was opened for reading; open it with mode='rw' to change it")
        return self._log

    def put(self, videos: Sequence[Columns]) -> None:
        """Add videos, each in place of one with the same id; durable on return. All of them or, on an error, none."""
        self._writer().append([_put(pack(columns), columns) for columns in videos])
        for columns in videos:
            self._apply_put(columns)
        clips = sum(len(columns["clip_peak"]) for columns in self.pending if columns is not None)
        if clips >= self.manifest.settings.seal_clips:
            self._seal_if_possible()

    def _seal_if_possible(self) -> None:
        """Seal what was put; without room for that it stays in the log, where it is as safe, until the next time."""
        try:
            self.seal()
        except OSError as error:
            if self._log is None:
                raise
            logger.warning("the log of index %s could not be sealed: %s", self.folder, error)

    def remove(self, names: Sequence[str]) -> None:
        """Remove videos; durable on return.

        Raises:
            DataError: an id is not there; nothing is removed then.
        """
        log = self._writer()
        for name in names:
            if name not in self.place:
                raise DataError(
                    f"video {name!r} is not in index {str(self.folder)!r}; list the ids with stats or videos"
                )
        names = list(dict.fromkeys(names))
        log.append([Change(REMOVE, json.dumps(names).encode(), names)])
        self._apply_remove(names)

    def seal(self) -> None:
        """Turn the log into a segment, joining it with neighbours of its size once there are eight of them.

        While the disk has no room for both the neighbours and what is made of them, or one of them is damaged, they
        stay as they are.
        """
        self._writer()
        if self.log_is_empty:
            return
        new = self._unsealed()
        joined = _mergeable(self.sealed, sum(segment.clips for segment in new), self._has_room)
        try:
            self._replace(len(self.sealed) - joined, new)
        except DamagedIndexError as error:
            if not joined:
                raise
            logger.warning("segments of index %s are not joined: %s", self.folder, error)
            self._replace(len(self.sealed), new)

    def _has_room(self, sealed: Sequence[Segment]) -> bool:
        """Tell whether the disk takes a copy of some segments, and a tenth more."""
        names = [segment.entry.name for segment in sealed if segment.entry is not None]
        size = sum(file.stat().st_size for name in names for file in (self.folder / SEGMENTS / name).iterdir())
        return 1.1 * size < shutil.disk_usage(self.folder).free

    def compact(self) -> None:
        """Rewrite everything as one segment without the removed videos."""
        self._writer()
        if len(self.segments()) == 1 and self.sealed and not self.sealed[0].removed.any() and self.log_is_empty:
            return
        self._replace(0, self._unsealed())

    @property
    def log_is_empty(self) -> bool:
        """Tell whether everything is in sealed segments."""
        return not self.pending and not any(segment.removed_since_sealed for segment in self.sealed)

    def _replace(self, first: int, new: list[Segment]) -> None:
        """Write the segments from `first` on and the `new` ones as one, and make that the index."""
        parts = [part for part in [*self.sealed[first:], *new] if not part.removed.all()]
        generation = self.manifest.generation + 1
        root, name = self.folder / SEGMENTS, f"{generation:08d}"
        made, added = [root / name], []
        try:
            entries = [_up_to_date(root, segment, generation, made) for segment in self.sealed[:first]]
            if parts:
                entries.append(write_segment(root, name, parts, join_pools(parts)))
                added.append(open_segment(root / name, entries[-1], self.manifest.settings))
            manifest = self.manifest.next(tuple(entries))
            made.append(self.folder / manifest.log)
            log = Log(self.folder / manifest.log)
            try:
                write_manifest(self.folder, manifest)
            except BaseException:
                log.close()
                raise
        except BaseException:
            for segment in added:
                segment.close()
            if read_manifest(self.folder) == self.manifest:
                _discard(made)
            else:  # the new manifest is in force, only its sync failed: what we hold in memory is the old one
                self.close()
            raise
        try:
            self._adopt(manifest, log, first, added)
        except BaseException:
            self.close()
            raise

    def _adopt(self, manifest: Manifest, log: Log, kept: int, added: list[Segment]) -> None:
        """Go on with the manifest that is in force now."""
        for segment in self.sealed[kept:]:
            segment.close()
        for segment, entry in zip(self.sealed[:kept], manifest.segments, strict=False):
            segment.seal_removed(entry)
        self.sealed = [*self.sealed[:kept], *added]
        if self._log is not None:
            self._log.close()
        self.manifest, self._log = manifest, log
        self.pending, self._memory, self._place = [], None, None
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Delete files of ours that the manifest does not name: from before it, or from a process that died."""
        segments = {entry.name: entry for entry in self.manifest.segments}
        stale = [path for path in self.folder.glob("log-*.wal") if path.name != self.manifest.log]
        stale += self.folder.glob(f".{MANIFEST}.*.tmp")
        for path in (self.folder / SEGMENTS).glob("*"):
            entry = segments.get(path.name)
            files = path.glob("*.bin") if entry else ()
            stale += [file for file in files if entry and file.name not in entry.files] if entry else [path]
        _discard(stale)

    def refresh(self) -> bool:
        """Read what another process has written since; returns whether anything changed."""
        manifest = read_manifest(self.folder)
        try:
            size = (self.folder / manifest.log).stat().st_size
        except FileNotFoundError:
            size = -1
        if self.mode == "rw" or (manifest == self.manifest and size == self._log_seen):
            return False
        try:
            self._load()
        except BaseException:
            self._log_seen = None
            raise
        return True

    def current(self, use: Callable[[list[Segment]], Result]) -> Result:
        """Return what `use` makes of the segments; where a writer has replaced files before they were read, of its."""
        for _ in range(_ATTEMPTS):
            try:
                return use(self.segments())
            except DamagedIndexError:
                if not self.refresh():
                    raise
        return use(self.segments())

    def close(self) -> None:
        """Close the files and give up the lock; nothing is lost if this is never called."""
        for segment in self.sealed:
            segment.close()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock is not None:
            self._lock.release()


def described(kind: bytes, body: bytes, settings: IndexSettings) -> Change:
    """Return a change that the log holds with what it is about."""
    return Change(kind, body, json.loads(body)) if kind == REMOVE else _put(body, unpack(body, settings))


def _put(body: bytes, columns: Columns) -> Change:
    return Change(PUT, body, texts(columns, "id"), texts(columns, "path")[0])


def can_begin(folder: Path) -> bool:
    """Tell whether an index can be made in a folder: it is missing, empty, or holds one whose making was cut short."""
    if not folder.exists():
        return True
    begun = (SEGMENTS, _LOCK, "log-00000000.wal")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else [""]
    ours = all(name in begun or name.startswith(f".{MANIFEST}.") for name in names)
    return ours and not any((folder / SEGMENTS).glob("*"))


def create_store(folder: Path, settings: IndexSettings) -> Store:
    """Make the files of an empty index, and open it for writing.

    Raises:
        OutputExistsError: something else is in the folder.
        IndexLockedError: another process is making an index there.
    """
    _require_free(folder)  # before a lock file is left in it
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock(folder / _LOCK)
    try:
        _require_free(folder)  # another process may have been quicker
        (folder / SEGMENTS).mkdir(exist_ok=True)
        manifest = Manifest(settings)
        Log(folder / manifest.log).close()
        sync_folder(folder)
        write_manifest(folder, manifest)
        for path in made:
            sync_folder(path.parent)
        return Store(folder, "rw", lock)
    except BaseException:
        lock.release()
        raise


def _require_free(folder: Path) -> None:
    if not can_begin(folder):
        raise OutputExistsError(folder)


def _mergeable(sealed: Sequence[Segment], clips: int, has_room: Callable[[Sequence[Segment]], bool]) -> int:
    """Count the last segments to join with a new one of `clips`: wherever eight in a row are of about one size."""
    joined = 0
    while True:
        limit = _FAN_OUT * max(clips, 1)
        sizes = [segment.clips for segment in sealed[: len(sealed) - joined]]
        run = list(takewhile(limit.__gt__, reversed(sizes)))
        if len(run) + 1 < _FAN_OUT or not has_room(sealed[len(sizes) - len(run) :]):
            return joined
        joined += len(run)
        clips += sum(run)


def _up_to_date(root: Path, segment: Segment, generation: int, made: list[Path]) -> SegmentEntry:
    """Write which videos of a segment are removed, if that has changed, and the copies that format 1 did not have."""
    entry = segment.entry
    assert entry is not None
    files, removed, folder = dict(entry.files), entry.removed, root / entry.name
    new: dict[str, list[memoryview]] = {}
    if COPY not in files:
        new[COPY] = [raw(segment.columns[name]) for name in copied_columns(segment.settings)]
    if segment.removed_since_sealed or (removed and f"copy_{removed}" not in files):
        files = {file: value for file, value in files.items() if not removed or removed not in file}
        removed = f"removed_{generation:08d}.bin"
        new |= {removed: [raw(segment.removed)], f"copy_{removed}": [raw(segment.removed)]}
    for file, chunks in new.items():
        made.append(folder / file)
        files[file] = sum(map(len, chunks)), write_file(folder / file, chunks)
    if new:
        sync_folder(folder)
    return replace(entry, files=files, removed=removed)


def _discard(paths: Iterable[Path]) -> None:
    """Remove files and folders of ours; what cannot be removed now is removed when the index is next written."""
    for path in paths:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s could not be removed: %s", path, error.strerror)
