"""How messages put things into words."""

from __future__ import annotations

__all__ = ["count_of"]


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
