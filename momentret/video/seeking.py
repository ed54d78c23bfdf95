"""Compressed packets of a stream, from the keyframe before a time on. Nothing is decoded here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from momentret.video.probe import VideoInfo, open_container, video_stream
from momentret.video.sampling import TIME_EPSILON

__all__ = ["decoded_at", "find_keyframe", "packets_from", "seconds_of"]

STEPS_BACK = (0.0, 2.0, 10.0, 60.0, None)  # s to seek before the time wanted; None: from the very beginning


def seconds_of(info: VideoInfo, packet: Any) -> float | None:
    """Return when a packet is shown, in seconds from the start of the container; None if it does not say."""
    return None if packet.pts is None else float(packet.pts * packet.time_base) - info.origin


def decoded_at(info: VideoInfo, packet: Any) -> float:
    """Return when a packet is decoded, in seconds from the start of the container; -inf if it says nothing."""
    ticks = packet.pts if packet.dts is None else packet.dts
    return -float("inf") if ticks is None else float(ticks * packet.time_base) - info.origin


def find_keyframe(info: VideoInfo, wanted: float) -> tuple[float, float | None] | None:
    """Return when the last keyframe by `wanted` is shown, and where to seek for it (None: read from the beginning).

    Without one, the first keyframe there is: before it nothing can be shown. None if no keyframe says when it is shown.
    """
    for back in STEPS_BACK:
        place = None if back is None else max(wanted - back, 0.0)
        with open_container(info.path) as container:
            found = _newest_keyframe(info, packets_from(info, container, place), wanted + TIME_EPSILON)
        if found is not None and (found <= wanted + TIME_EPSILON or back is None):
            return found, place
    return None


def _newest_keyframe(info: VideoInfo, packets: Iterator[Any], limit: float) -> float | None:
    """Return when the last keyframe up to `limit` is shown, the first one of all if none is."""
    found = None
    for packet in packets:
        time, decoded = seconds_of(info, packet), decoded_at(info, packet)
        if found is not None and decoded > limit:
            break
        if packet.is_keyframe and time is not None and (found is None or time <= limit):
            found = time
    return found


def packets_from(info: VideoInfo, container: Any, place: float | None, kind: str = "video") -> Iterator[Any]:
    """Yield the packets of the picture or the sound from about `place` (seconds; None: where it stands) until the end.

    What cannot be read ends it, as the end of the file does. Packets must not outlive the container.
    """
    import av

    stream = video_stream(container, info.path) if kind == "video" else container.streams.best(kind)
    try:
        if place is not None:
            container.seek(int((place + info.origin) / stream.time_base), stream=stream)
        yield from (packet for packet in container.demux(stream) if packet.size)
    except av.error.FFmpegError:
        return
