"""The table behind an index: one NumPy array a column, the rows of all videos one after the other.

The same columns describe one video (a record of the log), the videos not yet sealed, and a sealed segment; joining and
selecting videos is joining and selecting rows. Rows come at five levels: per video, per chapter, per pooled vector, per
clip, and the bytes of texts; a per-video count says how many each video has.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from momentret.errors import DataError, FeatureError
from momentret.search.index.codes import decode, encode, up_to_float16
from momentret.search.index.disk import raw
from momentret.search.index.pooling import chapter_sizes, pool_sizes
from momentret.search.index.settings import IndexSettings, Video
from momentret.words import count_of

__all__ = [
    "HEAD",
    "Columns",
    "concatenate",
    "decode_pools",
    "describe",
    "encode_pools",
    "encode_video",
    "encoded_batches",
    "level_of",
    "pack",
    "row_layout",
    "summarise",
    "texts",
    "unpack",
]

Columns = dict[str, np.ndarray]

HEAD = 128
"""Dimensions of a pooled vector that come first; a rotated segment is sieved by these alone."""

# column -> (dtype, row width; "": one number a row); the level is what the name begins with
_LAYOUT: dict[str, tuple[str, str]] = {
    "id_count": ("<i4", ""),
    "path_count": ("<i4", ""),
    "hash_count": ("<i4", ""),
    "chapter_count": ("<i4", ""),
    "pool_count": ("<i4", ""),
    "clip_count": ("<i4", ""),
    "video_duration": ("<f8", ""),
    "video_clip_length": ("<f8", ""),
    "video_start": ("<f8", ""),
    "video_size": ("<i8", ""),
    "video_modified": ("<f8", ""),
    "video_checksum": ("<u4", ""),
    "id_text": ("|u1", ""),
    "path_text": ("|u1", ""),
    "hash_text": ("|u1", ""),
    "chapter_clips": ("<i4", ""),
    "chapter_pools": ("<i4", ""),
    "pool_head": ("|i1", "head"),
    "pool_tail": ("|i1", "tail"),
    "pool_peaks": ("<f2", "two"),
    "pool_weight": ("<u2", ""),
    "pool_radius": ("<f2", ""),
    "clip_peak": ("<f2", ""),
    "clip_codes": ("", "dim"),
}
_TEXT = ("utf-8", "surrogateescape")
_LEVELS = ("id", "path", "hash", "chapter", "pool", "clip")


@lru_cache(maxsize=16)
def row_layout(settings: IndexSettings) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return each column's dtype and the shape of one row."""
    head = min(HEAD, settings.dim)
    widths = {"": (), "head": (head,), "tail": (settings.dim - head,), "two": (2,), "dim": (settings.dim,)}
    clip_dtype = np.dtype(settings.clip_dtype).newbyteorder("<")
    return {name: (np.dtype(dtype or clip_dtype), widths[width]) for name, (dtype, width) in _LAYOUT.items()}


def level_of(column: str) -> str | None:
    """Return which count says how many rows of `column` a video has; None: exactly one."""
    level, kind = column.split("_", 1)
    return None if kind == "count" or level == "video" else level


def encode_video(video: Video, clips: np.ndarray, settings: IndexSettings) -> Columns:
    """Return the columns of one video.

    Args:
        video: its record.
        clips: ``(L, D)`` float32, unit rows, one a clip.
        settings: of the index.

    Raises:
        FeatureError: there are no rows, or they are of another width, not of unit length, or too many for the duration.
    """
    clips = _checked(video, clips, settings)
    codes, peaks = encode(clips, settings.clip_dtype)
    return (
        describe(video)
        | summarise(codes, peaks, settings)
        | {
            "clip_count": np.array([len(clips)], dtype="<i4"),
            "video_checksum": np.array([zlib.crc32(raw(codes))], dtype="<u4"),
            "clip_peak": peaks,
            "clip_codes": codes,
        }
    )


def summarise(codes: np.ndarray, peaks: np.ndarray, settings: IndexSettings) -> Columns:
    """Return the columns of one video that follow from its clips ``(L, D)`` as they are stored: chapters and pools."""
    chapters = chapter_sizes(len(codes), settings.chapter_clips)
    pools = _pool(decode(codes, peaks), chapters, settings.clips_per_pool)
    return pools | {
        "chapter_count": np.array([len(chapters)], dtype="<i4"),
        "pool_count": np.array([len(pools["pool_weight"])], dtype="<i4"),
        "chapter_clips": chapters.astype("<i4"),
    }


def encoded_batches(
    videos: Iterable[tuple[Video, np.ndarray]],
    settings: IndexSettings,
    known: Callable[[str], bool] | None,
    clips: int,
) -> Iterator[list[Columns]]:
    """Yield the columns of videos, in batches of at least `clips` clips and none twice.

    Args:
        videos: records and their clips ``(L, D)``.
        settings: of the index.
        known: tells whether an id is taken; None: later ones take the place of earlier ones.
        clips: that make a batch.

    Raises:
        DataError: an id is taken.
        FeatureError: as `encode_video`.
    """
    count, batch = 0, dict[str, Columns]()
    for video, rows in videos:
        if known is not None and (video.video_id in batch or known(video.video_id)):
            raise DataError(f"video {video.video_id!r} is in the index already; give it another id or replace it")
        batch.pop(video.video_id, None)
        batch[video.video_id] = encode_video(video, rows, settings)
        count += len(rows)
        if count >= clips:
            yield list(batch.values())
            count, batch = 0, {}
    if batch:
        yield list(batch.values())


