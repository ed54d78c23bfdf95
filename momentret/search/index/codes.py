"""Vectors as integers with one scale a row. The scale is kept as the row's peak, rounded up to float16."""

from __future__ import annotations

import numpy as np

__all__ = ["decode", "encode", "peak_scale", "up_to_float16"]


def up_to_float16(values: np.ndarray) -> np.ndarray:
    """Return the smallest float16 that is not below each value."""
    half = values.astype(np.float16)
    return np.where(half < values, np.nextafter(half, np.float16(np.inf)), half)


def encode(rows: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes ``(N, D)`` and the peaks ``(N,)`` float16 of `rows` ``(N, D)``; float32 is kept as it is."""
    peaks = up_to_float16(np.abs(rows).max(1, initial=0.0))
    if dtype == "float32":
        return rows.astype(np.float32), peaks
    scale = peak_scale(peaks, np.dtype(dtype))[:, None]
    return np.rint(np.divide(rows, scale, out=np.zeros_like(rows), where=scale > 0)).astype(dtype), peaks


def peak_scale(peaks: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the factor ``(N,)`` float32 that turns codes back into values."""
    if dtype.kind == "f":
        return np.ones(len(peaks), dtype=np.float32)
    return peaks.astype(np.float32) / np.float32(np.iinfo(dtype).max)


def decode(codes: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Return the values ``(N, D)`` float32."""
    return codes.astype(np.float32) * peak_scale(peaks, codes.dtype)[:, None]
