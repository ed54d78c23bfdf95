"""Cutting to the frame: the frames of a window are decoded and encoded again, with the sound to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from itertools import chain
from typing import Any

from momentret.errors import DataError
from momentret.machine import available_cores
from momentret.video.cuts import CutReport, Reached
from momentret.video.probe import VideoInfo, open_container, video_stream
from momentret.video.pyav import Cursor
from momentret.video.sampling import TIME_EPSILON, DecodeReport, Sampling
from momentret.video.seeking import find_keyframe, packets_from
from momentret.video.sound import samples_within

__all__ = ["encode_window"]

TICKS = 90_000  # per second: every usual frame rate fits, and MPEG-TS counts so anyway
# Hardly told from the source by eye; "fast" costs 2.8 times the time for 0.8 dB. Without B-frames every frame lasts as
# long as it should, the last one too.
QUALITY = {"preset": "veryfast", "crf": "18", "bf": "0"}
THREADS = min(available_cores(), 8)
BT601 = 5  # FFmpeg's number
SOUND_BITS = 96_000  # bits per second and channel


def encode_window(info: VideoInfo, start: float, end: float, output: Any, reached: Reached) -> CutReport:
    """Encode the picture (H.264) and the sound (AAC) of a window into an open output container.

    Raises:
        DataError: no frame of the video is on screen in the window.
    """
    shown = _Shown(info, start, end, reached)
    frames = iter(shown)
    first = next(frames, None)
    if first is None:
        raise DataError(f"{str(info.path)!r} shows nothing from {start:g} s to {end:g} s; it ends at {shown.end:g} s")
    samples = samples_within(info, start, end)
    heard = next(samples, None)
    picture = _picture_stream(output, info, first[0])
    sound = None if heard is None else _sound_stream(output, heard)
    lengths: dict[int, int] = {}  # by timestamp; the encoder does not pass them on
    video = _encoded(picture, (_prepared(picture, *frame, lengths) for frame in chain([first], frames)))
    audio = _encoded(sound, chain([heard], samples)) if sound is not None else ()
    for packet in merge(video, audio, key=lambda packet: packet.dts * packet.time_base):
        if packet.stream is picture:
            packet.duration = lengths.pop(packet.pts)
        output.mux(packet)
    return CutReport(start=start, end=min(end, shown.end), frames=shown.count, sound=sound is not None)


class _Shown:
    """The frames on screen in a window: ``(frame, seconds from its start, seconds shown)``."""

    def __init__(self, info: VideoInfo, start: float, end: float, reached: Reached) -> None:
        self.info, self.start, self.end, self.reached = info, start, end, reached
        self.count = 0

    def __iter__(self) -> Iterator[tuple[Any, float, float]]:
        key, place = find_keyframe(self.info, self.start) or (-float("inf"), None)
        current, limit = None, self.end
        with open_container(self.info.path) as container:
            cursor = Cursor(container, self.info, Sampling(threads=THREADS), DecodeReport())
            for time, frame in cursor.decode(packets_from(self.info, container, place), key - TIME_EPSILON):
                self.reached(time - max(key, 0.0), limit - max(key, 0.0))
                if current is not None and time > self.start + TIME_EPSILON and time < limit - TIME_EPSILON:
                    yield self._timed(current, time)
                if current is None or time < limit - TIME_EPSILON:
                    current = (time, frame)
                if time >= limit - TIME_EPSILON:
                    break
            else:
                self.end = min(limit, cursor.end)
        if current is not None and self.end > self.start + TIME_EPSILON:
            yield self._timed(current, self.end)

    def _timed(self, current: tuple[float, Any], until: float) -> tuple[Any, float, float]:
        self.count += 1
        begin = max(current[0], self.start) if self.count > 1 else self.start
        return current[1], begin - self.start, until - begin


def _picture_stream(output: Any, info: VideoInfo, frame: Any) -> Any:
    with open_container(info.path) as container:
        shape = video_stream(container, info.path).sample_aspect_ratio
    rate = min(max(info.fps or 25, 1), 240)  # for the encoder's planning only: headers claim anything
    stream = output.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001), options=QUALITY)
    stream.width, stream.height = frame.width + frame.width % 2, frame.height + frame.height % 2
    context, stream.pix_fmt = stream.codec_context, "yuv420p"
    context.time_base = stream.time_base = Fraction(1, TICKS)
    if shape:
        context.sample_aspect_ratio = shape
    for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
        setattr(context, name, getattr(frame, name))
    if frame.format.is_rgb:
        context.colorspace = BT601  # what RGB is converted to
    if frame.rotation:
        stream.set_display_rotation(frame.rotation)
    return stream


def _prepared(stream: Any, frame: Any, time: float, length: float, lengths: dict[int, int]) -> Any:
    """Return a frame as the encoder wants it: even size, its own timestamp, no wish to be a keyframe."""
    import av

    made = frame.reformat(width=stream.width, height=stream.height, format="yuv420p", interpolation="BICUBIC")
    made.pts, made.time_base = round(time * TICKS), Fraction(1, TICKS)
    lengths[made.pts] = round((time + length) * TICKS) - made.pts
    made.pict_type = av.video.frame.PictureType.NONE
    return made


def _sound_stream(output: Any, frame: Any) -> Any:
    stream = output.add_stream("aac", rate=frame.sample_rate, layout=frame.layout.name)
    stream.bit_rate = SOUND_BITS * frame.layout.nb_channels
    return stream


def _encoded(stream: Any, frames: Iterator[Any]) -> Iterator[Any]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)
