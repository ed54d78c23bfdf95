"""Moments found in a whole corpus: in which place the first right one stands, and what chance would find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from momentret.records import Annotation
from momentret.spans import iou

__all__ = ["Place", "chance", "first_right"]

Place = tuple[str, float, float]
"""A moment of a corpus: video id, start and end in seconds."""


def first_right(found: Sequence[Place], truth: Annotation, threshold: float) -> int | None:
    """Return the rank, from 1, of the first moment that lies right; None if none does.

    Args:
        found: moments of any videos, best first.
        truth: the query's video and its windows; one of them has to be met.
        threshold: IoU in [0, 1] that a moment in that video has to reach; 0 asks for the right video only.

    Example:
        >>> truth = Annotation("1", "a", "a cat", 20.0, windows=((4.0, 8.0),))
        >>> first_right([("b", 4.0, 8.0), ("a", 0.0, 4.0), ("a", 4.0, 7.0)], truth, 0.5)
        3
    """
    for rank, (video_id, start, end) in enumerate(found, start=1):
        if video_id == truth.video_id and _best(np.array([[start, end]]), truth)[0] >= threshold:
            return rank
    return None


def _best(windows: np.ndarray, truth: Annotation) -> np.ndarray:
    """Return the IoU ``(N,)`` of windows ``(N, 2)`` with the true one that each overlaps most."""
    best: np.ndarray = iou(windows, np.array(truth.windows)).max(axis=1)
    return best


def chance(
    truth: Annotation, durations: Mapping[str, float], clip_length: float, threshold: float, longest: int = 16
) -> float:
    """Return the probability in [0, 1] that a window drawn at random from the corpus lies right.

    All windows of whole clips are as likely: every start in every video, every length up to `longest`.

    Args:
        truth: the query's video and its windows.
        durations: seconds of every video.
        clip_length: seconds of a clip.
        threshold: IoU in [0, 1] that counts as right.
        longest: clips of the longest window.
    """
    every = {video_id: _windows(duration, clip_length, longest) for video_id, duration in durations.items()}
    right = int((_best(every[truth.video_id], truth) >= threshold).sum())
    return right / sum(map(len, every.values()))


def _windows(duration: float, clip_length: float, longest: int) -> np.ndarray:
    """Return every window ``(N, 2)`` of whole clips in seconds; the last clip may be cut off by the end."""
    clips = max(int(np.ceil(duration / clip_length - 0.5)), 1)  # as extraction counts them
    first, length = np.mgrid[:clips, 1 : longest + 1].reshape(2, -1)
    inside = first + length <= clips
    edges = np.stack([first, first + length], axis=1)[inside] * clip_length
    return np.minimum(edges, duration)
