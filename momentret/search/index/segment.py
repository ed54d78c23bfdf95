"""A list of videos that can be scored: a sealed segment on disk, or the videos that are only in the log."""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from momentret.search.index.codes import encode, peak_scale
from momentret.search.index.columns import HEAD, Columns, level_of, row_layout, texts
from momentret.search.index.disk import (
    RowFile,
    raw,
    read_array,
    reading,
    require_checksum,
    sync_folder,
    write_file,
)
from momentret.search.index.errors import DamagedIndexError
from momentret.search.index.manifest import SegmentEntry
from momentret.search.index.runs import Run
from momentret.search.index.settings import IndexSettings, Video

__all__ = [
    "COPY",
    "DERIVED",
    "POOL_COLUMNS",
    "Segment",
    "are_outlined",
    "column_layout",
    "copied_columns",
    "first_stage_bytes",
    "open_segment",
    "read_column",
    "row_file",
    "write_segment",
]

POOL_COLUMNS = ("pool_head", "pool_tail", "pool_peaks", "pool_weight", "pool_radius")
DERIVED = ("chapter_count", "chapter_clips", "chapter_pools", "pool_count", *POOL_COLUMNS)
"""What can be computed again from the clips."""
COPY = "copy.bin"
"""What cannot, but for the clips themselves, is in a segment twice: in a file a column, and together in this one."""
_BASIS = ("basis_mean", "basis_rotation")
_CHUNK_BYTES = 16 << 20
_CHUNK_CHAPTERS = 2_048
"""Chapters whose outlines are made at a time."""
MANY_CHAPTERS = 200_000
"""Chapters of an index from which on searches begin with outlines."""


