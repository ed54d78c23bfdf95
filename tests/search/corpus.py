"""Small corpora for the index tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from momentret.search.index import CorpusIndex, IndexSettings, Video

DIM = 24


def unit(rows: np.ndarray) -> np.ndarray:
    """Return the rows with length 1."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def clips_of(number: int, dim: int = DIM) -> np.ndarray:
    """Return the clips of video `number`: a few scenes of similar clips, 1 to 40 in all."""
    rng = np.random.default_rng(number)
    count = int(rng.integers(1, 41))
    scenes = rng.normal(size=(4, dim))[np.sort(rng.integers(4, size=count))]
    return unit(scenes + 0.4 * rng.normal(size=(count, dim)))


def video_of(number: int, dim: int = DIM) -> tuple[Video, np.ndarray]:
    """Return the record and the clips of video `number`."""
    clips = clips_of(number, dim)
    video = Video(
        video_id=f"v{number}",
        path=f"/films/{number % 3}/v{number}.mp4",
        content_hash=f"hash{number}",
        duration=2.0 * len(clips),
        clip_length=2.0,
        size=1000 + number,
        modified=float(number),
    )
    return video, clips


def build(folder: Path, numbers: range, **settings: object) -> CorpusIndex:
    """Make an index of some videos and leave it open for writing."""
    options: dict[str, object] = {"seal_clips": 200} | settings
    index = CorpusIndex.create(folder, IndexSettings(dim=int(str(options.pop("dim", DIM))), **options))  # type: ignore[arg-type]
    for number in numbers:
        index.add(*video_of(number, index.settings.dim))
    return index


def contents(index: CorpusIndex) -> dict[str, tuple[str, str, bytes]]:
    """Return everything an index holds, for comparison."""
    return {v.video_id: (v.path, v.content_hash, index.clips(v.video_id).tobytes()) for v in index.videos()}
