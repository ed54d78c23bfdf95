"""A font file that is always there: the one matplotlib carries; it knows Latin, Greek, Cyrillic and Arabic letters."""

from __future__ import annotations

from pathlib import Path

import matplotlib

__all__ = ["font_file"]


def font_file(bold: bool = False) -> Path:
    """Return the path of DejaVu Sans as a TrueType file."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
