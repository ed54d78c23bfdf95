"""Where a found moment begins and ends, read off its video's curve.

The best-scoring window is the best few seconds of what was asked for: one clip more that fits a little less well
lowers the score. What belongs to it are the clips around its peak that fit nearly as well, seen beside the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from momentret.search.answers import Curve
from momentret.search.index import Hit, Video
from momentret.search.presence import Query

__all__ = ["CurveBorders", "as_scored", "grown"]

SHARE = 0.4
"""How far below its peak a moment ends, as a share of the way down to the lower quartile of the video.

On 108 short and 108 long queries about photographs in films (`scripts/measure_offline.py --reels`, seeds 0 to 2) the
first moment had an IoU of at least 0.5 for 16 % as scored and for 57 % grown; shares from 0.25 to 0.5 and quantiles
from the lowest value to the median gave 54 % to 58 %. The quartile lets a moment be most of its video.
"""
STEPS = 4.0
"""At least so many of the smaller steps between neighbouring clips below the peak: noise is no border."""


def grown(curve: Sequence[float] | np.ndarray, first: int, last: int) -> tuple[int, int]:
    """Return the first and the last clip of the moment that the window from `first` to `last` is the best part of.

    Args:
        curve: how well each clip of the video fits, ``(L,)``.
        first: first clip of the window.
        last: its last clip.

    Example:
        >>> grown([0.1, 0.1, 0.7, 0.8, 0.7, 0.1, 0.1], 3, 3)
        (2, 4)
    """
    values = np.asarray(curve, np.float64)
    peak = first + int(values[first : last + 1].argmax())
    noise = float(np.quantile(np.abs(np.diff(values)), 0.25)) if len(values) > 1 else 0.0
    top = values[peak]
    limit = top - max(SHARE * (top - float(np.quantile(values, 0.25))), STEPS * noise)
    outside = np.flatnonzero(values < limit)  # the peak is never outside
    place = int(np.searchsorted(outside, peak))
    begin = int(outside[place - 1]) + 1 if place else 0
    end = int(outside[place]) - 1 if place < len(outside) else len(values) - 1
    return begin, end


class CurveBorders:
    """Lets found moments grow as far as their clips fit; a `momentret.search.engine.Refiner`.

    Args:
        curve: returns how well each clip of a video fits a query.
    """

    def __init__(self, curve: Callable[[Query, Video], Curve]) -> None:
        self._curve = curve

    def __call__(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits with the borders of `grown`, in the same order."""
        videos = {hit.video.video_id: hit.video for hit in hits}
        values = {name: self._curve(query, video).values for name, video in videos.items()}
        return [_grow(hit, values[hit.video.video_id]) for hit in hits]


def _grow(hit: Hit, curve: Sequence[float]) -> Hit:
    step, begin = hit.video.clip_length, hit.video.start
    first = min(round((hit.start - begin) / step), len(curve) - 1)
    last = max(first, min(int(np.ceil((hit.end - begin) / step - 1e-6)), len(curve)) - 1)
    start, end = hit.video.window(*grown(curve, first, last))
    return replace(hit, start=start, end=end)


def as_scored(query: Query, hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits as they are: a `momentret.search.engine.Refiner` that leaves the best few seconds."""
    return list(hits)
