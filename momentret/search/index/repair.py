"""`repair_index`: of a damaged index keep every video that is whole, take out the others, and say which.

What is found damaged gets a second name below ``damaged/`` before the manifest changes, and loses the first one after.
So a repair that is killed has changed nothing or everything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path

from momentret.files import atomic_write
from momentret.progress import Progress, silent
from momentret.search.index.disk import sync_folder, write_file
from momentret.search.index.errors import BEYOND_REPAIR, REPAIR, DamagedIndexError
from momentret.search.index.log import EMPTY, PUT, REMOVE, read_log, salvage_log
from momentret.search.index.manifest import (
    MANIFEST,
    MANIFEST_COPY,
    Manifest,
    SegmentEntry,
    check_manifests,
    copy_manifest,
    read_manifest,
    write_manifest,
)
from momentret.search.index.salvage import LostVideo, damaged_files, salvage_segment
from momentret.search.index.segment import Segment
from momentret.search.index.store import SEGMENTS, Store, described

__all__ = ["Repair", "repair_index"]

_ASIDE, TAKEN_OUT = "damaged", "taken_out.jsonl"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Repair:
    """What a repair did."""

    damaged: tuple[Path, ...]
    """The files that were damaged or missing, by their paths below the index; none: nothing was done."""
    aside: Path | None
    """The folder that they were moved to, with a list of what is `lost`."""
    lost: tuple[LostVideo, ...]
    """The videos that were taken out."""


def repair_index(folder: Path | str, progress: Progress = silent) -> Repair:
    """Read every byte of an index and take out, in one step, what is damaged; a sound index stays as it is.

    Raises:
        DamagedIndexError: what the index held cannot be told; it stays as it is.
        IndexLockedError: another process is writing.
    """
    store = _Salvage(Path(folder), progress)
    try:
        return store.repair()
    finally:
        store.close()


class _Salvage(Store):
    """The store of an index that may be damaged: opening it reads every byte, and keeps what is whole.

    Args:
        folder: of the index.
        progress: reports on the segments.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.damaged: list[Path] = []
        self._progress = progress
        self._lost: dict[str, LostVideo] = {}
        self._unnamed: list[LostVideo] = []
        self._first: int | None = None  # from which segment on the index is to be written anew
        super().__init__(folder, "rw")

    def _load(self) -> None:
        self.manifest = self._manifest()
        entries, root = self.manifest.segments, self.folder / SEGMENTS
        bar = self._progress(entries, "repair", len(entries))
        self._found = {entry.name: damaged_files(root / entry.name, entry) for entry in bar}
        self._read_all()
        try:
            check_manifests(self.folder)
        except DamagedIndexError as damage:
            self.damaged.append(damage.path)

    def _manifest(self) -> Manifest:
        try:
            return read_manifest(self.folder)
        except DamagedIndexError as damage:
            return _copy_instead(self.folder, damage)

    def _open(self, entry: SegmentEntry) -> Segment:
        damaged = self._found[entry.name]
        if not damaged:
            return super()._open(entry)
        self._note_damage(damaged)
        folder = self.folder / SEGMENTS / entry.name
        segment, lost = salvage_segment(folder, entry, self.manifest.settings, {path.name for path in damaged})
        self._lost |= {video.video_id: video for video in lost if video.video_id is not None}
        self._unnamed += [video for video in lost if video.video_id is None]
        return segment

    def _note_damage(self, damaged: Sequence[Path]) -> None:
        self.damaged += damaged
        self._first = len(self.sealed) if self._first is None else self._first

    def _logged(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the changes in the log as far as they are whole; what is put in place of a lost video is not lost."""
        path, settings = self.folder / self.manifest.log, self.manifest.settings
        try:
            read_log(path)
        except DamagedIndexError:
            self._note_damage([path])
        for change in salvage_log(path, self.manifest.guarded, partial(described, settings=settings)):
            for name in change.names:
                self._lost.pop(name, None)
            if change.kind == PUT and change.sound:
                yield PUT, change.body
                continue
            yield REMOVE, json.dumps(list(change.names)).encode()
            if change.kind == PUT:
                self._lost |= {name: LostVideo(name, change.path) for name in change.names}

    def repair(self) -> Repair:
        """Make what is whole the index, if not all of it is."""
        lost = (*self._named(), *self._unnamed)
        aside = _put_aside(self.folder, self.damaged, lost) if self.damaged else None
        if self.folder / MANIFEST in self.damaged:
            write_manifest(self.folder, self.manifest)
        if self._first is not None:
            self._remove_leftovers()  # of a repair that was killed
            self._replace(self._first, self._unsealed())
        if self.damaged:
            copy_manifest(self.folder)
        return Repair(tuple(path.relative_to(self.folder) for path in self.damaged), aside, lost)

    def _named(self) -> list[LostVideo]:
        return [video for name, video in sorted(self._lost.items()) if name not in self.place]


def _copy_instead(folder: Path, damage: DamagedIndexError) -> Manifest:
    """Return the copy of a damaged manifest, if it is whole and no change came after it."""
    try:
        copy = read_manifest(folder, MANIFEST_COPY)
    except DamagedIndexError as error:
        if damage.step != REPAIR:
            raise damage from None  # it is no index, or one of a newer format
        raise DamagedIndexError(damage.path, f"{damage.what}, and its copy {error.what}", BEYOND_REPAIR) from damage
    for path in folder.glob("log-*.wal"):
        if path.name > copy.log and path.stat().st_size > EMPTY:
            what = f"{damage.what}, and its copy is older than {path.name}"
            raise DamagedIndexError(damage.path, what, BEYOND_REPAIR) from damage
    return copy


def _put_aside(folder: Path, damaged: Sequence[Path], lost: Sequence[LostVideo]) -> Path:
    """Give damaged files a second name in a new folder, which stays when the index lets go of them; list `lost` there.

    Durably, and before anything else: after a repair that was killed, that is where it says what it took out.
    """
    aside = next(path for number in count(1) if not (path := folder / _ASIDE / str(number)).exists())
    with atomic_write(aside / TAKEN_OUT) as file:
        file.writelines(json.dumps(asdict(video)) + "\n" for video in lost)
    for path in filter(Path.exists, damaged):
        target = aside / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # this file system has one name a file
            with open(path, "rb") as file:
                write_file(target, iter(partial(file.read, _CHUNK), b""))
        for inner in target.relative_to(aside).parents:
            sync_folder(aside / inner)
    for made in (aside, aside.parent, folder):
        sync_folder(made)
    return aside
