"""Our packed format: one folder a family, one file of rows, read through a memory map.

    <store>/video/<family>/  rows.npy       the rows of all items, one item after the other: a NumPy array (N, D)
    <store>/text/<family>/   index.json     {"ids": [...], "lengths": [...], "checksums": [...]}, in the same order
                             manifest.json  {"format", "count", "rows", "index_checksum", "source": SourceManifest}

A row starts at a multiple of its number format after a header of 128 bytes; an item is a contiguous slice. Offsets are
the running sum of the lengths, so they cannot contradict them. Checksums are CRC-32: they find damage, at more than a
gigabyte a second, and are no protection against forgery. The manifest is written last: a folder without one does
not open.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import FeatureError, OutputExistsError
from momentret.features.layouts import Family
from momentret.features.manifest import FORMAT_VERSION, SourceManifest
from momentret.features.readers import check_rows, npy_header
from momentret.features.sources import check_id, find_path
from momentret.files import refuse_existing, stage_for

__all__ = ["PackedSource", "staged_folder", "write_family"]

FORMAT = "momentret-features"
MANIFEST, INDEX, ROWS = "manifest.json", "index.json", "rows.npy"


class PackedSource:
    """One family of a packed store; reading is a slice of a memory map and copies nothing."""

    def __init__(self, path: Path, manifest: SourceManifest, rows: np.ndarray, index: dict[str, list[Any]]) -> None:
        self.path, self.manifest = path, manifest
        stops = np.cumsum(index["lengths"]).tolist()
        starts = [0, *stops[:-1]]
        self._places = dict(zip(index["ids"], zip(starts, stops, index["checksums"], strict=True), strict=True))
        self._rows = rows  # (N, D), read-only

    @classmethod
    def open(cls, root: Path, name: str, family: Family) -> PackedSource | None:
        """Open the family where the layout says it is; None if it is not there."""
        found = (find_path(root, pattern.replace("{family}", name)) for pattern in family.files)
        path = next((path for path in found if path is not None), None)
        return None if path is None else cls.load(path.parent)

    @classmethod
    def load(cls, path: Path) -> PackedSource:
        """Open a family's folder: milliseconds for 10,000 items, whatever their size.

        Raises:
            FeatureError: a file is missing, damaged, of another version, or not what the others say.
        """
        path = Path(path).resolve()
        manifest, facts = _read_manifest(path / MANIFEST)
        index = _read_index(path / INDEX, facts)
        return cls(path, manifest, _map_rows(path / ROWS, manifest, facts["rows"]), index)

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedSource.load, (self.path,), {"manifest": self.manifest}  # another process maps the file itself

    def ids(self) -> list[str]:
        """Return all ids, sorted."""
        return sorted(self._places)

    def __contains__(self, item_id: str) -> bool:
        return check_id(item_id) in self._places

    def read(self, item_id: str) -> np.ndarray:
        """Return a read-only view ``(L, D)`` of the file, checked when it was packed; see `FeatureSource`."""
        try:
            start, stop, _ = self._places[item_id]
        except KeyError:
            check_id(item_id)
            raise FeatureError(f"{self.where(item_id)} are missing; pack them or leave the item out") from None
        return self._rows[start:stop]

    def where(self, item_id: str) -> str:
        """Say which store holds the item, or would."""
        return f"{self.manifest.family} features of {item_id!r} ({self.path})"

    def check(self, item_id: str) -> None:
        """Read every byte of an item.

        Raises:
            FeatureError: the bytes are not those that were packed, or not finite numbers.
        """
        rows = check_rows(self.read(item_id), self.where(item_id))
        if zlib.crc32(rows.data) != self._places[item_id][2]:
            raise FeatureError(f"{self.where(item_id)} are damaged: their checksum differs; pack them again")


def _read_json(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        content = path.read_bytes()
        values = json.loads(content)
    except OSError as error:
        raise FeatureError(f"{path} cannot be read: {error.strerror}; pack the features again") from error
    except (ValueError, RecursionError) as error:
        raise FeatureError(f"{path} is damaged ({error}); pack the features again") from error
    if not isinstance(values, dict):
        raise FeatureError(f"{path} is damaged: a {type(values).__name__}; pack the features again")
    return values, content


def _read_manifest(path: Path) -> tuple[SourceManifest, dict[str, Any]]:
    values, _ = _read_json(path)
    if values.get("format") != FORMAT or not isinstance(values.get("source"), dict):
        raise FeatureError(f"{path} is no manifest of packed features; is this the right folder?")
    version = values["source"].get("format_version")
    if version != FORMAT_VERSION:
        raise FeatureError(f"{path} has format version {version!r}, expected {FORMAT_VERSION}; pack the features again")
    for key in ("count", "rows", "index_checksum"):
        if type(values.get(key)) is not int:
            raise FeatureError(f"{path} is damaged: {key!r} is {values.get(key)!r}; pack the features again")
    try:
        return SourceManifest.from_dict(values["source"]), values
    except FeatureError as error:
        raise FeatureError(f"{path} is damaged: {error}") from error


def _read_index(path: Path, facts: dict[str, Any]) -> dict[str, list[Any]]:
    values, content = _read_json(path)
    if zlib.crc32(content) != facts["index_checksum"]:
        raise FeatureError(f"{path} is damaged: its checksum differs; pack the features again")
    columns = [values.get(key) for key in ("ids", "lengths", "checksums")]
    if not all(isinstance(column, list) and len(column) == facts["count"] for column in columns):
        raise FeatureError(f"{path} is damaged: it does not list {facts['count']} items; pack the features again")
    ids, *numbers = ({type(value) for value in column} for column in columns if column is not None)
    if ids != {str} or any(kinds != {int} for kinds in numbers) or len(set(values["ids"])) != facts["count"]:
        raise FeatureError(f"{path} is damaged: ids must be different names, the rest numbers; pack the features again")
    if min(values["lengths"]) < 1 or sum(values["lengths"]) != facts["rows"]:
        raise FeatureError(f"{path} is damaged: lengths do not add up to {facts['rows']}; pack the features again")
    return values


def _map_rows(path: Path, manifest: SourceManifest, rows: int) -> np.ndarray:
    """Map the data file read-only as ``(N, D)`` after checking that it is whole."""
    expected = (rows, manifest.dimension)
    try:
        with open(path, "rb") as file:
            shape, fortran_order, dtype, offset = npy_header(file, path)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FeatureError(f"{path} cannot be read: {error.strerror}; pack the features again") from error
    if shape != expected or fortran_order or dtype != np.dtype(manifest.dtype).newbyteorder("<"):
        raise FeatureError(f"{path} holds {dtype} {shape}, the manifest says {manifest.dtype} {expected}; pack again")
    if size != offset + rows * manifest.dimension * dtype.itemsize:
        raise FeatureError(f"{path} has {size:,} bytes, not those of {dtype} {shape}: it is cut short; pack again")
    mapped = np.memmap(path, dtype, "r", offset, shape)
    return mapped.view(np.ndarray)  # slices of a plain array are made ten times as fast


def write_family(folder: Path, manifest: SourceManifest, items: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write one family into a new folder; nothing opens there until the last file is written.

    Args:
        folder: new; inside a `staged_folder`, as ``video/<family>`` or ``text/<family>``.
        manifest: what the rows are; `dtype` is the number format to write.
        items: ``(id, rows (L, D))`` with ids that differ; written in this order.

    Raises:
        FeatureError: an item that is no finite ``(L, D)`` array, would lose precision, or comes twice; or no items.
    """
    folder.mkdir(parents=True)
    index: dict[str, list[Any]] = {"ids": [], "lengths": [], "checksums": []}
    seen: set[str] = set()
    with open(folder / ROWS, "wb") as file:
        _write_header(file, manifest, 0)
        for item_id, rows in items:
            if check_id(item_id) in seen:
                raise FeatureError(f"{manifest.family} features of {item_id!r} come twice; leave one out")
            seen.add(item_id)
            content = _to_dtype(rows, manifest, item_id)
            file.write(content)
            for key, value in (("ids", item_id), ("lengths", len(rows)), ("checksums", zlib.crc32(content))):
                index[key].append(value)
        if not seen:
            raise FeatureError(f"there are no {manifest.family} features to pack; are the ids those of the files?")
        file.seek(0)
        _write_header(file, manifest, sum(index["lengths"]))
        _flush(file)
    content = json.dumps(index).encode()
    _write_bytes(folder / INDEX, content)
    facts = {"count": len(seen), "rows": sum(index["lengths"]), "index_checksum": zlib.crc32(content)}
    values = {"format": FORMAT, **facts, "source": manifest.to_dict()}
    _write_bytes(folder / MANIFEST, (json.dumps(values, indent=2) + "\n").encode())


