"""Font files: the one that matplotlib carries, and for letters that it lacks those that are installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

__all__ = ["font_families", "font_file"]


@cache
def font_file(letter: str, bold: bool = False) -> Path:
    """Return the font file to draw a letter with.

    DejaVu Sans, which is always there and knows Latin, Greek, Cyrillic, Hebrew and Arabic letters; where it does not
    know the letter, the largest installed font that does, so that letters of one script come out of one font.
    """
    own = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    if _has(own, letter):
        return own
    return next((file for file in _installed(bold) if _has(file, letter)), own)


def font_families(text: str) -> list[str]:
    """Return what matplotlib calls the fonts for all the letters of a text, the one that is always there first."""
    names = ["DejaVu Sans"]
    for file in sorted({font_file(letter) for letter in text}):
        font_manager.fontManager.addfont(file)  # it may be newer than the list that matplotlib keeps
        names.append(FT2Font(str(file)).family_name)
    return list(dict.fromkeys(names))


@cache
def _installed(bold: bool) -> list[Path]:
    """Return the fonts of this machine: those of the wanted weight first, then by how many letters they have."""
    places = {}
    for file in map(Path, font_manager.findSystemFonts()):
        font = _opened(file)
        if font is not None:
            places[file] = (font.style_name != ("Bold" if bold else "Regular"), -font.num_glyphs, file)
    return sorted(places, key=lambda file: places[file])


def _has(file: Path, letter: str) -> bool:
    font = _opened(file)
    return font is not None and font.get_char_index(ord(letter)) > 0


def _opened(file: Path) -> FT2Font | None:
    """Return a font, None if the file is none that can be drawn with."""
    try:
        font = FT2Font(str(file))
    except (OSError, RuntimeError):
        return None
    return font if font.scalable else None
