"""Which font draws which letter, with a machine's fonts made up of those that matplotlib carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from momentret.plots import fonts
from momentret.plots.fonts import font_families, font_file
from momentret.plots.hubness import plot_hubness
from momentret.report import Pictures
from momentret.report.sheet import draw_sheet
from momentret.report.view import view_answers

from ..answering import answer

FOLDER = Path(matplotlib.get_data_path(), "fonts", "ttf")
REGULAR, BOLD = FOLDER / "STIXGeneral.ttf", FOLDER / "STIXGeneralBol.ttf"
RARE, UNKNOWN = "Ⓐ", "猫"  # DejaVu Sans has neither, STIXGeneral has the first


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A function that gives the machine such fonts and no others."""

    def only(*files: Path) -> None:
        monkeypatch.setattr(fonts.font_manager, "findSystemFonts", lambda: [str(file) for file in files])
        fonts.font_file.cache_clear()
        fonts._installed.cache_clear()

    yield only
    only()


@pytest.mark.parametrize(
    ("letter", "regular", "bold"),
    [
        ("a", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
        ("ع", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
        (RARE, "STIXGeneral.ttf", "STIXGeneralBol.ttf"),
        (UNKNOWN, "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    ],
)
def test_an_installed_font_draws_what_the_own_one_cannot(
    install: Callable[..., None], tmp_path: Path, letter: str, regular: str, bold: str
) -> None:
    (tmp_path / "broken.ttf").write_text("no font")
    install(tmp_path / "broken.ttf", tmp_path / "gone.ttf", FOLDER / "STIXGeneralItalic.ttf", BOLD, REGULAR)
    assert (font_file(letter).name, font_file(letter, bold=True).name) == (regular, bold)


def sheet_with(letter: str) -> np.ndarray:
    found = answer([(Path("film.mp4"), 0.5, 1.0)], f"a {letter} b")
    return np.asarray(draw_sheet(view_answers([found], Pictures())))


def plot_with(letter: str, folder: Path) -> bytes:
    plot_hubness(folder / "hubs.png", {"raw": np.arange(2)}, 1, 1, ["film", letter])
    return (folder / "hubs.png").read_bytes()


@pytest.mark.parametrize(("letter", "known"), [(RARE, True), (UNKNOWN, False)])
def test_pictures_are_drawn_with_it_and_with_a_box_otherwise(
    install: Callable[..., None], tmp_path: Path, letter: str, known: bool
) -> None:
    install()
    sheet, plot = sheet_with(letter), plot_with(letter, tmp_path)
    install(BOLD, REGULAR)
    assert font_families(f"a {letter}") == ["DejaVu Sans", "STIXGeneral"][: 1 + known]
    assert np.array_equal(sheet, sheet_with(letter)) != known
    assert (plot == plot_with(letter, tmp_path)) != known
