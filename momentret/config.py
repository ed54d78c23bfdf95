"""Small config values that several rooms share. Parsing files and flags is jsonargparse's job (`training`)."""

from __future__ import annotations

from difflib import get_close_matches

from momentret.errors import ConfigError

__all__ = ["find_device", "nearest"]


def find_device(name: str) -> str:
    """Return ``cpu`` or ``cuda``: what a name stands for on this machine, ``auto`` being a GPU where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {name!r} is unknown{nearest(name, ['auto', 'cpu', 'cuda'])}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device 'cuda' is not there: torch sees no GPU; use 'auto' or 'cpu'")
    return "cuda" if there and name != "cpu" else "cpu"


def nearest(name: str, known: list[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known name, or the list of all if none is close.

    Example:
        >>> nearest("qvhighlight", ["qvhighlights", "tvsum"])
        ", did you mean 'qvhighlights'?"
    """
    matches = get_close_matches(name, known, n=1)
    return f", did you mean {matches[0]!r}?" if matches else f"; known: {', '.join(sorted(known))}"
