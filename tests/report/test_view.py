"""What is shown of an answer, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from momentret.report import Pictures, view_answers
from momentret.report.thumbnails import POSTER, STRIP, poster_time, strip_times
from momentret.report.view import MAX_POINTS, readable
from momentret.search.answers import Curve

from ..answering import answer

FILM, OTHER = Path("films/film.mp4"), Path("films/other.mp4")


def test_small_pictures_are_the_centres_of_equal_parts() -> None:
    assert strip_times(answer([(FILM, 0.4, 1.2)]).moments[0]) == pytest.approx([0.5, 0.7, 0.9, 1.1])


@pytest.mark.parametrize(
    ("window", "curve", "time"),
    [
        ((0.0, 2.0), Curve(0.0, 0.5, (0.1, 0.3, 0.9, 0.2)), 1.25),
        ((0.0, 1.0), Curve(0.0, 0.5, (0.1, 0.3, 0.9, 0.2)), 0.75),  # the best inside the moment
        ((0.0, 2.0), Curve(0.0, 0.5, (0.5, 0.5, 0.5, 0.5)), 1.25),  # of equals one of those in the middle
        ((0.8, 0.9), Curve(0.0, 0.5, (0.1, 0.3, 0.9, 0.2)), 0.85),  # no clip has its centre there
        ((0.0, 2.0), None, 1.0),
    ],
)
def test_the_large_picture_is_the_best_clip(window: tuple[float, float], curve: Curve | None, time: float) -> None:
    found = answer([(FILM, *window)], curves={} if curve is None else {"film": curve})
    assert poster_time(found, found.moments[0]) == pytest.approx(time)


def test_the_timeline_has_the_windows_of_the_same_video() -> None:
    (query,) = view_answers([answer([(FILM, 0.5, 1.0), (OTHER, 0.0, 0.2), (FILM, 1.5, 3.0)])], Pictures())
    assert [view.timeline.own for view in query.moments] == [(0.25, 0.5), (0.0, 0.1), (0.75, 1.0)]
    assert [view.timeline.others for view in query.moments] == [((0.75, 1.0),), (), ((0.25, 0.5),)]


def test_curves_of_a_query_share_one_scale_from_edge_to_edge() -> None:
    curves = {"film": Curve(0.0, 1.0, (2.0, 4.0)), "other": Curve(1.0, 1.0, (3.0,))}
    (query,) = view_answers([answer([(FILM, 0.0, 1.0), (OTHER, 0.0, 1.0)], curves=curves)], Pictures())
    assert query.moments[0].timeline.curve == ((0.0, 0.0), (0.25, 0.0), (0.75, 1.0), (1.0, 1.0))
    assert query.moments[1].timeline.curve == ((0.5, 0.5), (0.75, 0.5), (1.0, 0.5))


def test_a_long_curve_keeps_its_peaks() -> None:
    values = [0.0] * 10_000
    values[7_777] = 1.0
    found = answer([(FILM, 0.0, 1.0)], curves={"film": Curve(0.0, 2.0 / 10_000, tuple(values))})
    points = view_answers([found], Pictures())[0].moments[0].timeline.curve
    assert len(points) <= MAX_POINTS + 2
    assert max(points, key=lambda point: point[1]) == pytest.approx((0.7777, 1.0), abs=0.002)


def test_a_curve_without_clips_or_without_ups_and_downs_is_drawn() -> None:
    for values in ((), (0.5, 0.5)):
        found = answer([(FILM, 0.0, 1.0)], curves={"film": Curve(0.0, 1.0, values)})
        assert all(y == 0.0 for _, y in view_answers([found], Pictures())[0].moments[0].timeline.curve)


def test_absence_is_said_plainly() -> None:
    found = answer([(FILM, 0.0, 1.0)], present=False, presence=0.07)
    (query,) = view_answers([found], Pictures())
    assert (query.present, query.verdict) == (False, "Nothing here matches.")
    assert query.sureness == "7% sure that it is there; 50% is needed to say so"
    assert view_answers([answer([])], Pictures())[0].verdict == "Nothing here matches."


def test_no_videos_to_look_at_are_no_absence() -> None:
    (query,) = view_answers([answer([], present=False, presence=None)], Pictures())
    assert (query.present, query.verdict) == (False, "There are no videos to look at.")
    assert query.sureness == "The index is empty or the filters pass none"


def test_a_problem_is_that_of_the_moments_without_pictures() -> None:
    found = answer([(FILM, 0.0, 1.0), (FILM, 1.0, 2.0)])
    first = found.moments[0]
    keys = [(poster_time(found, first), POSTER), *((time, STRIP) for time in strip_times(first))]
    pictures = Pictures({(str(FILM), *key): b"" for key in keys}, {str(FILM): f"{str(FILM)!r} is short"})
    (query,) = view_answers([found], pictures)
    assert [view.problem for view in query.moments] == [None, "the video is short"]


def test_a_moment_below_the_bar_is_called_unlikely() -> None:
    (query,) = view_answers([answer([(FILM, 0.0, 1.0), (OTHER, 1.0, 2.0)], sure=[0.9, 0.45])], Pictures())
    assert [view.sureness for view in query.moments] == ["90% sure"]
    assert [view.sureness for view in query.nearest] == ["45% sure, probably not"]
    assert (query.verdict, query.aside) == ("1 moment in 1 video", "1 more moment, probably not what was asked for")


def test_text_shows_what_it_holds() -> None:
    assert readable("a\u202eb\x00c\udcff\n\ud800") == "a�b�c�\n�"