def _write_header(file: Any, manifest: SourceManifest, rows: int) -> None:
    descr = np.lib.format.dtype_to_descr(np.dtype(manifest.dtype).newbyteorder("<"))
    values = {"descr": descr, "fortran_order": False, "shape": (rows, manifest.dimension)}
    np.lib.format.write_array_header_1_0(file, values)  # pads, so that a longer count of rows fits later
    assert file.tell() == 128


def _to_dtype(rows: np.ndarray, manifest: SourceManifest, item_id: str) -> Any:
    """Return the rows as bytes to write, in the family's number format."""
    name, dtype = f"{manifest.family} features of {item_id!r}", np.dtype(manifest.dtype)
    if rows.dtype.itemsize > dtype.itemsize:
        raise FeatureError(f"{name} are {rows.dtype}, others {dtype}: they would lose precision; pack as {rows.dtype}")
    converted = rows.astype(dtype.newbyteorder("<"), order="C", copy=False)
    return check_rows(converted, name, manifest.dimension).data


def _write_bytes(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        _flush(file)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def staged_folder(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `output` that takes its place when the block ends well.

    Args:
        output: the store to make; missing parent folders are made.
        overwrite: replace a packed store that is there. Anything else is never replaced.

    Raises:
        OutputExistsError: `output` exists and `overwrite` is false.
        FeatureError: `output` holds something other than a packed store.
    """
    output = output.resolve()
    _require_replaceable(output, overwrite)
    with stage_for(output) as stage:
        yield stage
        _require_replaceable(output, overwrite)  # packing took a while: look again
        _put_in_place(stage, output)


def _require_replaceable(output: Path, overwrite: bool) -> None:
    refuse_existing(output, overwrite)
    if output.exists() and not _is_only_packed(output):
        raise FeatureError(f"{output} is not a packed store and is not overwritten; choose another path")


def _put_in_place(stage: Path, output: Path) -> None:
    old = stage.with_suffix(".old")
    if output.exists():
        output.rename(old)
    try:
        stage.rename(output)
    except OSError as error:
        if old.exists() and not output.exists():
            old.rename(output)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # made by someone else meanwhile
            raise OutputExistsError(output) from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_only_packed(path: Path) -> bool:
    """Return whether the folder holds families and nothing that a user may have put there."""
    files = {file.relative_to(path).parts for file in path.rglob("*") if not file.is_dir()}
    return path.is_dir() and all(
        len(parts) == 3 and parts[0] in ("video", "text") and parts[2] in (MANIFEST, INDEX, ROWS) for parts in files
    )
