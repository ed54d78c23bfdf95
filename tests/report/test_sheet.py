"""The contact sheet, looked at pixel by pixel where it matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momentret.errors import ConfigError
from momentret.report import Pictures, draw_sheet, take_pictures, view_answers
from momentret.report.sheet import ASIDE, GAP, MARGIN, MAX_MOMENTS, OWN, ROW, SHOT, TEXT, WIDTH
from momentret.report.thumbnails import strip_times
from momentret.search.answers import Answer

from ..answering import answer
from ..video.rendering import read_number, render

FILM = Path("film.mp4")


def sheet_of(*answers: Answer, pictures: Pictures | None = None) -> Image.Image:
    return draw_sheet(view_answers(answers, pictures or Pictures()))


def top_of_moments(sheet: Image.Image, moments: int = 1) -> int:
    return sheet.height - MARGIN - ROW * moments


def test_the_pictures_stand_in_a_row(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", options={"preset": "ultrafast", "g": "10"}, size=(480, 270))
    found = answer([(path, 0.42, 1.22)])
    sheet = sheet_of(found, pictures=take_pictures([found]))
    top = top_of_moments(sheet)
    for i, time in enumerate(strip_times(found.moments[0])):
        left = MARGIN + i * (SHOT[0] + GAP)
        shot = sheet.crop((left, top, left + SHOT[0], top + SHOT[1]))
        assert read_number(np.asarray(shot)) == int(time * 25 + 1e-6)


def test_the_window_is_drawn_where_it_is_in_the_video() -> None:
    sheet = sheet_of(answer([(FILM, 0.5, 1.0)], curves={}))
    row = np.asarray(sheet)[top_of_moments(sheet) + SHOT[1] - 20, TEXT : WIDTH - MARGIN]
    own = np.flatnonzero((row == tuple(bytes.fromhex(OWN[1][1:]))).all(axis=1)) / len(row)
    assert (own[0], own[-1]) == pytest.approx((0.25, 0.5), abs=0.01)


def test_the_curve_rises_where_the_video_fits() -> None:
    sheet = sheet_of(answer([(FILM, 0.0, 0.01)]))
    top = top_of_moments(sheet)
    box = np.asarray(sheet)[top + 76 : top + SHOT[1] - 18, TEXT : WIDTH - MARGIN].astype(int)
    blue = box[..., 2] - box[..., 0] > 60  # the colour of the curve
    height = {place: np.flatnonzero(blue[:, int(place * box.shape[1])])[0] for place in (0.2, 0.625, 0.9)}
    assert height[0.625] < 5 < height[0.9] < height[0.2]


def test_every_row_and_query_has_its_room() -> None:
    one, two = sheet_of(answer([(FILM, 0.5, 1.0)])), sheet_of(answer([(FILM, 0.5, 1.0), (FILM, 1.0, 1.5)]))
    assert two.height - one.height == ROW
    assert sheet_of(answer([(FILM, 0.5, 1.0)]), answer([(FILM, 0.5, 1.0)])).height == 2 * one.height - MARGIN


def test_what_is_doubtful_stands_below_words_of_its_own() -> None:
    moments = [(FILM, 0.5, 1.0), (FILM, 1.0, 1.5)]
    likely, doubtful = sheet_of(answer(moments)), sheet_of(answer(moments, sure=[0.9, 0.2]))
    assert doubtful.height - likely.height == ASIDE
    words = np.asarray(doubtful)[doubtful.height - MARGIN - ROW - ASIDE : doubtful.height - MARGIN - ROW]
    assert (words < 128).any()


@pytest.mark.parametrize("query", ["", "word " * 500, "w" * 5000, "\x00\n\t猫", "\ud800"])
def test_any_query_fits(query: str) -> None:
    sheet = sheet_of(answer([], query, present=False))
    assert sheet.width == WIDTH
    right = np.asarray(sheet)[:, WIDTH - MARGIN + 4 :]
    assert (right == 255).all()


def test_more_moments_than_a_picture_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"301 moments are too many for one sheet, 300 fit; take fewer with --top"):
        sheet_of(answer([(FILM, 0.5, 1.0)] * (MAX_MOMENTS + 1)))
