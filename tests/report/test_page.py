"""The page, read as a browser reads it."""

from __future__ import annotations

import base64
import hashlib
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from momentret.report import Pictures, render_page, take_pictures, view_answers
from momentret.search.answers import Answer

from ..answering import answer
from ..video.rendering import render

EVIL = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"' & {{ 7 * 7 }}"


class Page(HTMLParser):
    """Every tag with its attributes, and all text by the tag that it stands in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self._open = [""]
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*answers: Answer, folder: Path = Path(), pictures: Pictures | None = None) -> Page:
    return Page(render_page(view_answers(answers, pictures or Pictures()), folder))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return render(tmp_path / "videos" / "film.mp4", options={"preset": "ultrafast"})


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()


def test_every_query_and_moment_is_there(film: Path, tmp_path: Path) -> None:
    answers = [answer([(film, 0.5, 1.0), (film, 1.2, 1.6)], "a dog"), answer([(film, 0.0, 0.4)], "a cat")]
    page = page_of(*answers, folder=tmp_path, pictures=take_pictures(answers))
    assert page.text["h2"] == "a doga cat"
    assert len(page.all("article")) == len(page.all("video")) == len(page.all("svg")) == 3
    assert len(page.all("button")) == len(page.all("img")) == 12
    assert page.text["title"] == "2 queries – moments found"


def test_videos_play_the_moment_from_the_file(film: Path, tmp_path: Path) -> None:
    found = answer([(film, 0.5, 1.0)])
    page = page_of(found, folder=tmp_path, pictures=take_pictures([found]))
    assert page.all("video")[0]["src"] == "./videos/film.mp4#t=0.50,1.00"
    page = page_of(found, folder=tmp_path / "elsewhere", pictures=take_pictures([found]))
    assert page.all("video")[0]["src"] == f"{film.as_uri()}#t=0.50,1.00"


def test_without_the_file_pictures_stay_and_nothing_plays(film: Path, tmp_path: Path) -> None:
    found = answer([(film, 0.5, 1.0)])
    pictures = take_pictures([found])
    film.unlink()
    page = page_of(found, folder=tmp_path, pictures=pictures)
    assert not page.all("video") + page.all("button") + page.all("a")
    assert len(page.all("img")) == 5
    assert all(image["alt"] for image in page.all("img"))


def test_without_pictures_there_is_a_placeholder_with_the_reason(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.mp4")
    page = page_of(answer([(Path(path), 0.5, 1.0)]), pictures=Pictures(problems={path: f"{path!r} is <gone>"}))
    assert "No picture" in page.text["span"]
    assert "the video is <gone>" in page.text["p"]
    assert len(page.all("svg")) == 1


def test_absence_is_plain_and_the_nearest_are_folded_away(film: Path) -> None:
    page = page_of(answer([(film, 0.5, 1.0)], present=False, presence=0.1))
    assert "Nothing here matches." in page.text["strong"]
    tags = [tag for tag, _ in page.tags]
    assert tags.index("details") < tags.index("article")


def test_doubtful_moments_are_folded_away_below_the_likely_ones(film: Path) -> None:
    page = page_of(answer([(film, 0.5, 1.0), (film, 1.0, 1.5), (film, 1.5, 2.0)], sure=[0.3, 0.9, 0.2]))
    assert "1 moment in 1 video" in page.text["strong"]
    assert [tag for tag, found in page.tags if tag == "article" or found.get("class") == "nearest"] == [
        "article",
        "details",
        "article",
        "article",
    ]
    assert [heading["id"] for heading in page.all("h3")] == ["moment-1-2", "moment-1-1", "moment-1-3"]


def test_nothing_that_users_or_files_say_becomes_markup(tmp_path: Path) -> None:
    path = tmp_path / "videos" / f"{EVIL.replace('/', '⁄')}.mp4"
    path.write_bytes(render(tmp_path / "film.mp4", options={"preset": "ultrafast"}).read_bytes())
    found = answer([(path, 0.5, 1.0)], EVIL, index=EVIL, encoder=EVIL)
    page = page_of(found, folder=tmp_path, pictures=take_pictures([found]))
    assert [tag for tag, _ in page.tags if tag in ("script", "style", "title")] == ["title", "style", "script"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text["h1"] == EVIL
    assert path.name in page.text["a"]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX")
@pytest.mark.parametrize("name", [b"\xff\xfe.mp4", b"two\nlines.mp4", b"javascript:alert(1).mp4", b"a#t=9?b%41.mp4"])
def test_any_name_is_linked_as_the_file_it_is(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "videos" / os.fsdecode(name)
    path.write_bytes(render(tmp_path / "film.mp4", options={"preset": "ultrafast"}).read_bytes())
    found = answer([(path, 0.5, 1.0)])
    page = page_of(found, folder=tmp_path / "videos", pictures=take_pictures([found]))
    url = urlsplit(page.all("a")[0]["href"])
    assert (url.scheme, url.netloc, url.query, url.fragment) == ("", "", "", "")
    assert unquote_to_bytes(url.path) == b"./" + name
    render_page(view_answers([found], Pictures()), tmp_path).encode()  # it can be written


def test_the_page_needs_nothing_from_elsewhere_and_runs_its_own_script_only(film: Path, tmp_path: Path) -> None:
    found = answer([(film, 0.5, 1.0)])
    page = page_of(found, folder=tmp_path, pictures=take_pictures([found]))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(page.text["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not page.all("link")
    assert "url(" not in page.text["style"]
    assert "@import" not in page.text["style"]


def test_the_command_of_a_moment_can_be_pasted(tmp_path: Path) -> None:
    page = page_of(answer([(Path("it's a film.mp4"), 0.5, 1.0)]))
    assert page.text["code"] == "momentret cut 'it'\"'\"'s a film.mp4' --window 0.50-1.00 --output cuts/"


def test_the_drawing_has_the_windows_and_the_curve(film: Path) -> None:
    page = page_of(answer([(film, 0.5, 1.0), (film, 1.5, 2.0)]))
    columns = [(rect["x"], rect["width"]) for rect in page.all("rect") if "x" in rect and "y" not in rect]
    assert columns == [("750.0", "250.0"), ("250.0", "250.0"), ("250.0", "250.0"), ("750.0", "250.0")]
    assert page.all("polyline")[0]["points"].split()[:2] == ["0.0,100.0", "125.0,100.0"]
