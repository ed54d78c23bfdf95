"""Which decoder reads a file: one table, one choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from momentret.config import nearest
from momentret.errors import ConfigError
from momentret.video.decord import sample_decord
from momentret.video.probe import VideoInfo, probe
from momentret.video.pyav import sample_pyav
from momentret.video.sampling import DecodeReport, Frame, Sampling

__all__ = ["DECODERS", "choose_decoder", "decord_faults", "sample_frames"]

Decoder = Callable[[VideoInfo, Sampling, DecodeReport], Iterator[Frame]]
DECODERS: dict[str, Decoder] = {"pyav": sample_pyav, "decord": sample_decord}
"""Ways to read a file, by the name a user gives."""

_DECORD_CODECS = ("h264", "vp8", "vp9")
_DECORD_CONTAINERS = ("mp4", "matroska")


def decord_faults(info: VideoInfo) -> list[str]:
    """Return why decord 0.6 would give wrong frames or none; empty if its frames are right.

    Measured frame by frame (`tests/video/test_decoders.py`): after a seek, streams with B-frames and open GOPs come
    back shifted by the frames before the keyframe, and a header does not tell an open GOP from a closed one; MPEG-TS
    is all wrong, AV1 and GIF are not opened, time before the first frame is lost.
    """
    faults = []
    if info.codec not in _DECORD_CODECS:
        faults.append(f"codec {info.codec}")
    if not set(info.container.split(",")) & set(_DECORD_CONTAINERS):
        faults.append(f"container {info.container}")
    if info.reordering:
        faults.append("B-frames")
    if abs(info.start) > 1e-3:
        faults.append(f"first frame at {info.start:.3f} s")
    return faults


def choose_decoder(wanted: str = "auto") -> str:
    """Return the name of the decoder that `wanted` stands for.

    ``auto`` never risks a wrong frame. It is PyAV for every file: where decord is exact it is not faster either, once
    PyAV skips along the keyframe index as it does here (`scripts/bench_extract.py --decoders`).

    Raises:
        ConfigError: no such decoder.
    """
    if wanted not in ("auto", *DECODERS):
        raise ConfigError(f"no decoder {wanted!r}{nearest(wanted, ['auto', *DECODERS])}")
    return "pyav" if wanted == "auto" else wanted


def sample_frames(
    path: Path, sampling: Sampling, decoder: str = "auto", report: DecodeReport | None = None
) -> Iterator[Frame]:
    """Yield the frame shown at each wanted time of a video, decoding in this process.

    For files that nobody vouches for use `IsolatedDecoder`, which gives the same frames.

    Args:
        path: a local file.
        sampling: which times, and how images are made. Times past the end give nothing, the first always a frame.
        decoder: ``auto``, or a key of `DECODERS` to force one.
        report: filled in on the way.

    Raises:
        DataError: the file cannot be read, or not one frame of it decoded.
    """
    report = DecodeReport() if report is None else report
    info = probe(path)
    report.decoder = choose_decoder(decoder)
    report.doubts = decord_faults(info) if report.decoder == "decord" else []
    yield from DECODERS[report.decoder](info, sampling, report)