def describe(video: Video) -> Columns:
    """Return the columns of one video that say what it is, without its vectors."""
    columns: Columns = {}
    for level, value in (("id", video.video_id), ("path", video.path), ("hash", video.content_hash)):
        text = np.frombuffer(value.encode(*_TEXT), dtype=np.uint8)
        columns |= {f"{level}_text": text, f"{level}_count": np.array([len(text)], dtype="<i4")}
    for name in ("duration", "clip_length", "start", "size", "modified"):
        columns[f"video_{name}"] = np.array([getattr(video, name)], dtype=_LAYOUT[f"video_{name}"][0])
    return columns


def _checked(video: Video, clips: np.ndarray, settings: IndexSettings) -> np.ndarray:
    what = f"features of video {video.video_id!r}"
    if clips.ndim != 2 or clips.shape[1] != settings.dim or not len(clips):
        raise FeatureError(f"{what} have shape {clips.shape}, expected (clips, {settings.dim}); extract them again")
    clips = np.ascontiguousarray(clips, dtype=np.float32)
    norms = np.linalg.norm(clips, axis=1)
    if not np.all(np.abs(norms - 1) < 1e-2):  # also false for NaN
        i = int(np.argmax(~(np.abs(norms - 1) < 1e-2)))
        raise FeatureError(f"{what}: row {i} has length {norms[i]:.4g}, expected unit length; normalise the rows")
    if (len(clips) - 1) * video.clip_length >= video.duration:
        expected = int(np.ceil(video.duration / video.clip_length))
        raise FeatureError(
            f"{what} have {count_of(len(clips), 'clip')}, but {video.duration} s at clip_length {video.clip_length} s "
            f"makes {expected}; extract again or set the clip length"
        )
    return clips


def _pool(clips: np.ndarray, chapters: np.ndarray, clips_per_pool: int) -> Columns:
    """Pool each chapter; the radius is measured from the vector as it is stored to the clips as they are stored."""
    parts = np.split(clips, np.cumsum(chapters)[:-1])
    sizes = [pool_sizes(rows, -(-len(rows) // clips_per_pool)) for rows in parts]
    weight = np.concatenate(sizes)
    begins = np.cumsum(weight) - weight
    means = np.add.reduceat(clips, begins, axis=0) / weight[:, None].astype(np.float32)
    columns = encode_pools(means)
    gap = clips - np.repeat(decode_pools(columns), weight, axis=0)
    radius = np.maximum.reduceat(np.linalg.norm(gap, axis=1), begins)
    return columns | {
        "chapter_pools": np.array([len(run) for run in sizes], dtype="<i4"),
        "pool_weight": weight.astype("<u2"),
        "pool_radius": up_to_float16(radius * np.float32(1 + 1e-6)),
    }


def encode_pools(vectors: np.ndarray) -> Columns:
    """Return the head, tail and peak columns of pooled vectors ``(P, D)``."""
    head, head_peak = encode(vectors[:, :HEAD], "int8")
    tail, tail_peak = encode(vectors[:, HEAD:], "int8")
    return {"pool_head": head, "pool_tail": tail, "pool_peaks": np.stack([head_peak, tail_peak], axis=1)}


def decode_pools(columns: Columns) -> np.ndarray:
    """Return the pooled vectors ``(P, D)`` float32 as they are stored."""
    peaks = columns["pool_peaks"]
    return np.concatenate([decode(columns["pool_head"], peaks[:, 0]), decode(columns["pool_tail"], peaks[:, 1])], 1)


def concatenate(parts: Sequence[Columns], settings: IndexSettings) -> Columns:
    """Join the columns of several lists of videos; of none: empty columns."""
    layout = row_layout(settings)
    empty = {name: np.empty((0, *shape), dtype=dtype) for name, (dtype, shape) in layout.items()}
    return {name: np.concatenate([part[name] for part in (parts or [empty])]) for name in layout}


def texts(columns: Columns, level: str) -> list[str]:
    """Return one string a video: its ``id``, ``path`` or ``hash``."""
    blob, ends = columns[f"{level}_text"].tobytes(), np.cumsum(columns[f"{level}_count"]).tolist()
    return [blob[begin:end].decode(*_TEXT) for begin, end in zip([0, *ends], ends, strict=False)]


def pack(columns: Columns) -> bytes:
    """Return the columns as bytes: a line of row counts, then the arrays in the order of the layout."""
    rows = {name: len(columns[name]) for name in _LAYOUT}
    return b"".join([json.dumps(rows).encode() + b"\n", *(columns[name].tobytes() for name in _LAYOUT)])


def unpack(data: bytes, settings: IndexSettings) -> Columns:
    """Return the columns that `pack` wrote; the caller has checked that the bytes are those."""
    line, _, _ = data.partition(b"\n")
    position, columns = len(line) + 1, {}
    rows = json.loads(line)
    for name, (dtype, shape) in row_layout(settings).items():
        count = rows[name] * int(np.prod(shape, dtype=np.int64))
        columns[name] = np.frombuffer(data, dtype, count, position).reshape(rows[name], *shape)
        position += count * dtype.itemsize
    return columns
