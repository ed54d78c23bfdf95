"""Small config values that several rooms share. Parsing files and flags is jsonargparse's job (`training`)."""

from __future__ import annotations

from difflib import get_close_matches

__all__ = ["nearest"]


def nearest(name: str, known: list[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known name, or the list of all if none is close.

    Example:
        >>> nearest("qvhighlight", ["qvhighlights", "tvsum"])
        ", did you mean 'qvhighlights'?"
    """
    matches = get_close_matches(name, known, n=1)
    return f", did you mean {matches[0]!r}?" if matches else f"; known: {', '.join(sorted(known))}"
