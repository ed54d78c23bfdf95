"""Pictures out of videos: the right ones, small, and what is missing named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momentret.report.thumbnails import POSTER, STRIP, strip_times, take_pictures

from ..answering import answer
from ..video.rendering import read_number, render

H264 = {"preset": "ultrafast", "g": "10"}


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_pictures_are_those_on_screen_then(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", options=H264)
    found = answer([(path, 0.42, 1.22), (path, 1.2, 1.6)])
    pictures = take_pictures([found])
    assert pictures.problems == {}
    for moment in found.moments:
        shots = [opened(pictures.images[str(path), time, STRIP]) for time in strip_times(moment)]
        wanted = [int(time * 25 + 1e-6) for time in strip_times(moment)]
        assert [read_number(np.asarray(shot)) for shot in shots] == wanted
    posters = [opened(content) for (_, _, size), content in pictures.images.items() if size == POSTER]
    assert {read_number(np.asarray(poster)) for poster in posters} == {18, 31}


@pytest.mark.parametrize(("size", "small"), [((1280, 720), (256, 144)), ((360, 720), (144, 288)), ((96, 54), (96, 54))])
def test_pictures_are_small_and_never_blown_up(tmp_path: Path, size: tuple[int, int], small: tuple[int, int]) -> None:
    path = render(tmp_path / "film.mp4", options=H264, size=size, stamps=[0, 1000, 2000])
    pictures = take_pictures([answer([(path, 0.0, 1.0)])])
    sizes = {key[2]: opened(content).size for key, content in pictures.images.items()}
    assert sizes[STRIP] == small
    assert min(sizes[POSTER]) == min(POSTER, *size)


def test_what_is_missing_or_broken_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", options=H264)
    (tmp_path / "broken.mp4").write_text("no film")
    moments = [(tmp_path / "gone.mp4", 0.0, 1.0), (tmp_path / "broken.mp4", 0.0, 1.0), (path, 0.0, 1.0)]
    pictures = take_pictures([answer(moments)])
    assert "cannot be opened" in pictures.problems[str(tmp_path / "gone.mp4")]
    assert "cannot be read as a video" in pictures.problems[str(tmp_path / "broken.mp4")]
    assert {key[0] for key in pictures.images} == {str(path)}


def test_past_the_end_of_a_shorter_video_there_is_no_picture_but_a_problem(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", options=H264)  # 2 s
    there, half, past = answer([(path, 0.0, 1.0)]), answer([(path, 1.5, 3.5)]), answer([(path, 2.5, 4.0)])
    for found, count in ((there, 5), (half, 2), (past, 0)):
        pictures = take_pictures([found])
        assert len(pictures.images) == count
        assert (str(path) in pictures.problems) == (found is not there)
    said = f"{str(path)!r} ends at 2.00 s, before a moment that was found in it; search again"
    assert pictures.problems[str(path)] == said


def test_every_video_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from momentret.video import IsolatedDecoder

    path, asked = render(tmp_path / "film.mp4", options=H264), []
    honest = IsolatedDecoder.frames

    def frames(self: IsolatedDecoder, path: Path, *rest: object) -> object:
        asked.append(path)
        return honest(self, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(IsolatedDecoder, "frames", frames)
    take_pictures([answer([(path, 1.0, 1.5), (path, 0.2, 0.6)]), answer([(path, 0.2, 0.6)])])
    assert asked == [path]
