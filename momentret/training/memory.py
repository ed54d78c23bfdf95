"""What training asks of the C library's allocator."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of malloc.h
_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let the process keep what a training step frees for the next one; without glibc, do nothing.

    A tensor of some megabytes would else go back to the system at the end of each step and be fetched again, zeroed,
    page by page: some 15 ms of a CPU step. The process keeps the most that it ever had.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _BYTES)
