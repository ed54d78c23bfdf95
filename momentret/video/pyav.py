"""Frames by PyAV: exact timestamps, tolerant of damage, keyframe index used to skip what nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np

from momentret.errors import DataError
from momentret.video.probe import MAX_PIXELS, VideoInfo, open_container, video_stream
from momentret.video.sampling import TIME_EPSILON, DecodeReport, Frame, Sampling

__all__ = ["Cursor", "sample_pyav", "to_image"]

USUAL_RATE = 25.0  # frames per second, where a file does not say and has too few to tell
WIDEST = 8  # longer side over shorter side: encoders scale the shorter one up, and the longer one with it


def sample_pyav(info: VideoInfo, sampling: Sampling, report: DecodeReport) -> Iterator[Frame]:
    """Yield the frame shown at each wanted time of a video; see `Sampling` for which.

    Damaged packets are stepped over and counted, and what can be decoded is used.

    Args:
        info: of the file, from `probe`.
        sampling: the times, and how images are made.
        report: filled in on the way.

    Raises:
        DataError: not one frame can be decoded.
    """
    with open_container(info.path) as container:
        cursor = Cursor(container, info, sampling, report)
        shown, image = None, np.empty(0)
        for wanted in sampling.wanted:
            found = cursor.frame_at(wanted)
            if found is None:
                break
            if found is not shown:
                shown, image = found, to_image(found[1], sampling.size)
            yield Frame(image, wanted, found[0])
        report.duration = cursor.end


TimedFrame = tuple[float, Any]  # seconds from the container's start, av.VideoFrame


class Cursor:
    """Walks forward through a video; skips ahead along the index where the container has one."""

    def __init__(self, container: Any, info: VideoInfo, sampling: Sampling, report: DecodeReport) -> None:
        self.container, self.info, self.report = container, info, report
        self.stream = video_stream(container, info.path)
        context = self.stream.codec_context
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_type, context.thread_count = "AUTO", sampling.threads
        self.keyframes = sampling.keyframes
        if self.keyframes:
            context.skip_frame = "NONKEY"
        self.index = None if self.keyframes else _keyframe_index(container, self.stream)
        self.position = 0  # decoding timestamp of the newest packet
        self.newest = -float("inf")  # time of the newest frame
        self.end = 0.0  # where the last frame ends
        self.frames = self.decode(container.demux(self.stream))
        self.current: TimedFrame | None = None
        self.following: TimedFrame | None = None

    def frame_at(self, wanted: float) -> TimedFrame | None:
        """Return the frame shown at `wanted`, which is not before the last time asked for; None past the end.

        The first time asked for always has an answer.
        """
        first = self.current is None
        if first:
            self.current, self.following = self._first(), next(self.frames, None)
        if self.following is not None and self.following[0] <= wanted:
            self._skip_towards(wanted)
        while self.following is not None and self.following[0] <= wanted + TIME_EPSILON:
            self.current, self.following = self.following, next(self.frames, None)
        past_end = self.following is None and wanted >= self.end - TIME_EPSILON
        return None if past_end and not first else self.current

    def _first(self) -> TimedFrame:
        first = next(self.frames, None)
        if first is None:
            raise DataError(
                f"{str(self.info.path)!r}: no frame could be decoded "
                f"({self.report.bad_packets} damaged packets); get the file again"
            )
        return first

    def decode(self, packets: Iterator[Any], floor: float = -float("inf")) -> Iterator[TimedFrame]:
        """Yield the frames of `packets` in the order of their times, nothing before `floor`."""
        for packet in self._tolerant(packets):
            for frame in self._frames_of(packet):
                self.report.decoded += 1
                time = self._time(frame)
                if time < floor:
                    continue
                if time <= self.newest:
                    self.report.out_of_order += 1
                    continue
                self.newest = time
                self.end = max(self.end, time + self._duration(frame))
                yield time, frame

    def _tolerant(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield packets until the container ends or breaks off, then None: what the decoder still holds comes out."""
        import av

        try:
            for packet in packets:
                if packet.size:  # the empty packet at the end is ours to send
                    yield packet
        except av.error.FFmpegError:
            self.report.bad_packets += 1
        yield None

    def _frames_of(self, packet: Any) -> list[Any]:
        import av

        if packet is not None and packet.dts is not None:
            self.position = packet.dts
        if packet is not None and packet.pts is not None and self.keyframes:  # the frames in between are not decoded
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - self.info.origin)
        try:
            return list(self.stream.codec_context.decode(packet))
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.report.bad_packets += 1
            return []

    def _time(self, frame: Any) -> float:
        if frame.pts is None:  # no timestamps at all: elementary streams
            return max(self.newest + self._duration(frame), 0.0)
        return float(frame.pts * self.stream.time_base) - self.info.origin

    def _duration(self, frame: Any) -> float:
        if frame.duration:
            return float(frame.duration * self.stream.time_base)
        return 1 / (self.info.fps or USUAL_RATE)

    def _skip_towards(self, wanted: float) -> None:
        """Go on at a keyframe that is shown by `wanted`, if that saves decoding; at any doubt start over without."""
        if self.index is None or self.report.bad_packets:
            return
        unit, origin = self.stream.time_base, self.info.origin
        reordering = (self.info.reordering + 1) / (self.info.fps or USUAL_RATE)  # shown later than decoded
        entry = self.index.search_timestamp(int((wanted + origin - reordering) / unit), backward=True)
        if entry < 0 or self.index[entry].timestamp <= self.position:
            return
        packets = self._seek(int((wanted + origin) / unit))
        key = next(self._tolerant(packets))
        floor = self.newest + TIME_EPSILON  # what was shown is not shown again
        if key is not None and key.is_keyframe and key.pts is not None and key.pts * unit - origin <= wanted:
            self.frames = self.decode(chain([key], packets), max(floor, float(key.pts * unit) - origin))
        else:
            self.index = None
            self.frames = self.decode(self._seek(self.stream.start_time or 0), floor)

    def _seek(self, timestamp: int) -> Iterator[Any]:
        self.container.seek(timestamp, stream=self.stream)
        packets: Iterator[Any] = self.container.demux(self.stream)
        return packets


def _keyframe_index(container: Any, stream: Any) -> Any:
    """Return the container's own index where it is one of pictures: MP4 and Matroska; else None."""
    import av

    names = container.format.name.split(",")
    if "matroska" in names:
        try:
            container.seek(0, stream=stream)  # reads the cues
        except av.error.FFmpegError:  # no picture where the file begins, or none at all
            with suppress(av.error.FFmpegError):
                container.seek(0)  # after the failure nothing can be read from where it stands
            return None
    elif "mp4" not in names:
        return None
    return stream.index_entries


def to_image(frame: Any, size: int | None) -> np.ndarray:
    """Return an ``av.VideoFrame`` as upright ``(height, width, 3)`` uint8 RGB, shorter side at most `size`.

    With a size, a longer side of more than `WIDEST` times the shorter one is squeezed into that.
    """
    width, height = _image_size(frame.width, frame.height, size)
    image = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90))


def _image_size(width: int, height: int, size: int | None) -> tuple[int, int]:
    if size is None:
        return width, height
    shorter = min(width, height, size)
    scale = shorter / min(width, height)
    width, height = (min(max(round(side * scale), shorter), WIDEST * shorter) for side in (width, height))
    return width, height
