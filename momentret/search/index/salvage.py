"""A damaged segment -> the videos of it that are whole: nothing is believed without a checksum that it matches."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from momentret.search.index.columns import Columns, concatenate, row_layout, summarise, texts
from momentret.search.index.disk import checksum_of, reading
from momentret.search.index.errors import DamagedIndexError
from momentret.search.index.manifest import SegmentEntry
from momentret.search.index.segment import (
    COPY,
    DERIVED,
    POOL_COLUMNS,
    Segment,
    column_layout,
    copied_columns,
    read_column,
    row_file,
)
from momentret.search.index.settings import IndexSettings

__all__ = ["LostVideo", "damaged_files", "salvage_segment"]


@dataclass(frozen=True)
class LostVideo:
    """A video that is damaged; None: so is what said its id or its path."""

    video_id: str | None
    path: str | None


def damaged_files(folder: Path, entry: SegmentEntry) -> list[Path]:
    """Return the files of a segment that are missing or not what was written."""
    return [folder / file for file, (_, checksum) in entry.files.items() if not _is_whole(folder / file, checksum)]


def _is_whole(path: Path, checksum: int) -> bool:
    try:
        return checksum_of(path) == checksum
    except DamagedIndexError:
        return False


def salvage_segment(
    folder: Path, entry: SegmentEntry, settings: IndexSettings, damaged: Collection[str]
) -> tuple[Segment, list[LostVideo]]:
    """Return a segment whose `damaged` files are done without, its lost videos as removed, and these.

    What a column held is taken from the copy; chapters and pooled vectors are computed again.
    """
    columns, removed = _copied(folder, entry, settings), _removed(folder, entry)
    codes = folder / "clip_codes.bin"
    if removed is None or len(columns) < len(copied_columns(settings)) or not codes.exists():
        return Segment(concatenate([], settings), settings), _all_lost(columns, entry, removed)
    rows = row_file(folder, "clip_codes", settings)
    if any(file.removesuffix(".bin") in DERIVED or file.startswith("basis") for file in damaged):
        segment = Segment(columns, settings, removed, rows=rows)
        lost = _take_out_damaged(segment)
        segment.columns.update(_derived(segment))
    else:
        small = (name for name in DERIVED if name not in POOL_COLUMNS)
        columns |= {name: read_column(folder, entry, name, settings) for name in small}
        segment = Segment(columns, settings, removed, rows=rows, entry=entry, folder=folder)
        lost = _take_out_damaged(segment)
    return segment, lost


def _copied(folder: Path, entry: SegmentEntry, settings: IndexSettings) -> Columns:
    """Return the columns that are in a file of their own and in the copy, as far as one of the two is whole."""
    columns, copy, position = Columns(), _content(folder / COPY), 0
    for name in copied_columns(settings):
        rows, checksum = entry.files[f"{name}.bin"]
        dtype, _ = column_layout(name, settings)
        part = copy[position : position + rows * dtype.itemsize]
        position += rows * dtype.itemsize
        content = _whole((_content(folder / f"{name}.bin"), part), checksum)
        if content is not None:
            columns[name] = np.frombuffer(content, dtype)
    return columns


def _removed(folder: Path, entry: SegmentEntry) -> np.ndarray | None:
    """Return which videos are removed ``(N,)``; None where that cannot be told."""
    if entry.removed is None:
        return np.zeros(entry.files["clip_count.bin"][0], dtype=bool)
    copies = (_content(folder / file) for file in (entry.removed, f"copy_{entry.removed}"))
    content = _whole(copies, entry.files[entry.removed][1])
    return None if content is None else np.frombuffer(content, bool).copy()


def _content(path: Path) -> bytes:
    try:
        with reading(path):
            return path.read_bytes()
    except DamagedIndexError:
        return b""


def _whole(contents: Iterable[bytes], checksum: int) -> bytes | None:
    return next((content for content in contents if zlib.crc32(content) == checksum), None)


def _all_lost(columns: Columns, entry: SegmentEntry, removed: np.ndarray | None) -> list[LostVideo]:
    count = entry.files["clip_count.bin"][0]
    legible = [
        texts(columns, level) if columns.keys() >= {f"{level}_text", f"{level}_count"} else [None] * count
        for level in ("id", "path")
    ]
    gone = np.zeros(count, dtype=bool) if removed is None else removed
    return [LostVideo(*row) for row, is_gone in zip(zip(*legible, strict=True), gone, strict=True) if not is_gone]


def _take_out_damaged(segment: Segment) -> list[LostVideo]:
    """Mark the videos as removed whose clips are not what was written, and return them."""
    lost = [row for row in np.flatnonzero(~segment.removed).tolist() if not _has_its_clips(segment, row)]
    segment.removed[lost] = True
    return [LostVideo(segment.ids[row], segment.paths[row]) for row in lost]


def _has_its_clips(segment: Segment, row: int) -> bool:
    try:
        segment.check_video(row)
    except DamagedIndexError:
        return False
    return True


def _derived(segment: Segment) -> Columns:
    """Compute chapters and pooled vectors of the videos that are not removed; of the others there are none."""
    layout = row_layout(segment.settings)
    nothing = {name: np.zeros((int(name.endswith("count")), *layout[name][1]), layout[name][0]) for name in DERIVED}
    parts = [nothing] * segment.videos
    for row in np.flatnonzero(~segment.removed).tolist():
        begin, end = segment.clip_begins[row : row + 2].tolist()
        codes, peaks = segment.clip_codes([(begin, end)], [row]), segment.columns["clip_peak"][begin:end]
        parts[row] = summarise(codes, peaks, segment.settings)
    return {name: np.concatenate([part[name] for part in parts]) for name in DERIVED}
