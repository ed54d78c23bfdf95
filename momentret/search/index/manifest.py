"""The manifest: the one file that says which files are the index. It is replaced as a whole, by renaming.

Beside it lies a copy, which nothing reads but a repair of an index whose manifest is damaged.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from momentret.errors import MomentretError
from momentret.files import atomic_write, blamed_on
from momentret.search.index.disk import reading, sync_folder
from momentret.search.index.errors import DamagedIndexError
from momentret.search.index.settings import IndexSettings

__all__ = [
    "FORMAT",
    "MANIFEST",
    "MANIFEST_COPY",
    "Manifest",
    "SegmentEntry",
    "check_manifests",
    "copy_manifest",
    "is_index",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"
MANIFEST_COPY = f"{MANIFEST}.copy"
FORMAT = 2
"""What is written; format 1, without what a repair goes by, is read, and brought to this one by the next writer."""
_NO_INDEX = "give the folder of an index, or make one with momentret index add"
_SEGMENT_NAME = re.compile(r"\d{8}")
_FILE_NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9]+")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One sealed segment: its folder's name and ``(rows, CRC-32)`` of every file in it."""

    name: str
    files: dict[str, tuple[int, int]]
    removed: str | None = None
    """The file that marks removed videos, if any are."""

    def __post_init__(self) -> None:
        names = [*self.files, *([self.removed] if self.removed else [])]
        if not _SEGMENT_NAME.fullmatch(self.name) or not all(map(_FILE_NAME.fullmatch, names)):
            raise ValueError(f"segment {self.name!r} or a file of it has a name that this program does not write")

    @property
    def copies(self) -> list[str]:
        """List the files that nothing but a repair reads."""
        return [file for file in self.files if file.startswith("copy")]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the index consists of, and its settings."""

    settings: IndexSettings
    generation: int = 0
    """Counts the manifests; names of new segments and logs are made from it, so none is used twice."""
    segments: tuple[SegmentEntry, ...] = field(default=())
    format: int = FORMAT

    @property
    def log(self) -> str:
        """Return the name of the log that holds what came after this manifest."""
        return f"log-{self.generation:08d}.wal"

    @property
    def guarded(self) -> bool:
        """Tell whether what a repair goes by is there: a copy of this, and a note before each change of the log."""
        return self.format > 1

    def next(self, segments: tuple[SegmentEntry, ...]) -> Manifest:
        """Return the manifest that replaces this one."""
        return replace(self, generation=self.generation + 1, segments=segments, format=FORMAT)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put `manifest` in force, atomically and durably."""
    body = json.dumps(asdict(manifest), sort_keys=True)
    path = folder / MANIFEST
    with blamed_on(path):
        with atomic_write(path) as file:
            content = {"format": manifest.format, "crc32": zlib.crc32(body.encode()), "index": json.loads(body)}
            json.dump(content, file, indent=1)
        sync_folder(folder)
    copy_manifest(folder)


def copy_manifest(folder: Path) -> None:
    """Bring the copy up to date; where that fails the index is as sound, and the next writer tries again."""
    path = folder / MANIFEST_COPY
    try:
        content = (folder / MANIFEST).read_bytes()
        if not path.exists() or path.read_bytes() != content:
            with atomic_write(path, "wb") as file:
                file.write(content)
            sync_folder(folder)
    except OSError as error:
        logger.warning("%s could not be written: %s", path, error.strerror)


def is_index(folder: Path) -> bool:
    """Tell whether a folder is an index, be it a damaged one: it holds a manifest, or the copy of one."""
    return any((folder / name).exists() for name in (MANIFEST, MANIFEST_COPY))


def check_manifests(folder: Path) -> None:
    """Read the manifest and its copy, which an index of format 1 has not.

    Raises:
        DamagedIndexError: one is missing or damaged.
    """
    if read_manifest(folder).guarded:
        read_manifest(folder, MANIFEST_COPY)


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest:
    """Read the manifest in force, or its copy.

    Raises:
        DamagedIndexError: it is missing, damaged, or of a newer format.
    """
    path = folder / name
    begun = is_index(folder) or name == MANIFEST_COPY
    try:
        with reading(path, *([] if begun else [_NO_INDEX])):
            content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedIndexError(path, "is not JSON") from error
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise DamagedIndexError(path, f"has format {content['format']}, newer than {FORMAT}", "upgrade momentret")
    try:
        if content["crc32"] != zlib.crc32(json.dumps(content["index"], sort_keys=True).encode()):
            raise DamagedIndexError(path, "does not match its checksum")
        manifest = _parse(content["index"])
        if content["format"] != manifest.format:
            raise DamagedIndexError(path, "names two formats")
        return manifest
    except (KeyError, TypeError, ValueError, AttributeError, MomentretError) as error:
        if isinstance(error, DamagedIndexError):
            raise
        raise DamagedIndexError(path, f"is not a manifest ({error})") from error


def _parse(index: dict[str, Any]) -> Manifest:
    return Manifest(
        settings=IndexSettings(**index["settings"]),
        generation=int(index["generation"]),
        segments=tuple(
            SegmentEntry(entry["name"], {k: (int(a), int(b)) for k, (a, b) in entry["files"].items()}, entry["removed"])
            for entry in index["segments"]
        ),
        format=int(index.get("format", 1)),
    )
