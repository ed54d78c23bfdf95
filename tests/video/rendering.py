"""Videos made on the spot: every picture carries its number as a barcode, so a decoded frame can be told."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 16
TICKS = 1000  # timestamps below are whole milliseconds


def picture(number: int, width: int = 192, height: int = 108) -> np.ndarray:
    """Return a moving pattern whose top quarter shows `number` in 16 black and white bars."""
    image = np.empty((height, width, 3), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for channel, step in enumerate((1, 2, 5)):
        image[..., channel] = (rows + columns * step + number * 3) % 200
    for bit in range(BITS):
        bar = slice(bit * width // BITS, (bit + 1) * width // BITS)
        image[: height // 4, bar] = 255 * (number >> bit & 1)
    return image


def read_number(image: np.ndarray) -> int:
    """Return the number that a picture shows, whatever its size."""
    top = image[: max(image.shape[0] // 6, 1)].mean(axis=(0, 2))
    centres = ((np.arange(BITS) + 0.5) * len(top) / BITS).astype(int)
    return int(sum(1 << bit for bit in range(BITS) if top[centres[bit]] > 127))


def steady(count: int, step: int = 40, start: int = 0) -> list[int]:
    """Return `count` timestamps in ms at a constant rate: 25 frames per second."""
    return [start + i * step for i in range(count)]


def render(
    path: Path,
    codec: str = "libx264",
    stamps: Sequence[int] = (),
    *,
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (192, 108),
    rotation: int = 0,
    audio: float = 0.0,
) -> Path:
    """Write a video of one numbered picture per timestamp (ms); `audio` seconds of silence start at 0."""
    stamps = stamps or steady(50)
    front = {"movflags": "faststart"} if path.suffix == ".mp4" else {}  # so that the end can be cut off
    with av.open(str(path), "w", options=front) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        if rotation:
            stream.set_display_rotation(rotation)
        if audio:
            _silence(container, audio)
        for number, stamp in enumerate(stamps):
            image = np.ascontiguousarray(
                np.rot90(picture(number, *size[:: -1 if rotation % 180 else 1]), -rotation // 90)
            )
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _silence(container: av.container.OutputContainer, seconds: float) -> None:
    stream = container.add_stream("aac", rate=16000, layout="mono")
    for i in range(int(seconds * 16000) // 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, i * 1024, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def patch(path: Path, name: bytes, offset: int, value: bytes) -> Path:
    """Overwrite bytes of an MP4 box, `offset` bytes behind its name."""
    content = bytearray(path.read_bytes())
    place = content.index(name) + len(name) + offset
    content[place : place + len(value)] = value
    path.write_bytes(content)
    return path
