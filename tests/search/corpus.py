"""Small corpora for the index tests."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from momentret.search.index import CorpusIndex, IndexSettings, Video, log

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


def log_records(folder: Path) -> list[tuple[bytes, int, int]]:
    """Return kind, begin and end of every record of the log."""
    path, found, position = next(folder.glob("log-*.wal")), [], log.EMPTY
    data = path.read_bytes()
    while (record := log._record_at(path, data, position)) is not None:
        end = position + 20 + len(record[1])
        found.append((record[0], position, end))
        position = end
    return found


def to_format_1(folder: Path) -> None:
    """Make an index what an earlier version wrote: without copies, and without notes in the log."""
    path = next(folder.glob("log-*.wal"))
    data = path.read_bytes()
    kept = [data[begin:end] for kind, begin, end in log_records(folder) if kind != b"NOTE"]
    path.write_bytes(b"".join([data[: log.EMPTY], *kept]))
    for copy in [*folder.rglob("copy*.bin"), folder / "manifest.json.copy"]:
        copy.unlink()
    content = json.loads((folder / "manifest.json").read_text())["index"]
    del content["format"]
    for entry in content["segments"]:
        entry["files"] = {name: value for name, value in entry["files"].items() if not name.startswith("copy")}
    crc32 = zlib.crc32(json.dumps(content, sort_keys=True).encode())
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "crc32": crc32, "index": content}))
