"""What a video file is, learnt from its header and first pictures in some milliseconds. Local regular files only."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momentret.errors import DataError

__all__ = ["MAX_PIXELS", "VideoInfo", "open_container", "probe", "video_stream"]

MAX_PIXELS = 1 << 26  # 67 million; an 8K picture has 33 million
# Demuxers of media files. What is absent on purpose: playlists and scripts (hls, dash, concat, sdp, imf), which name
# other files or addresses; still images; devices.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,nut,rm,mxf,gif,apng,"
    "h264,hevc,av1,obu,ivf,m4v,dv,yuv4mpegpipe,vc1,wtv,nsv,swf"
)


@dataclass(frozen=True)
class VideoInfo:
    """Facts from the header; a damaged or careless header can be wrong about all of them but the path."""

    path: Path
    container: str
    """FFmpeg's name of the format: ``mov,mp4,m4a,3gp,3g2,mj2``."""
    codec: str
    width: int
    height: int
    fps: float | None
    """Average frames per second; never used for times."""
    duration: float | None
    """Seconds that the container declares."""
    start: float
    """Seconds from the start of the container to the first frame."""
    origin: float
    """Timestamp in seconds at which the container starts."""
    reordering: int
    """Frames that the decoder holds back to put them in order; 0 means no B-frames."""


def probe(path: Path) -> VideoInfo:
    """Read the header of a video file.

    Raises:
        DataError: not a local regular file, not a container that is read, no video in it, or too large a picture.
    """
    with open_container(path) as container:
        stream = video_stream(container, path)
        start = _seconds(container.start_time, 1e-6)
        first = _seconds(stream.start_time, stream.time_base)
        origin = start if start is not None else first or 0.0
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > MAX_PIXELS:
            raise DataError(
                f"{path} has pictures of {pixels:,} pixels, at most {MAX_PIXELS:,} are decoded; scale it down"
            )
        return VideoInfo(
            path=path,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=float(stream.average_rate) if stream.average_rate else None,
            duration=_seconds(container.duration, 1e-6),
            start=0.0 if first is None else first - origin,
            origin=origin,
            reordering=stream.codec_context.reorder_depth,
        )


def _seconds(ticks: int | None, unit: Any) -> float | None:
    return None if ticks is None or unit is None else float(ticks * unit)


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a local media file with PyAV; no playlist, address, device or pipe is ever followed.

    Raises:
        DataError: saying why it cannot be opened.
    """
    import av

    _require_regular(path)
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        # the prefix keeps a name like "concat:a" or "-" a name
        container = av.open(f"file:{path.absolute()}", options=options, **_lenient())
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{str(path)!r} cannot be read as a video ({reason}); get the file again") from error
    with container:
        yield container


def _lenient() -> dict[str, str]:
    """Return the option that keeps PyAV from failing on titles that are no UTF-8; from 19 on it does not need one."""
    import av

    return {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}


def _require_regular(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{str(path)!r} is not a regular file; only local video files are read")
    if status.st_size == 0:
        raise DataError(f"{str(path)!r} is empty; get the file again")


def video_stream(container: Any, path: Path) -> Any:
    """Return the stream that a player would show; a cover picture is none.

    Raises:
        DataError: there is no video.
    """
    import av

    pictures = av.stream.Disposition.attached_pic
    films = [stream for stream in container.streams.video if not stream.disposition & pictures]
    best = container.streams.best("video")
    if best not in films:
        best = films[0] if films else None
    if best is None or best.codec_context is None:
        raise DataError(f"{str(path)!r} holds no video that can be decoded; leave it out")
    return best
