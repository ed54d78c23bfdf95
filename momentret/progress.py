"""How library code reports on a long loop without knowing who listens.

A long function takes ``progress: Progress = silent`` and loops over ``progress(items, "what", total)``.
The command line passes its bar; everything else is silent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

__all__ = ["Progress", "silent"]

T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iterable and shows how far it has come."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]: ...


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Report nothing."""
    return items
