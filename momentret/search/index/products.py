"""Products of tokens with vectors kept as bytes, in integers: exact, so the same bits in any batch and on any machine.

A token is written with one digit of a byte, or with two, which lose no more than float32 sums do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

__all__ = ["digits", "join_digits", "products"]

_BASE = 255
"""Of the digits, which are -127 to 127."""
_EXACT_WIDTH = 1_024
"""Products of bytes that float32 adds up without rounding: 1,024 * 128 * 127 < 2 ** 24."""
_CHUNK = 512
"""Rows widened at a time: 1 MB as float32, so they stay in the cache."""
Multiply = Callable[[np.ndarray, np.ndarray], np.ndarray]


def digits(tokens: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Write each token as ``step * digit``, or as ``step * (255 * high + low)``.

    Args:
        tokens: ``(T, D)`` float32.
        count: of digits, 1 or 2.

    Returns:
        The digits ``(count, T, D)`` int8, high ones first, and the steps ``(T, 1)`` float32.
    """
    units = 127 * _BASE ** (count - 1)
    step = np.abs(tokens).max(1, keepdims=True, initial=0.0).astype(np.float32) / np.float32(units)
    low = np.rint(np.divide(tokens, step, out=np.zeros_like(tokens), where=step > 0))
    if count == 1:
        return low[None].astype(np.int8), step
    high = np.rint(low / np.float32(_BASE))
    return np.stack([high, low - _BASE * high]).astype(np.int8), step


def join_digits(product: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the products ``(T, P)`` float32 of tokens, given those of their digits ``(count, T, P)``."""
    joined = product[0].astype(np.float32)
    for lower in product[1:]:
        joined *= np.float32(_BASE)
        joined += lower
    joined *= step
    return joined


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return ``left @ right.T`` ``(M, P)`` int32, exactly, of int8 rows ``(M, K)`` and ``(P, K)``."""
    return _multiply()(left, right)


@lru_cache(maxsize=1)
def _multiply() -> Multiply:
    """Choose torch's kernel where the processor adds byte products without saturating, else floats."""
    import torch

    supported = (getattr(torch.cpu, name, bool)() for name in ("_is_vnni_supported", "_is_amx_tile_supported"))
    return _by_torch if any(supported) and hasattr(torch, "_int_mm") else _by_floats


def _by_torch(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    import torch

    return torch._int_mm(torch.from_numpy(left), torch.from_numpy(right).T).numpy()


def _by_floats(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    out = np.empty((len(left), len(right)), dtype=np.int32)
    wide = left.astype(np.float32)
    for begin in range(0, len(right), _CHUNK):
        rows = right[begin : begin + _CHUNK].astype(np.float32).T
        parts = range(0, len(rows), _EXACT_WIDTH)
        out[:, begin : begin + _CHUNK] = sum(
            (wide[:, k : k + _EXACT_WIDTH] @ rows[k : k + _EXACT_WIDTH]).astype(np.int32) for k in parts
        )
    return out
