"""Small films of plain colours, which the fake encoder can tell apart."""

from __future__ import annotations

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
