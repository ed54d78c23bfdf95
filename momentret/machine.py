"""What the machine gives a process, and how the process keeps it."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

__all__ = ["available_cores", "keep_freed_memory", "on_one_thread"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of malloc.h
_BYTES = 1 << 30


def available_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees for what it needs next; without glibc, do nothing.

    A tensor of some megabytes would else go back to the system and be fetched again, zeroed, page by page: some 15 ms
    of a training step on a CPU, up to half of what a convolutional encoder takes. The process keeps the most that it
    ever had.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _BYTES)


class _OneThreadOfBlas:
    """Holds NumPy's BLAS, whose threads the whole process shares, to one while anybody wants it so."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._limit: Any = None

    @cached_property
    def _libraries(self) -> Any:
        import numpy  # noqa: F401  what is not loaded yet is not found
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController()

    def begin(self) -> None:
        with self._lock:
            if not self._users:
                self._limit = self._libraries.limit(limits=1, user_api="blas")
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._limit.restore_original_limits()


_BLAS = _OneThreadOfBlas()


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Do what consists of thousands of small products on one core.

    Each would be over before several threads have met, and between them the others keep their cores busy waiting: with
    two, a search took four times as long and eight times the work.
    """
    import torch

    threads = torch.get_num_threads()  # of the calling thread alone
    _BLAS.begin()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _BLAS.end()