class Segment:
    """The columns of some videos; the wide ones of a sealed segment are read when first needed, and checked then.

    Args:
        columns: everything but what `rows` and `pools` bring.
        removed: ``(N,)`` bool, true for videos that are no longer there.
        rows: the clip codes, if they are on disk.
        tails: the column ``pool_tail``, if it is on disk and the segment has a basis.
        entry: what the manifest says, if the pooled vectors are on disk.
        folder: where they are.
    """

    def __init__(
        self,
        columns: Columns,
        settings: IndexSettings,
        removed: np.ndarray | None = None,
        *,
        rows: RowFile | None = None,
        tails: RowFile | None = None,
        entry: SegmentEntry | None = None,
        folder: Path | None = None,
    ) -> None:
        self.columns, self.settings = columns, settings
        self.removed = np.zeros(self.videos, dtype=bool) if removed is None else removed
        self._removed_on_disk = self.removed.copy()
        self._rows, self._tails, self.entry, self.folder = rows, tails, entry, folder
        self._checked = np.zeros(self.videos, dtype=bool)
        self.neighbours: dict[str, Any] = {}
        self._begins: dict[str, np.ndarray] = {}

    @property
    def videos(self) -> int:
        """Count the videos, removed ones included."""
        return len(self.columns["clip_count"])

    @property
    def clips(self) -> int:
        """Count the clips, of removed videos too."""
        return len(self.columns["clip_peak"])

    @property
    def removed_since_sealed(self) -> bool:
        """Tell whether videos were removed that no file says so of yet."""
        return not np.array_equal(self.removed, self._removed_on_disk)

    def seal_removed(self, entry: SegmentEntry) -> None:
        """Take note that the removed videos are on disk as `entry` says."""
        self.entry, self._removed_on_disk = entry, self.removed.copy()

    def restore(self) -> None:
        """Go back to the removed videos that are on disk."""
        self.removed = self._removed_on_disk.copy()

    @cached_property
    def ids(self) -> list[str]:
        """List the video ids."""
        return texts(self.columns, "id")

    def rows_of(self, ids: Container[str]) -> list[int]:
        """Return the rows of the videos that have one of these ids, removed ones too."""
        return [row for row, name in enumerate(self.ids) if name in ids]

    @cached_property
    def paths(self) -> list[str]:
        """List the paths of the files."""
        return texts(self.columns, "path")

    @cached_property
    def hashes(self) -> list[str]:
        """List the hashes of the files' contents."""
        return texts(self.columns, "hash")

    def video(self, row: int) -> Video:
        """Return the record of one video."""
        names = ("duration", "clip_length", "start", "modified")
        numbers = {name: float(self.columns[f"video_{name}"][row]) for name in names}
        size = int(self.columns["video_size"][row])
        return Video(self.ids[row], self.paths[row], self.hashes[row], size=size, **numbers)

    def begins(self, level: str) -> np.ndarray:
        """Return the first row of each video at a level, and the end ``(N + 1,)``."""
        if level not in self._begins:
            self._begins[level] = _begins(self.columns[f"{level}_count"])
        return self._begins[level]

    @cached_property
    def clip_begins(self) -> np.ndarray:
        """Return the first clip row of each video, and the end ``(N + 1,)``."""
        return self.begins("clip")

    @cached_property
    def chapters(self) -> Chapters:
        """Return the runs of clips that the first stage scores as one."""
        return Chapters(self.columns)

    @cached_property
    def pools(self) -> Columns:
        """Return the pooled columns, and those of the basis if there is one; read and checked at first use.

        The tails of a segment with a basis are read when they are asked for.
        """
        if self.entry is None or self.folder is None:
            return {name: self.columns[name] for name in POOL_COLUMNS}
        names = [*POOL_COLUMNS, *self.basis_names]
        if self._tails is not None:
            names.remove("pool_tail")
        read = {name: read_column(self.folder, self.entry, name, self.settings) for name in names}
        return read if self._tails is None else _LazyTails(read, self._tails, self._tails_checksum)

    @property
    def _tails_checksum(self) -> int:
        assert self.entry is not None
        return self.entry.files["pool_tail.bin"][1]

    @cached_property
    def tails_on_disk(self) -> RowFile:
        """Return the rows of ``pool_tail`` of a segment with a basis, checked but not kept in memory.

        Raises:
            DamagedIndexError: they are not what was written.
        """
        assert self._tails is not None
        self._tails.check(self._tails_checksum)
        return self._tails

    @property
    def basis_names(self) -> tuple[str, ...]:
        """Return the columns of the rotation of the pooled vectors, if there is one."""
        return () if self.entry is None else _basis_columns(self.entry)

    @cached_property
    def outlines(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of each chapter's clips: the first dimensions, as codes ``(C, HEAD)`` and peaks ``(C,)``."""
        heads, peaks, weight = (self.pools[name] for name in ("pool_head", "pool_peaks", "pool_weight"))
        begins, parts = self.chapters.pool_begins, []
        for first in range(0, len(begins) - 1, _CHUNK_CHAPTERS):
            edges = begins[first : first + _CHUNK_CHAPTERS + 1]
            rows, own = slice(edges[0], edges[-1]), edges[:-1] - edges[0]
            clips = weight[rows].astype(np.float32)
            totals = np.add.reduceat(heads[rows] * (clips * peak_scale(peaks[rows, 0], heads.dtype))[:, None], own)
            parts.append(encode(totals / np.add.reduceat(clips, own)[:, None], "int8"))
        codes, scales = zip(*parts, strict=True)
        return np.concatenate(codes), np.concatenate(scales)

    def clip_rows(self, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes ``(L, D)`` of the runs, one after the other, and the factor ``(L,)`` of each row.

        Raises:
            DamagedIndexError: a video's rows do not match their checksum.
        """
        begins = self.clip_begins
        ranges = [(int(begins[run.video]) + run.begin, int(begins[run.video]) + run.end) for run in runs]
        return self.clip_codes(ranges, (run.video for run in runs)), self._clip_scale(ranges)

    def clip_codes(self, ranges: Sequence[tuple[int, int]], owners: Iterable[int]) -> np.ndarray:
        """Return the codes of the clip rows in `ranges`, one after the other; the videos they are of are checked first.

        Raises:
            DamagedIndexError: a video's rows do not match their checksum.
        """
        for owner in owners:
            if not self._checked[owner]:
                self.check_video(owner)
        return self._read(ranges)

    def _read(self, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        if self._rows is None:
            return np.concatenate([self.columns["clip_codes"][begin:end] for begin, end in ranges])
        return self._rows.read(ranges)

    def check_video(self, row: int) -> None:
        """Compare the clips of a video with their checksum.

        Raises:
            DamagedIndexError: they do not match.
        """
        if self._rows is not None:
            codes = self._read([(int(self.clip_begins[row]), int(self.clip_begins[row + 1]))])
            if zlib.crc32(raw(codes)) != self.columns["video_checksum"][row]:
                raise DamagedIndexError(self._rows.path, f"is damaged in the rows of video {self.ids[row]!r}")
        self._checked[row] = True

    def _clip_scale(self, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the factors from codes to values of the clip rows in `ranges`, one after the other."""
        peaks = self.columns["clip_peak"]
        rows = np.concatenate([peaks[begin:end] for begin, end in ranges])
        return peak_scale(rows, row_layout(self.settings)["clip_codes"][0])

    def check(self) -> None:
        """Read everything and compare it with the checksums.

        Raises:
            DamagedIndexError: naming the first file that differs.
        """
        if self.entry is None or self.folder is None:
            return
        for name in (*POOL_COLUMNS, *self.basis_names):
            read_column(self.folder, self.entry, name, self.settings)
        for row in range(self.videos):
            self.check_video(row)
        for file in self.entry.copies:
            size, checksum = self.entry.files[file]
            read_array(self.folder / file, np.dtype("u1"), (size,), checksum)

    def close(self) -> None:
        """Let go of the file."""
        if self._rows is not None:
            self._rows.close()
        if self._tails is not None:
            self._tails.close()


class _LazyTails(dict[str, np.ndarray]):
    """Pooled columns, of which the tails are read into memory when asked for."""

    def __init__(self, others: Columns, tails: RowFile, checksum: int) -> None:
        super().__init__(others)
        self._tails, self._checksum = tails, checksum

    def __missing__(self, name: str) -> np.ndarray:
        if name != "pool_tail":
            raise KeyError(name)
        self[name] = self._tails.read([(0, len(self["pool_head"]))])
        require_checksum(self._tails.path, zlib.crc32(raw(self[name])), self._checksum)
        return self[name]


def _basis_columns(entry: SegmentEntry) -> tuple[str, ...]:
    return _BASIS if f"{_BASIS[0]}.bin" in entry.files else ()


def are_outlined(segments: Sequence[Segment]) -> bool:
    """Tell whether a search in all of these looks at outlines first, and at the pooled vectors of some chapters.

    What is behind the first dimensions of those vectors then stays on disk.
    """
    return sum(len(segment.columns["chapter_clips"]) for segment in segments) >= MANY_CHAPTERS


def first_stage_bytes(segments: Sequence[Segment]) -> int:
    """Count what a search keeps in memory: codes, two peaks, weight and radius of pooled vectors, and outlines."""
    total, outlined = 0, are_outlined(segments)
    for segment in segments:
        far = outlined and bool(segment.basis_names)
        codes = HEAD if far else segment.settings.dim
        total += int(segment.columns["pool_count"].sum()) * (codes + 8)
        total += len(segment.columns["chapter_clips"]) * (HEAD + 2) * far
    return total


class Chapters:
    """The runs of clips of a segment: where each lies among the clips and among the pooled vectors."""

    def __init__(self, columns: Columns) -> None:
        self.clips, self.pools = columns["chapter_clips"], columns["chapter_pools"]
        self.clip_begins, self.pool_begins = _begins(self.clips), _begins(self.pools)
        self.video = np.repeat(np.arange(len(columns["chapter_count"])), columns["chapter_count"])


def _begins(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def copied_columns(settings: IndexSettings) -> list[str]:
    """Return the columns that `COPY` holds, in its order."""
    return [name for name in row_layout(settings) if name not in ("clip_codes", *DERIVED)]


def column_layout(name: str, settings: IndexSettings) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype and the shape of one row of any column of a segment."""
    if name in _BASIS:
        return np.dtype("<f4"), (settings.dim,) if name == "basis_rotation" else ()
    return row_layout(settings)[name]


def read_column(folder: Path, entry: SegmentEntry, name: str, settings: IndexSettings) -> np.ndarray:
    """Read a column from its file.

    Raises:
        DamagedIndexError: it is not what was written.
    """
    file = f"{name}.bin"
    if file not in entry.files:
        raise DamagedIndexError(folder / file, "is not in the manifest")
    rows, checksum = entry.files[file]
    dtype, shape = column_layout(name, settings)
    return read_array(folder / file, dtype, (rows, *shape), checksum)


def open_segment(folder: Path, entry: SegmentEntry, settings: IndexSettings) -> Segment:
    """Open a sealed segment: small columns are read and checked, the sizes of the others compared.

    Raises:
        DamagedIndexError: a file is missing, has another size, or does not match its checksum.
    """
    wide = {"clip_codes", *POOL_COLUMNS}
    columns = {name: read_column(folder, entry, name, settings) for name in row_layout(settings) if name not in wide}
    _check_counts(folder, columns, entry)
    removed = None
    if entry.removed:
        rows, checksum = entry.files[entry.removed]
        removed = read_array(folder / entry.removed, np.dtype("?"), (rows,), checksum)
    for name in ("clip_codes", *POOL_COLUMNS, *_basis_columns(entry)):
        _check_size(folder / f"{name}.bin", entry, column_layout(name, settings))
    codes = row_file(folder, "clip_codes", settings)
    tails = row_file(folder, "pool_tail", settings) if _basis_columns(entry) else None
    return Segment(columns, settings, removed, rows=codes, tails=tails, entry=entry, folder=folder)


def row_file(folder: Path, name: str, settings: IndexSettings) -> RowFile:
    """Open a column whose rows are read on demand.

    Raises:
        DamagedIndexError: it is missing.
    """
    dtype, (width,) = column_layout(name, settings)
    return RowFile(folder / f"{name}.bin", dtype, width)


def _check_size(path: Path, entry: SegmentEntry, layout: tuple[np.dtype[Any], tuple[int, ...]]) -> None:
    expected = entry.files[path.name][0] * layout[0].itemsize * int(np.prod(layout[1], dtype=np.int64))
    with reading(path):
        size = path.stat().st_size
    if size != expected:
        raise DamagedIndexError(path, f"has {size} bytes, expected {expected}")


def _check_counts(folder: Path, columns: Columns, entry: SegmentEntry) -> None:
    """Compare the per-video counts with the rows of each column: later arithmetic relies on them."""
    for file, (rows, _) in entry.files.items():
        name = file.removesuffix(".bin")
        level = level_of(name) if name in columns or name in ("clip_codes", *POOL_COLUMNS) else None
        if level and int(columns[f"{level}_count"].sum(dtype=np.int64)) != rows:
            raise DamagedIndexError(folder / file, f"has {rows} rows, but the videos make another number")


def write_segment(folder: Path, name: str, parts: Sequence[Segment], pools: Columns) -> SegmentEntry:
    """Write the videos of `parts` that are not removed as one new segment, durably.

    Args:
        folder: of all segments.
        name: of the new one.
        parts: where the videos come from, in order.
        pools: the pooled columns (and the basis) of those videos.
    """
    path = folder / name
    path.mkdir(parents=True)
    layout = row_layout(parts[0].settings)
    files: dict[str, tuple[int, int]] = {}
    copied, copies = copied_columns(parts[0].settings), list[memoryview]()
    for column in (*layout, *(_BASIS if _BASIS[0] in pools else ())):
        if column == "clip_codes":
            rows = sum(int(part.columns["clip_count"][~part.removed].sum()) for part in parts)
            chunks: Iterable[memoryview] = (raw(chunk) for part in parts for chunk in live_codes(part))
        else:
            values = pools[column] if column in pools else np.concatenate([live(part, column) for part in parts])
            rows, chunks = len(values), [raw(np.ascontiguousarray(values))]
            copies += chunks if column in copied else []
        files[f"{column}.bin"] = rows, write_file(path / f"{column}.bin", chunks)
    files[COPY] = sum(map(len, copies)), write_file(path / COPY, copies)
    sync_folder(path)
    sync_folder(folder)
    return SegmentEntry(name, files)


def one_video(segment: Segment, row: int) -> Columns:
    """Return the columns of one video, as the segment keeps them."""
    columns = {}
    for name in row_layout(segment.settings):
        level = level_of(name)
        begin, end = (int(segment.begins(level)[i]) for i in (row, row + 1)) if level else (row, row + 1)
        if name == "clip_codes":
            columns[name] = segment.clip_codes([(begin, end)], [row])
        else:
            columns[name] = (segment.pools if name in POOL_COLUMNS else segment.columns)[name][begin:end]
    return columns


def live(segment: Segment, column: str) -> np.ndarray:
    """Return the rows of a column that belong to videos not removed."""
    level = level_of(column)
    values = segment.pools[column] if column in POOL_COLUMNS else segment.columns[column]
    return values[np.repeat(~segment.removed, segment.columns[f"{level}_count"]) if level else ~segment.removed]


def live_codes(segment: Segment) -> Iterable[np.ndarray]:
    """Yield the clip codes of the videos not removed, checked, in pieces of some 16 MiB."""
    row_bytes = segment.settings.dim * row_layout(segment.settings)["clip_codes"][0].itemsize
    ranges: list[tuple[int, int]] = []
    owners: list[int] = []
    size = 0
    for row in np.flatnonzero(~segment.removed).tolist():
        ranges.append((int(segment.clip_begins[row]), int(segment.clip_begins[row + 1])))
        owners.append(row)
        size += (ranges[-1][1] - ranges[-1][0]) * row_bytes
        if size >= _CHUNK_BYTES:
            yield segment.clip_codes(ranges, owners)
            ranges, owners, size = [], [], 0
    if ranges:
        yield segment.clip_codes(ranges, owners)
