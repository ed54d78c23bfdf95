"""What the machine gives a process, and how the process keeps it."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["available_cores", "keep_freed_memory"]

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
