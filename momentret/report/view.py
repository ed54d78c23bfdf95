"""What a report shows, worked out once for the page and the sheet: words, times, places along a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momentret.files import valid_text
from momentret.report.thumbnails import POSTER, STRIP, Pictures, poster_time, strip_times
from momentret.search.answers import Answer, Curve, FoundMoment
from momentret.words import clock, count_of

__all__ = ["MomentView", "QueryView", "Shot", "Timeline", "readable", "view_answers"]

NEAREST = "What comes nearest"
MAX_POINTS = 400  # of a curve: more cannot be told apart on a screen


@dataclass(frozen=True)
class Shot:
    """A picture of a video; `jpeg` is None if it could not be had."""

    time: float
    jpeg: bytes | None

    @property
    def label(self) -> str:
        """The time as a clock shows it."""
        return clock(self.time)


@dataclass(frozen=True)
class Timeline:
    """A whole video from 0 to 1: found windows ``(begin, end)`` and the curve as points ``(x, y)``, y in [0, 1]."""

    own: tuple[float, float]
    others: tuple[tuple[float, float], ...]
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class MomentView:
    """A moment, ready to be shown."""

    moment: FoundMoment
    name: str
    path: str
    window: str
    length: str
    duration: str
    sureness: str
    poster: Shot
    strip: tuple[Shot, ...]
    timeline: Timeline
    problem: str | None
    """Why pictures are missing."""


@dataclass(frozen=True)
class QueryView:
    """An answer, ready to be shown."""

    query: str
    present: bool
    verdict: str
    """One short sentence."""
    sureness: str
    """A second one, with numbers."""
    encoder: str
    index: str | None
    moments: tuple[MomentView, ...]
    """The likely ones."""
    nearest: tuple[MomentView, ...]
    """The others."""
    aside: str
    """What to write above these."""


def view_answers(answers: Sequence[Answer], pictures: Pictures) -> list[QueryView]:
    """Return what is to be shown of answers."""
    return [_view_answer(answer, pictures) for answer in answers]


def _view_answer(answer: Answer, pictures: Pictures) -> QueryView:
    likely = [moment for moment in answer.moments if answer.is_likely(moment)]
    others = [moment for moment in answer.moments if not answer.is_likely(moment)]
    videos = count_of(len({moment.path for moment in likely}), "video")
    return QueryView(
        query=readable(answer.query) or "(empty query)",
        present=bool(likely),
        verdict=f"{count_of(len(likely), 'moment')} in {videos}" if likely else _why_none(answer),
        sureness=_how_sure(answer),
        encoder=readable(answer.encoder),
        index=None if answer.index is None else readable(answer.index),
        moments=tuple(_view_moment(answer, moment, pictures) for moment in likely),
        nearest=tuple(_view_moment(answer, moment, pictures) for moment in others),
        aside=f"{count_of(len(others), 'more moment')}, probably not what was asked for" if likely else NEAREST,
    )


def _why_none(answer: Answer) -> str:
    return "There are no videos to look at." if answer.searched_nothing else "Nothing here matches."


def _how_sure(answer: Answer) -> str:
    if answer.searched_nothing:
        return "The index is empty or the filters pass none"
    if answer.presence is None:
        return "How sure it is that it is there is not known: the videos are too few or too alike to compare"
    return f"{answer.presence:.0%} sure that it is there; {answer.min_confidence:.0%} is needed to say so"


def _view_moment(answer: Answer, moment: FoundMoment, pictures: Pictures) -> MomentView:
    def shot(time: float, size: int) -> Shot:
        return Shot(max(time, 0.0), pictures.images.get((moment.path, max(time, 0.0), size)))

    poster, strip = shot(poster_time(answer, moment), POSTER), [shot(time, STRIP) for time in strip_times(moment)]
    lacking = any(picture.jpeg is None for picture in (poster, *strip))
    problem = pictures.problems.get(moment.path) if lacking else None
    known = "not known how sure" if moment.confidence is None else f"{moment.confidence:.0%} sure"
    unlikely = answer.present and not answer.is_likely(moment)
    return MomentView(
        moment=moment,
        name=readable(Path(moment.path).name) or readable(moment.video_id),
        path=readable(moment.path),
        window=f"{clock(moment.start)} – {clock(moment.end)}",
        length=f"{moment.end - moment.start:.1f} s",
        duration=clock(moment.duration),
        sureness=known + (", probably not" if unlikely else ""),
        poster=poster,
        strip=tuple(strip),
        timeline=_timeline(answer, moment),
        problem=None if problem is None else readable(problem.replace(repr(moment.path), "the video")),
    )


def _timeline(answer: Answer, moment: FoundMoment) -> Timeline:
    scale = 1 / moment.duration
    others = [other for other in answer.moments if other.path == moment.path and other is not moment]
    curve = answer.curves.get(moment.video_id)
    values = [value for each in answer.curves.values() for value in each.values]
    return Timeline(
        own=_between(moment, scale),
        others=tuple(_between(other, scale) for other in others),
        curve=() if curve is None else _points(curve, scale, min(values, default=0.0), max(values, default=1.0)),
    )


def _between(moment: FoundMoment, scale: float) -> tuple[float, float]:
    return _clamp(moment.start * scale), _clamp(moment.end * scale)


def _points(curve: Curve, scale: float, lowest: float, highest: float) -> tuple[tuple[float, float], ...]:
    """Return the centres of clips between both ends; peaks of neighbours where clips are too many.

    All curves of a query share `lowest` and `highest`, so that they can be compared.
    """
    group = -(-len(curve.values) // MAX_POINTS) or 1
    peaks = [max(curve.values[i : i + group]) for i in range(0, len(curve.values), group)]
    if not peaks:
        return ()
    centres = [(i + 0.5) * group for i in range(len(peaks))]
    places = [0.0, *centres, len(curve.values)]  # in clips
    heights = [(peak - lowest) / ((highest - lowest) or 1.0) for peak in (peaks[0], *peaks, peaks[-1])]
    return tuple(
        (_clamp((curve.start + place * curve.clip_length) * scale), height)
        for place, height in zip(places, heights, strict=True)
    )


def _clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def readable(text: str) -> str:
    """Return text that shows what it holds: nothing invisible, nothing that turns the writing around."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in valid_text(text))
