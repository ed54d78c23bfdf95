"""Videos -> clip vectors in memory, by the extraction that fills stores and indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from momentret.encoders import Encoder
from momentret.errors import DataError
from momentret.extract import ExtractConfig, Outcome, extract, find_videos
from momentret.extract import Video as ToExtract
from momentret.files import absolute
from momentret.search.index import SeenFile, Video
from momentret.words import count_of

__all__ = ["extract_videos"]


class _MemoryKeeper:
    """Keeps rows in memory; a `momentret.extract.Keeper`."""

    def __init__(self, clip_length: float) -> None:
        self.clip_length = clip_length
        self.found: dict[str, tuple[Video, np.ndarray]] = {}

    def outcome(self, video: ToExtract) -> Outcome | None:
        """Everything is to do."""
        return None

    def finish(self, video: ToExtract, outcome: Outcome, rows: np.ndarray | None = None) -> Outcome:
        """Keep a video."""
        if rows is not None:
            file = SeenFile.of(absolute(video.path))
            record = Video(
                video.video_id,
                file.path,
                "",
                duration=outcome.duration,
                clip_length=self.clip_length,
                size=file.size,
                modified=file.modified,
            )
            self.found[video.video_id] = record, rows
        return outcome


def extract_videos(
    paths: Sequence[Path],
    encoder: Encoder,
    config: ExtractConfig,
    *,
    finished: Callable[[Outcome], object] | None = None,
    **options: Any,
) -> list[tuple[Video, np.ndarray]]:
    """Return the records and clip vectors ``(L, D)`` of the videos that files and folders stand for.

    Args:
        paths: video files, and folders with videos anywhere below.
        encoder: what makes the vectors.
        config: what is taken from each video.
        finished: told of every video as it ends, those that cannot be decoded too.
        options: `workers`, `limits`, `watch` of `momentret.extract.extract`.

    Raises:
        DataError: none of them can be decoded; the message is the first one's.
    """
    keeper = _MemoryKeeper(config.clip_length)
    errors = []
    for outcome in extract(find_videos(paths), encoder, config, keeper, **options):
        if outcome.error is not None:
            errors.append(outcome.error)
        if finished is not None:
            finished(outcome)
    if not keeper.found:
        others = f"; nor can {count_of(len(errors) - 1, 'other file')} be read" if len(errors) > 1 else ""
        raise DataError(errors[0] + others)
    return [keeper.found[name] for name in sorted(keeper.found)]
