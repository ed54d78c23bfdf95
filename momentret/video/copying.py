"""Cutting without decoding: the compressed packets of a window, from the keyframe before it on."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Any

from momentret.errors import DataError
from momentret.video.cuts import CutReport, Reached
from momentret.video.probe import VideoInfo, open_container, video_stream
from momentret.video.sampling import TIME_EPSILON
from momentret.video.seeking import decoded_at, find_keyframe, packets_from, seconds_of

__all__ = ["copy_window"]

REORDERING = 32  # packets; no codec holds back more pictures than this


def copy_window(info: VideoInfo, start: float, end: float, output: Any, reached: Reached) -> CutReport:
    """Copy the picture and the sound of a window into an open output container.

    All frames on screen in ``[start, end)`` are there; the first is the keyframe by `start`, and a few may follow `end`
    that others are built from.

    Raises:
        DataError: the video has no timestamps, or shows nothing in the window.
    """
    found = find_keyframe(info, start)
    if found is None:
        raise DataError(f"{str(info.path)!r} has no timestamps to copy by; use --exact")
    key, place = found
    picture = _Picture(info, key, end)
    with open_container(info.path) as film, open_container(info.path) as tape:
        streams = _add_streams(film, info, output)
        packets = [picture.packets(packets_from(info, film, place))]
        if "audio" in streams:
            packets.append(_sound(info, packets_from(info, tape, key, "audio"), key, end))
        for packet in merge(*packets, key=lambda packet: decoded_at(info, packet)):
            reached(max(picture.last - key, 0.0), end - key)
            output.mux(_moved(packet, key + info.origin, streams[packet.stream.type]))
    if picture.last <= start + TIME_EPSILON or not picture.count:
        there = f"begins at {key:g} s" if end <= key else f"is there from {key:g} s to {picture.last:g} s"
        raise DataError(
            f"{str(info.path)!r} shows nothing from {start:g} s to {end:g} s; its picture {there}; "
            "choose another window"
        )
    return CutReport(start=key, end=picture.last, frames=picture.count, sound="audio" in streams)


def _add_streams(container: Any, info: VideoInfo, output: Any) -> dict[str, Any]:
    sources = [video_stream(container, info.path), container.streams.best("audio")]
    return {
        source.type: output.add_stream_from_template(source, opaque=True) for source in sources if source is not None
    }


def _moved(packet: Any, shift: float, stream: Any) -> Any:
    """Give a packet to an output stream, `shift` seconds earlier."""
    ticks = round(shift / packet.time_base)
    packet.pts -= ticks
    packet.dts = packet.dts - ticks if packet.dts is not None else None
    packet.stream = stream
    return packet


class _Picture:
    """Packets in the order of decoding, from the keyframe to the last one shown before the end of the window."""

    def __init__(self, info: VideoInfo, key: float, end: float) -> None:
        self.info, self.key, self.end = info, key, end
        self.count = 0
        self.last = key
        """Seconds at which the newest picture ends."""

    def packets(self, source: Iterator[Any]) -> Iterator[Any]:
        waiting: list[Any] = []  # what is shown last, and what is not needed, is among the newest
        lasting = False
        for packet in self._from_keyframe(source):
            # Matroska does not say when the first packets after a seek are decoded; earlier pictures may follow them
            untold = packet.dts is None and not self.count
            if lasting := not untold and decoded_at(self.info, packet) >= self.end - TIME_EPSILON:
                break
            waiting.append(packet)
            if len(waiting) > REORDERING:
                yield self._counted(waiting.pop(0))
        while waiting and not self._within(waiting[-1]):
            waiting.pop()
            lasting = True
        if lasting:
            self._stretch(waiting)
        yield from map(self._counted, waiting)

    def _from_keyframe(self, source: Iterator[Any]) -> Iterator[Any]:
        began = False
        for packet in source:
            if packet.pts is None:  # the second field of a picture
                packet.pts = packet.dts
            time = seconds_of(self.info, packet)
            began = began or (packet.is_keyframe and time is not None and abs(time - self.key) < TIME_EPSILON)
            if began and time is not None and time > self.key - TIME_EPSILON:  # not built from what comes before it
                yield packet

    def _within(self, packet: Any) -> bool:
        return _time(self.info, packet) < self.end - TIME_EPSILON

    def _stretch(self, packets: list[Any]) -> None:
        """Let the picture shown last stay until the end of the window: the next one is not there to end it."""
        newest = max(packets, key=lambda packet: packet.pts, default=None)
        if newest is not None and self._within(newest):
            newest.duration = round((self.end - _time(self.info, newest)) / newest.time_base)

    def _counted(self, packet: Any) -> Any:
        self.count += 1
        self.last = max(self.last, _time(self.info, packet) + float((packet.duration or 0) * packet.time_base))
        return packet


def _sound(info: VideoInfo, packets: Iterator[Any], start: float, end: float) -> Iterator[Any]:
    for packet in packets:
        time = seconds_of(info, packet)
        if time is not None and time >= end - TIME_EPSILON:
            return
        if time is not None and time >= start - TIME_EPSILON:
            yield packet


def _time(info: VideoInfo, packet: Any) -> float:
    time = seconds_of(info, packet)
    assert time is not None
    return time
