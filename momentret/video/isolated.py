"""Decoding and cutting in a process of its own: a crash, a hang or a memory bomb costs one file and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import DataError
from momentret.video.cuts import Cut, CutReport, Reached
from momentret.video.probe import MAX_PIXELS
from momentret.video.process import IsolatedProcess, Limits, Patience
from momentret.video.sampling import DecodeReport, Frame, Sampling

__all__ = ["IsolatedCutter", "IsolatedDecoder"]


class IsolatedDecoder(IsolatedProcess):
    """Decodes videos one after the other in a child process, which is started again when a video has killed it.

    Use it from one thread, as a context manager; only `abort` may come from another.

    Example:
        >>> with IsolatedDecoder() as decoder:  # doctest: +SKIP
        ...     for frame in decoder.frames(Path("film.mp4"), Sampling(clip_length=2.0)):
        ...         print(frame.wanted, frame.image.shape)
    """

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.report = DecodeReport()
        """Of the video whose frames were read last; complete when all of them are."""
        self.declared: float | None = None
        """Seconds that the header of that video declares; for showing progress, not for trusting."""

    def frames(self, path: Path, sampling: Sampling, decoder: str = "auto") -> Iterator[Frame]:
        """Yield what `sample_frames` would, from the child process.

        Raises:
            DataError: the file cannot be decoded, or crashed the process or went past a limit.
        """
        self.report, self.declared, finished, image = DecodeReport(), None, False, np.empty(0)
        try:
            self._ask(path, "decode", sampling=asdict(sampling), decoder=decoder)
            patience = Patience(self.limits.seconds)
            while True:
                message = self._receive(path, patience)
                if "declared" in message:
                    self.declared = message["declared"]
                    continue
                if "wanted" not in message:
                    finished = True
                    self.report = DecodeReport(**self._conclude(message, "report"))
                    return
                if "shape" in message:
                    image = self._receive_image(message["shape"], path, patience)
                patience.reached(message["time"])
                yield Frame(image, message["wanted"], message["time"])
        finally:
            if not finished:
                self.close()

    def _receive_image(self, shape: Any, path: Path, patience: Patience) -> np.ndarray:
        height, width, channels = map(int, shape)
        size = height * width * channels
        if not (0 < size <= 3 * MAX_PIXELS and channels == 3 and height > 0):
            raise DataError(f"{str(path)!r}: the decoding process sent an image of shape {shape}; leave the file out")
        content = self._read(size, patience)
        if len(content) != size:
            raise DataError(f"{str(path)!r}: {self._epitaph()}")
        return np.frombuffer(content, np.uint8).reshape(height, width, 3)


class IsolatedCutter(IsolatedProcess):
    """Cuts windows out of videos one after the other, in a child process as `IsolatedDecoder` has one."""

    def cut(self, path: Path, cut: Cut, reached: Reached = lambda seconds, total: None) -> CutReport:
        """Do what `cut_video` would, in the child process.

        Raises:
            DataError: the video cannot be cut, or crashed the process or went past a limit.
        """
        finished = False
        try:
            self._ask(path, "cut", cut=asdict(cut))
            patience = Patience(self.limits.seconds)
            while "time" in (message := self._receive(path, patience)):
                patience.reached(message["time"])
                reached(message["time"], message["total"])
            finished = True
            return CutReport(**self._conclude(message, "cut"))
        finally:
            if not finished:
                self.close()
