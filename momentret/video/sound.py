"""The sound of a window, to the sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from momentret.video.probe import VideoInfo, open_container
from momentret.video.seeking import packets_from, seconds_of

__all__ = ["samples_within"]

RATES = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)  # Hz that AAC knows
EARLIER = 1.0  # s before the window at which decoding begins: codecs need a few packets to get going


def samples_within(info: VideoInfo, start: float, end: float) -> Iterator[Any]:
    """Yield the sound of ``[start, end)`` as frames that begin at 0 and leave no gap; silence where there is none."""
    graph = None
    for frame in _heard(info, start, end):
        graph = graph or _timeline(frame, start + info.origin, end + info.origin)
        graph.push(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph)


def _heard(info: VideoInfo, start: float, end: float) -> Iterator[Any]:
    """Yield decoded sound around a window, all in one rate and layout."""
    import av

    settings = None
    with open_container(info.path) as container:
        stream = container.streams.best("audio")
        if stream is None or stream.codec_context is None:
            return
        rate = next((rate for rate in RATES if rate <= stream.codec_context.sample_rate), RATES[-1])
        layout = "mono" if stream.codec_context.layout.nb_channels == 1 else "stereo"
        for frame in _decoded(info, stream, packets_from(info, container, max(start - EARLIER, 0.0), "audio"), end):
            if settings != (settings := (frame.format.name, frame.layout.name, frame.sample_rate)):
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            yield from resampler.resample(frame)


def _decoded(info: VideoInfo, stream: Any, packets: Iterator[Any], end: float) -> Iterator[Any]:
    """Yield what packets decode to; damaged ones are stepped over."""
    import av

    for packet in packets:
        if (seconds_of(info, packet) or 0.0) >= end:
            return
        try:
            yield from (frame for frame in stream.codec_context.decode(packet) if frame.pts is not None)
        except av.error.FFmpegError:
            continue


def _timeline(frame: Any, start: float, end: float) -> Any:
    import av

    graph = av.filter.Graph()
    source = graph.add_abuffer(
        format=frame.format.name, sample_rate=frame.sample_rate, layout=frame.layout.name, time_base=frame.time_base
    )
    steps = [
        source,
        graph.add("atrim", f"start={start:.6f}:end={end:.6f}"),
        graph.add("asetpts", f"PTS-{start:.6f}/TB"),
        graph.add("aresample", "async=1:first_pts=0"),
        graph.add("asetnsamples", "n=1024:p=0"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*steps).configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    import av

    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
