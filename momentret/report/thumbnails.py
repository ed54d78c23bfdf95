"""Small pictures out of videos, at the times that a report shows."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from momentret.errors import DataError
from momentret.progress import Progress, silent
from momentret.search.answers import Answer, FoundMoment
from momentret.video import IsolatedDecoder, Limits, Sampling
from momentret.video.sampling import TIME_EPSILON

__all__ = ["POSTER", "STRIP", "STRIP_PICTURES", "Pictures", "poster_time", "strip_times", "take_pictures"]

POSTER = 360
"""Shorter side in pixels of the one large picture of a moment."""
STRIP = 144
"""Shorter side in pixels of the small pictures of a moment."""
STRIP_PICTURES = 4
"""How many small pictures a moment has."""
_QUALITY = 80  # of JPEG
_WIDEST = 4  # longer side over shorter side; what is longer is squeezed into it


@dataclass
class Pictures:
    """JPEG files by ``(path, seconds, size)``, and what went wrong by path."""

    images: dict[tuple[str, float, int], bytes] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def poster_time(answer: Answer, moment: FoundMoment) -> float:
    """Return the time of the clip in a moment that fits best, in seconds; without a curve, the middle."""
    curve = answer.curves.get(moment.video_id)
    middle = (moment.start + moment.end) / 2
    if curve is None:
        return middle
    centres = [curve.start + (i + 0.5) * curve.clip_length for i in range(len(curve.values))]
    inside = [(value, -abs(t - middle), t) for value, t in zip(curve.values, centres, strict=True) if _in(moment, t)]
    return max(inside)[2] if inside else middle


def _in(moment: FoundMoment, time: float) -> bool:
    return moment.start <= time < moment.end


def strip_times(moment: FoundMoment) -> list[float]:
    """Return the centres of equal parts of a moment, in seconds."""
    length = moment.end - moment.start
    return [moment.start + (i + 0.5) * length / STRIP_PICTURES for i in range(STRIP_PICTURES)]


def take_pictures(answers: Sequence[Answer], limits: Limits | None = None, progress: Progress = silent) -> Pictures:
    """Decode the pictures of all moments, every video once and in a process of its own.

    A video that is missing, broken or shorter than when it was searched has an entry in `problems`, and the pictures
    that could be had all the same.
    """
    wanted: dict[str, dict[float, set[int]]] = defaultdict(lambda: defaultdict(set))  # path -> time -> sizes
    for answer in answers:
        for moment in answer.moments:
            wanted[moment.path][max(poster_time(answer, moment), 0.0)].add(POSTER)
            for time in strip_times(moment):
                wanted[moment.path][max(time, 0.0)].add(STRIP)
    pictures = Pictures()
    with IsolatedDecoder(limits) as decoder:
        for path, times in progress(wanted.items(), "pictures", len(wanted)):
            try:
                _take(pictures, path, times, decoder)
            except DataError as error:
                pictures.problems[path] = " ".join(str(error).split())
    return pictures


def _take(pictures: Pictures, path: str, times: dict[float, set[int]], decoder: IsolatedDecoder) -> None:
    for frame in decoder.frames(Path(path), Sampling(times=tuple(sorted(times)), size=POSTER)):
        for size in times[frame.wanted]:
            pictures.images[path, frame.wanted, size] = _to_jpeg(frame.image, size)
    end = decoder.report.duration
    past = [time for time in times if time >= end - TIME_EPSILON]
    for time in past:
        for size in times[time]:
            pictures.images.pop((path, time, size), None)  # the first time asked for has a frame in any case
    if past:
        raise DataError(f"{path!r} ends at {end:.2f} s, before a moment that was found in it; search again")


def _to_jpeg(image: np.ndarray, size: int) -> bytes:
    """Return a JPEG file with the shorter side at most `size` pixels."""
    picture = Image.fromarray(image)
    scale = min(size / min(picture.size), 1.0)
    longest = size * _WIDEST
    picture = picture.resize([max(min(round(side * scale), longest), 1) for side in picture.size], Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return content.getvalue()
