"""Small config values that several rooms share. Parsing files and flags is jsonargparse's job (`training`)."""

from __future__ import annotations

from difflib import get_close_matches

from momentret.errors import ConfigError
from momentret.words import count_of

__all__ = ["find_device", "nearest", "require"]


def find_device(name: str) -> str:
    """Return torch's name of a device that is there; ``auto`` is a GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdecimal():
        raise ConfigError(f"device {name!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:1'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} is not there: torch sees no GPU; use 'auto' or 'cpu'")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not there: torch sees {count_of(torch.cuda.device_count(), 'GPU')}, counted from 0"
        )
    return name


def require(true: bool, name: str, value: object, expected: str) -> None:
    """Refuse a value of a config.

    Raises:
        ConfigError: `true` is False; the message names the key, what it is and what was expected.
    """
    if not true:
        raise ConfigError(f"{name} is {value!r}, expected {expected}")


def nearest(name: str, known: list[str], otherwise: str | None = None) -> str:
    """Return ``", did you mean 'x'?"`` for the closest known name; if none is close, `otherwise` or the list of all.

    Example:
        >>> nearest("qvhighlight", ["qvhighlights", "tvsum"])
        ", did you mean 'qvhighlights'?"
    """
    matches = get_close_matches(name, known, n=1)
    if matches:
        return f", did you mean {matches[0]!r}?"
    return f"; {otherwise or 'known: ' + ', '.join(sorted(known))}"
