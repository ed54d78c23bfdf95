"""Small films of plain colours, which the fake encoder can tell apart, and files that are none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from momentret.encoders.fake import COLOURS


def film(path: Path, scenes: Sequence[tuple[str, float]], rate: int = 10) -> Path:
    """Write a video of one plain colour per scene, given with its seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour, seconds in scenes:
            image = np.full((48, 64, 3), COLOURS[colour], np.uint8)
            for _ in range(round(seconds * rate)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def films(folder: Path, count: int) -> Path:
    """Write `count` films of different lengths and colours."""
    names = list(COLOURS)
    for i in range(count):
        film(folder / f"film {i}.mp4", [(names[i % len(names)], 1.0), (names[(i + 3) % len(names)], 1.0 + i % 3)])
    return folder


def hostile(folder: Path, good: Path) -> list[str]:
    """Fill a folder with what people's folders hold; returns the names of those that are whole videos."""
    content = good.read_bytes()
    whole = ["wrong ending.txt", "-dash.mp4", "two\nlines.mp4", "ünï.mkv", "spaces  .MP4", "no_ending"]
    for name in whole:
        (folder / name).write_bytes(content)
    (folder / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(content)
    for cut in range(0, len(content) // 2, len(content) // 30):
        (folder / f"cut at {cut}.mp4").write_bytes(content[:cut])
    (folder / "text.mp4").write_text("not a film\n" * 50)
    (folder / "list.avi").write_text("#EXTM3U\n#EXTINF:10,\nhttp://localhost:1/a.ts\n")
    (folder / "notes.txt").write_text("to do")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "up").symlink_to(folder, target_is_directory=True)
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    return whole
