"""How messages put things into words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["clock", "count_of", "first_few"]


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them.

    Example:
        >>> clock(7.25), clock(62.0), clock(3723.5)
        ('0:07.2', '1:02', '1:02:03.5')
    """
    tenths = round(max(seconds, 0.0) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun in the form that fits.

    Example:
        >>> count_of(1, "moment"), count_of(2, "query"), count_of(1000, "day"), count_of(0, "index")
        ('1 moment', '2 queries', '1,000 days', '0 indexes')
    """
    if number == 1:
        return f"1 {noun}"
    stem, ending = noun, "s"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        stem, ending = noun[:-1], "ies"
    elif noun.endswith(("s", "x", "ch", "sh")):
        ending = "es"
    return f"{number:,} {stem}{ending}"


def first_few(items: Sequence[object], separator: str = ", ", most: int = 5) -> str:
    """Return the first items in one line, and dots if there are more.

    Example:
        >>> first_few("abcdefg", most=3)
        'a, b, c, ...'
    """
    return separator.join([*map(str, items[:most]), *(["..."] if len(items) > most else [])])
