"""Frames by decord 0.6: kept for those who want it. `decoders.decord_faults` says which files it gets wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from momentret.errors import ConfigError, DataError
from momentret.video.probe import VideoInfo
from momentret.video.sampling import TIME_EPSILON, DecodeReport, Frame, Sampling

__all__ = ["sample_decord"]


def sample_decord(info: VideoInfo, sampling: Sampling, report: DecodeReport) -> Iterator[Frame]:
    """Yield the frame that decord holds for each wanted time, by decord's own timestamps.

    decord counts from the first frame; the header's start is added, so that times mean the same as with PyAV.

    Raises:
        ConfigError: decord is not installed.
        DataError: decord cannot read the file.
    """
    try:
        import decord
    except ImportError as error:
        raise ConfigError("decord is not installed (it has no wheel for this machine); use --decoder pyav") from error
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(info.path.absolute()), num_threads=sampling.threads)
        stamps = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)  # (frames, start and end)
        yield from _sample(reader, stamps + (info.start - stamps[0, 0]), sampling, report)
    except decord.DECORDError as error:
        reason = str(error).split("Check failed: ")[-1].splitlines()[0]
        raise DataError(f"{str(info.path)!r}: decord cannot read it ({reason}); use --decoder auto") from error


def _sample(reader: object, stamps: np.ndarray, sampling: Sampling, report: DecodeReport) -> Iterator[Frame]:
    report.duration = float(stamps[-1, 1])
    candidates = np.asarray(reader.get_key_indices()) if sampling.keyframes else np.arange(len(stamps))  # type: ignore[attr-defined]
    starts = stamps[candidates, 0]
    shown, image = -1, np.empty(0)
    for wanted in sampling.wanted:
        if shown >= 0 and wanted >= report.duration - TIME_EPSILON:
            break
        place = max(int(np.searchsorted(starts, wanted + TIME_EPSILON, side="right")) - 1, 0)
        if place != shown:
            shown, image = place, _scaled(reader[int(candidates[place])].asnumpy(), sampling.size)  # type: ignore[index]
            report.decoded += 1
        yield Frame(image, wanted, float(starts[place]))


def _scaled(image: np.ndarray, size: int | None) -> np.ndarray:
    if size is None:
        return image
    import av

    from momentret.video.pyav import to_image

    return to_image(av.VideoFrame.from_ndarray(image, format="rgb24"), size)
