"""What can be asked: words, a picture, a clip of a video, and sums and differences of these."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from momentret.encoders import Encoder
from momentret.errors import ConfigError, DataError
from momentret.search.presence import Query
from momentret.search.presence.background import moved
from momentret.spans import parse_window

__all__ = ["combine", "parse_clip", "picture_query", "text_query"]


def text_query(encoder: Encoder, text: str) -> Query:
    """Return the vectors of a text: itself, its clauses and its noun phrases.

    Raises:
        DataError: the text is empty.
    """
    return Query(" ".join(text.split()), encoder.encode_query(text).tokens)


def picture_query(encoder: Encoder, path: Path) -> Query:
    """Return the vector of a picture.

    Raises:
        DataError: the file is no picture.
        OSError: it cannot be read.
    """
    return Query(str(path), encoder.encode_frames([_read_picture(path)]), "picture")


def _read_picture(path: Path) -> np.ndarray:
    """Return the pixels ``(height, width, 3)`` of a picture, upright."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    content = path.open("rb")
    with content, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(content) as picture:
                return _to_pixels(ImageOps.exif_transpose(picture))
        except Exception as error:  # a stranger's file makes the reader raise anything
            unknown = isinstance(error, UnidentifiedImageError)  # whose words name the reader, not the file
            reason = "it is of no known kind" if unknown else " ".join(str(error).split())[:200]
            raise DataError(f"{str(path)!r} cannot be read as a picture ({reason}); give a JPEG or PNG file") from error


def _to_pixels(picture: Any) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow would make white of all that 8 bits cannot hold
        grey = (np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)  # (height, width)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def parse_clip(text: str) -> tuple[str, float, float]:
    """Return video, start and end in seconds of ``VIDEO@START-END``; times are seconds or ``mm:ss``.

    Raises:
        ConfigError: it is not of that form.

    Example:
        >>> parse_clip("film@home.mp4@1:05-1:12.5")
        ('film@home.mp4', 65.0, 72.5)
    """
    video, separator, window = text.rpartition("@")
    if not (video and separator):
        raise ConfigError(f"{text!r} names no clip; write VIDEO@START-END, such as film.mp4@1:05-1:12.5")
    return video, *parse_window(window)


def combine(query: Query, plus: Sequence[Query] = (), minus: Sequence[Query] = ()) -> Query:
    """Return `query` moved towards some and away from others: each token plus and minus their mean directions.

    Raises:
        DataError: nothing is left, as of a query minus itself.
    """
    if not plus and not minus:
        return query
    shift = np.zeros(query.tokens.shape[1], np.float32)
    for sign, others in ((1, plus), (-1, minus)):
        for other in others:
            shift += sign * _direction(other)
    name = query.name + "".join(f" + {other.name}" for other in plus) + "".join(f" - {other.name}" for other in minus)
    found = moved(query, shift)
    if not len(found.tokens):
        raise DataError(f"nothing is left of the query {name!r}; take less away")
    return replace(found, name=name)


def _direction(query: Query) -> np.ndarray:
    """Return the unit vector of a whole query: of a text its first token, which is the text itself."""
    whole: np.ndarray = query.tokens[0] if query.kind == "text" else query.tokens.mean(0)
    return whole / max(float(np.linalg.norm(whole)), 1e-12)
