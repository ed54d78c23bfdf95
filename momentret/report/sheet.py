"""The report as one picture: a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from momentret.errors import ConfigError
from momentret.plots.fonts import font_file
from momentret.report.thumbnails import STRIP_PICTURES
from momentret.report.view import MomentView, QueryView, Shot

__all__ = ["MAX_MOMENTS", "draw_sheet", "require_room"]

MAX_MOMENTS = 300  # of a sheet: more make a picture that few programs open
WIDTH, MARGIN, GAP = 1480, 32, 8  # pixels
SHOT = (240, 135)
ROW = SHOT[1] + 22  # a moment and the space below it
TEXT = MARGIN + STRIP_PICTURES * (SHOT[0] + GAP) + 18  # where words begin
TITLE, BODY, SMALL = 30, 18, 15  # letter sizes
ASIDE = BODY + 20  # the words above what comes nearest

PAPER, INK, QUIET, BAR = "#ffffff", "#1c1d21", "#62656e", "#ececea"
CURVE, GOOD, BAD = "#3a5a86", "#17653a", "#8a2617"
OWN, OTHER = ("#f0c3a2", "#c8591b"), ("#f2ddcd", "#e5b391")  # of a window: the column, and its foot


def require_room(moments: int) -> None:
    """Raise `ConfigError` if there are more moments than a sheet can hold."""
    if moments > MAX_MOMENTS:
        raise ConfigError(f"{moments} moments are too many for one sheet, {MAX_MOMENTS} fit; take fewer with --top")


def draw_sheet(queries: Sequence[QueryView]) -> Image.Image:
    """Draw all moments of all queries, one row each: pictures, words, the timeline with the curve.

    Raises:
        ConfigError: there are more moments than a picture can hold.
    """
    require_room(sum(len(query.moments) + len(query.nearest) for query in queries))
    heads = [_wrapped(query.query, TITLE, WIDTH - 2 * MARGIN, bold=True) for query in queries]
    heights = [_head_height(head) + _body_height(query) for head, query in zip(heads, queries, strict=True)]
    sheet = Image.new("RGB", (WIDTH, sum(heights) + MARGIN), PAPER)
    top = 0
    for head, query, height in zip(heads, queries, heights, strict=True):
        _draw_query(sheet, query, head, top)
        top += height
    return sheet


def _head_height(lines: Sequence[str]) -> int:
    return MARGIN + len(lines) * (TITLE + 8) + BODY + 26


def _body_height(query: QueryView) -> int:
    return ROW * (len(query.moments) + len(query.nearest)) + (ASIDE if query.nearest else 0)


def _draw_query(sheet: Image.Image, query: QueryView, head: Sequence[str], top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    y = top + MARGIN
    for line in head:
        _write(pen, (MARGIN, y), line, INK, TITLE, bold=True)
        y += TITLE + 8
    colour = GOOD if query.present else BAD
    pen.text((MARGIN, y), query.verdict, colour, _font(BODY, bold=True))
    after = MARGIN + _font(BODY, bold=True).getlength(query.verdict) + 12
    pen.text((after, y), f"{query.sureness}.", colour, _font(BODY))
    y = top + _head_height(head)
    for moment in query.moments:
        _draw_moment(sheet, moment, y)
        y += ROW
    if query.nearest:
        pen.text((MARGIN, y), f"{query.aside}:", QUIET, _font(BODY, bold=True))
        y += ASIDE
    for moment in query.nearest:
        _draw_moment(sheet, moment, y)
        y += ROW


def _draw_moment(sheet: Image.Image, view: MomentView, top: int) -> None:
    for i, shot in enumerate(view.strip):
        _draw_shot(sheet, shot, MARGIN + i * (SHOT[0] + GAP), top)
    pen, width = ImageDraw.Draw(sheet), WIDTH - MARGIN - TEXT
    name = _shortened(f"{view.moment.rank}. {view.name}", BODY, width, bold=True)
    _write(pen, (TEXT, top), name, INK, BODY, bold=True)
    pen.text((TEXT, top + 26), f"{view.window}   ({view.length})", INK, _font(BODY))
    words = f"{view.sureness}, score {view.moment.score:.3f}" if view.problem is None else view.problem
    colour = QUIET if view.problem is None else BAD
    _write(pen, (TEXT, top + 51), _shortened(words, SMALL, width), colour, SMALL)
    _draw_timeline(pen, view, (TEXT, top + 76, WIDTH - MARGIN, top + SHOT[1] - 18))
    pen.text((TEXT, top + SHOT[1] - 16), "0:00", QUIET, _font(SMALL - 3))
    pen.text((WIDTH - MARGIN, top + SHOT[1] - 16), view.duration, QUIET, _font(SMALL - 3), anchor="ra")


def _draw_shot(sheet: Image.Image, shot: Shot, left: int, top: int) -> None:
    pen, box = ImageDraw.Draw(sheet), (left, top, left + SHOT[0] - 1, top + SHOT[1] - 1)
    if shot.jpeg is None:
        pen.rectangle(box, BAR)
        pen.text((left + SHOT[0] / 2, top + SHOT[1] / 2), "no picture", QUIET, _font(SMALL), anchor="mm")
        return
    pen.rectangle(box, "black")
    picture = Image.open(io.BytesIO(shot.jpeg))
    picture.thumbnail(SHOT)
    sheet.paste(picture, (left + (SHOT[0] - picture.width) // 2, top + (SHOT[1] - picture.height) // 2))
    width = _font(SMALL - 2).getlength(shot.label) + 10
    pen.rectangle((box[2] - width - 3, box[3] - 21, box[2] - 3, box[3] - 3), "black")
    pen.text((box[2] - 8, box[3] - 5), shot.label, "white", _font(SMALL - 2), anchor="rd")


def _draw_timeline(pen: ImageDraw.ImageDraw, view: MomentView, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    pen.rectangle(box, BAR)
    for colours, windows in ((OTHER, view.timeline.others), (OWN, (view.timeline.own,))):
        for begin, end in windows:
            for colour, above in zip(colours, (top, bottom - 5), strict=True):
                start = left + begin * wide
                pen.rectangle((start, above, max(left + end * wide, start + 2), bottom), colour)
    points = [(left + x * wide, bottom - 3 - y * (tall - 6)) for x, y in view.timeline.curve]
    if len(points) > 1:
        pen.line(points, CURVE, width=2, joint="curve")


@cache
def _loaded(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return _loaded(font_file("a", bold), size)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: str, size: int, bold: bool = False
) -> None:
    """Draw a line of letters of any scripts, all on the base line that the usual font has there."""
    x, y = place[0], place[1] + _font(size, bold).getmetrics()[0]
    for font, part in _parts(text, size, bold):
        pen.text((x, y), part, colour, font, anchor="ls")
        x += font.getlength(part)


def _parts(text: str, size: int, bold: bool) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
    """Yield the stretches of a text that one font can draw."""
    for file, letters in groupby(text, lambda letter: font_file(letter, bold)):
        yield _loaded(file, size), "".join(letters)


def _length(text: str, size: int, bold: bool) -> float:
    return sum(font.getlength(part) for font, part in _parts(text, size, bold))


def _shortened(text: str, size: int, width: int, bold: bool = False) -> str:
    """Return one line of text, its end left out where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if len(text) <= 300 and _length(text, size, bold) <= width:
        return text
    text = text[:300]
    while text and _length(text + "…", size, bold) > width:
        text = text[:-1]
    return text + "…"


def _wrapped(text: str, size: int, width: int, bold: bool = False) -> list[str]:
    """Return text in at most two lines of `width` pixels."""
    words, first = text.split(), ""
    while words and _length(f"{first} {words[0][:300]}".strip(), size, bold) <= width:
        first = f"{first} {words.pop(0)}".strip()
    rest = _shortened(" ".join(words), size, width, bold) if words else ""
    return [line for line in (first, rest) if line]
