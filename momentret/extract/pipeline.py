"""Decode in processes, encode here, both at once.

Each worker thread drives one decoding process and hands on batches of frames; the caller's thread encodes them. A batch
never mixes videos, so the features of a video do not depend on what is extracted beside it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from momentret.encoders import Encoder
from momentret.errors import ConfigError, MomentretError
from momentret.extract.config import ExtractConfig
from momentret.extract.ledger import Keeper, Outcome
from momentret.extract.videos import Video
from momentret.video import DecodeReport, Frame, IsolatedDecoder, Limits, Sampling

__all__ = ["Watch", "clip_vectors", "extract"]

BATCH = 32  # frames; on a CPU more is no faster
WAITING = 4  # batches a worker may be ahead

Watch = Callable[[Video, float, float | None], None]
"""Told now and then: a video, how many of its seconds are encoded, and how many its header declares."""


def extract(
    videos: Sequence[Video],
    encoder: Encoder,
    config: ExtractConfig,
    keeper: Keeper,
    *,
    workers: int = 1,
    limits: Limits | None = None,
    watch: Watch | None = None,
) -> Iterator[Outcome]:
    """Extract the videos that the keeper does not have yet, and yield each outcome as it is safely kept.

    A video that cannot be decoded, crashes its process or goes past a limit is an outcome with an error; all others go
    on. Leaving the loop early, or being killed, loses at most the videos in work.

    Args:
        videos: which files, from `find_videos`.
        encoder: what makes the vectors.
        config: what is taken from each video; the keeper was opened with the same.
        keeper: where finished videos are kept.
        workers: videos decoded at the same time, each in a process.
        limits: what one video may cost.
        watch: told about progress.

    Raises:
        ConfigError: the decoder is not known or not installed.
    """
    todo = [video for video in videos if keeper.outcome(video) is None]
    workers = max(min(workers, len(todo)), 1)
    with _Decoding(todo, config, encoder.frame_size, workers, limits or Limits()) as decoding:
        rows: dict[Video, list[np.ndarray]] = {}
        for _ in range(len(todo)):
            end = _encode_until_end(decoding, encoder, rows, watch)
            yield _keep(end, rows.pop(end.video, []), config, keeper)


@dataclass
class _Batch:
    video: Video
    frames: list[Frame] = field(default_factory=list)
    declared: float | None = None


@dataclass
class _End:
    video: Video
    report: DecodeReport
    error: MomentretError | None = None


def _encode_until_end(
    decoding: _Decoding, encoder: Encoder, rows: dict[Video, list[np.ndarray]], watch: Watch | None
) -> _End:
    """Encode batches, of whichever video, until a video ends."""
    while isinstance(message := decoding.get(), _Batch):
        rows.setdefault(message.video, []).append(_encode(message.frames, encoder))
        if watch is not None:
            watch(message.video, message.frames[-1].wanted, message.declared)
    return message


def _encode(frames: Sequence[Frame], encoder: Encoder) -> np.ndarray:
    """Return ``(N, D)``; an image that is shown at several times is encoded once."""
    images: list[np.ndarray] = []
    places = []
    for frame in frames:
        if not images or frame.image is not images[-1]:
            images.append(frame.image)
        places.append(len(images) - 1)
    return encoder.encode_frames(images)[places]


def _keep(end: _End, rows: Sequence[np.ndarray], config: ExtractConfig, keeper: Keeper) -> Outcome:
    if isinstance(end.error, ConfigError):
        raise end.error
    if end.error is not None:
        return keeper.finish(end.video, Outcome.of(end.video, end.report, error=str(end.error)))
    clips = clip_vectors(np.concatenate(rows), config.frames_per_clip)
    return keeper.finish(end.video, Outcome.of(end.video, end.report, clips=len(clips)), clips)


def clip_vectors(rows: np.ndarray, frames_per_clip: int) -> np.ndarray:
    """Return the mean direction of the frames of each clip: ``(N, D)`` unit rows -> ``(L, D)`` unit rows.

    The last clip may have fewer frames. Frames that cancel out give zeros.
    """
    starts = np.arange(0, len(rows), frames_per_clip)
    total = np.add.reduceat(rows, starts, axis=0)  # (L, D)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length == 0, 1, length)).astype(np.float32)


class _Decoding:
    """Worker threads that take videos from one list and put what they decode into one bounded queue."""

    def __init__(self, videos: Sequence[Video], config: ExtractConfig, size: int, workers: int, limits: Limits) -> None:
        self._videos = iter(videos)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._queue: queue.Queue[_Batch | _End | BaseException] = queue.Queue(WAITING * workers)
        self._sampling, self._decoder = config.sampling(size), config.decoder
        self._processes = [IsolatedDecoder(limits) for _ in range(workers)]
        # daemons: a program that ends while somebody still holds the iterator would wait for them for ever
        self._threads = [threading.Thread(target=self._run, args=(p,), daemon=True) for p in self._processes]

    def get(self) -> _Batch | _End:
        """Return the next batch or end; each video's come in order."""
        message = self._queue.get()
        if isinstance(message, BaseException):
            raise message
        return message

    def _run(self, process: IsolatedDecoder) -> None:
        try:
            with process:
                while not self._stop.is_set() and (video := self._next()) is not None:
                    self._decode(video, process, self._sampling)
        except BaseException as error:  # noqa: BLE001  a fault of ours must end the run, not hang it
            self._put(error)

    def _next(self) -> Video | None:
        with self._lock:
            return next(self._videos, None)

    def _decode(self, video: Video, process: IsolatedDecoder, sampling: Sampling) -> None:
        batch = _Batch(video)
        try:
            for frame in process.frames(video.path, sampling, self._decoder):
                if self._stop.is_set():
                    return
                batch.frames.append(frame)
                batch.declared = process.declared
                if len(batch.frames) == BATCH:
                    self._put(batch)
                    batch = _Batch(video)
        except MomentretError as error:
            self._put(_End(video, process.report, error))
            return
        if batch.frames:
            self._put(batch)
        self._put(_End(video, process.report))

    def _put(self, message: _Batch | _End | BaseException) -> None:
        """Hand a message on as soon as there is room; give up when nobody wants it any more."""
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(message, timeout=0.2)
                break

    def __enter__(self) -> _Decoding:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop.set()
        for process in self._processes:
            process.abort()
        for thread in self._threads:
            thread.join()
