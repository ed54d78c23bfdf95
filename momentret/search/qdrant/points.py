"""Points and what they stand for: chapters of videos, what the payload says, conditions on it. No server is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid5

import numpy as np

from momentret.search.index import Filter, Video
from momentret.search.index.codes import decode
from momentret.search.index.columns import Columns, decode_pools
from momentret.search.index.pooling import chapter_sizes

__all__ = ["chapter_begins", "conditions", "point_id", "points_of", "record", "video_of"]

_IDS = UUID("6f0d2c4e-5b0c-4e51-9d0b-6a3f1c0e8a17")
_NUMBERS = ("duration", "clip_length", "start", "modified")
_TEXTS = ("video_id", "path", "content_hash")


def _to_json(text: str) -> str:
    """Return text that is valid Unicode: bytes of a file name that are not are written as in an address (%FF)."""
    return re.sub("[%\udc80-\udcff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", text)


def _from_json(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def point_id(video_id: str, chapter: int) -> str:
    """Return the id of a point: the same for the same video and chapter, and evenly spread, so shards fill alike."""
    return str(uuid5(_IDS, f"{chapter}/{_to_json(video_id)}"))


def chapter_begins(clips: int, longest: int) -> np.ndarray:
    """Return the first clip of each chapter of a video, and the end ``(n + 1,)``."""
    return np.concatenate([[0], np.cumsum(chapter_sizes(clips, longest))])


def record(video: Video) -> dict[str, Any]:
    """Return what the payload says of a video."""
    folders = [video.path[:i] for i, character in enumerate(video.path) if character == os.sep]
    payload = {name: _to_json(getattr(video, name)) for name in _TEXTS}
    numbers = {name: float(getattr(video, name)) for name in _NUMBERS}
    return payload | numbers | {"size": int(video.size), "folders": [_to_json(folder) for folder in folders]}


def video_of(payload: dict[str, Any]) -> Video:
    """Return the video that a payload says something of."""
    texts: Any = {name: _from_json(payload[name]) for name in _TEXTS}
    numbers: Any = {name: float(payload[name]) for name in _NUMBERS}
    return Video(**texts, **numbers, size=int(payload["size"]))


def points_of(video: Video, columns: Columns, models: Any) -> Iterator[Any]:
    """Yield the points of a video, one a chapter, with its vectors as an index folder would keep them."""
    clips, pools = decode(columns["clip_codes"], columns["clip_peak"]), decode_pools(columns)
    about = record(video) | {"video_clips": len(clips)}
    ends, pool_ends = (np.cumsum(columns[f"chapter_{level}"]).tolist() for level in ("clips", "pools"))
    ranges = zip(pairwise([0, *ends]), pairwise([0, *pool_ends]), strict=True)
    for chapter, ((begin, end), (first, last)) in enumerate(ranges):
        yield models.PointStruct(
            id=point_id(video.video_id, chapter),
            vector={"seg": pools[first:last].tolist(), "clips": clips[begin:end].tolist()},
            payload=about | {"chapter": chapter, "weights": columns["pool_weight"][first:last].tolist()},
        )


def conditions(where: Filter, models: Any) -> list[Any]:
    """Return the conditions of a filter that a server can check: all but `Filter.keep`."""
    found = []
    if where.shortest is not None or where.longest is not None:
        limits = models.Range(gte=where.shortest, lte=where.longest)
        found.append(models.FieldCondition(key="duration", range=limits))
    if where.after is not None or where.before is not None:
        found.append(models.FieldCondition(key="modified", range=models.Range(gte=where.after, lt=where.before)))
    if where.folder is not None:
        found.append(_one_of("folders", [where.folder.rstrip(os.sep)], models))
    if where.video_ids is not None:
        found.append(_one_of("video_id", sorted(where.video_ids), models))
    return found


def _one_of(key: str, values: Sequence[str], models: Any) -> Any:
    return models.FieldCondition(key=key, match=models.MatchAny(any=[_to_json(value) for value in values]))
