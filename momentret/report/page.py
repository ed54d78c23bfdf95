"""The report as one HTML page that needs nothing else: pictures, styles and script are inside."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from momentret.files import absolute
from momentret.report.view import MomentView, QueryView, Shot, Timeline
from momentret.words import count_of

__all__ = ["render_page"]

TEMPLATES = Path(__file__).parent / "templates"
WIDE, TALL = 1000, 100  # units of the drawing of a timeline


def render_page(queries: Sequence[QueryView], folder: Path) -> str:
    """Return the HTML of a report.

    Args:
        queries: from `view_answers`.
        folder: where the page will lie; videos below it are linked relative to it, so that both can be moved together.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_url": _data_url, "area": _area, "line": _line, "command": _command}
    environment.globals |= {"link": lambda moment: _link(moment.moment.path, folder), "wide": WIDE, "tall": TALL}
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        queries=queries,
        title=queries[0].query if len(queries) == 1 else count_of(len(queries), "query"),
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _data_url(shot: Shot) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(shot.jpeg or b'').decode()}"


def _line(timeline: Timeline) -> str:
    """Return the points of the curve, y downwards."""
    return " ".join(f"{x * WIDE:.1f},{(1 - y) * TALL:.1f}" for x, y in timeline.curve)


def _area(timeline: Timeline) -> str:
    """Return the points around what lies below the curve."""
    if not timeline.curve:
        return ""
    first, last = timeline.curve[0][0] * WIDE, timeline.curve[-1][0] * WIDE
    return f"{first:.1f},{TALL} {_line(timeline)} {last:.1f},{TALL}"


def _link(path: str, folder: Path) -> str | None:
    """Return the URL of a local video, None if it is not there."""
    try:
        there = Path(path).is_file()
    except (OSError, ValueError):
        return None
    if not there:
        return None
    whole, home = absolute(path), absolute(folder)
    if os.path.commonpath([whole, home]) == home and os.name == "posix":
        return "./" + quote(os.fsencode(os.path.relpath(whole, home)))  # the dot keeps a name like "javascript:" one
    return Path(whole).as_uri()


def _command(view: MomentView) -> str | None:
    """Return what cuts the moment out, None for names that cannot be typed."""
    if view.path != view.moment.path or "\n" in view.path:
        return None
    window = f"{view.moment.start:.2f}-{view.moment.end:.2f}"
    return shlex.join(["momentret", "cut", view.path, "--window", window, "--output", "cuts/"])
