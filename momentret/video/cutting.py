"""A window of a video -> a file of its own, with the sound that belongs to it; see `Cut` for the two ways.

This process opens the file itself: for files that nobody vouches for use `IsolatedCutter`, which does the same.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from momentret.errors import DataError
from momentret.video.copying import copy_window
from momentret.video.cuts import Cut, CutReport, Reached
from momentret.video.encoding import encode_window
from momentret.video.probe import probe

__all__ = ["cut_video"]


def cut_video(path: Path, cut: Cut, reached: Reached = lambda seconds, total: None) -> CutReport:
    """Write a window of a video to a file, in this process.

    Raises:
        DataError: the video cannot be read, does not last until the window, or does not fit into the output's format.
    """
    info = probe(path)
    with _writing(path, cut) as output:
        work = encode_window if cut.exact else copy_window
        return work(info, cut.start, cut.end, output, reached)


@contextmanager
def _writing(path: Path, cut: Cut) -> Iterator[Any]:
    import av

    options = {"movflags": "+faststart"} if cut.format in ("mp4", "mov") else {}
    try:
        with av.open(f"file:{Path(cut.output).absolute()}", "w", format=cut.format, options=options) as output:
            yield output
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{str(path)!r} cannot be written as {cut.format} ({reason}); {_next_step(error, cut)}"
        ) from error


def _next_step(error: Exception, cut: Cut) -> str:
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "make room on the disk"
    if cut.exact:
        return "try another ending"
    return "try --exact" if cut.format == "matroska" else "try the ending .mkv, or --exact"
