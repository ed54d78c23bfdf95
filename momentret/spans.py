"""Windows and spans: conversion and overlap. Pure functions of arrays, for NumPy and torch alike.

A *window* is ``[start, end)`` in seconds, a *span* is ``(centre, width)`` as fractions of the duration; both are the
last axis of an array ``(..., 2)``. torch is used only if it is handed in, so that importing this module stays light.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import numpy as np

from momentret.errors import ConfigError

__all__ = [
    "generalised_iou",
    "hull_iou",
    "iou",
    "namespace_of",
    "non_maximum_suppression",
    "parse_window",
    "spans_to_windows",
    "windows_to_spans",
]

_CLOCK = r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)"
Array = TypeVar("Array", bound=Any)


def namespace_of(array: Any) -> Any:
    """Return the module, NumPy or torch, whose functions take `array`."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def spans_to_windows(spans: Array, duration: Any = 1.0) -> Array:
    """Convert ``(centre, width)`` fractions ``(..., 2)`` to ``(start, end)`` in the unit of `duration`.

    Nothing is clipped: a wide span near the border reaches outside ``[0, duration]``.

    Args:
        spans: ``(..., 2)``.
        duration: a number, or an array that broadcasts against ``(..., 2)``.
    """
    centre, half = spans[..., 0], 0.5 * spans[..., 1]
    return namespace_of(spans).stack((centre - half, centre + half), -1) * duration


def windows_to_spans(windows: Array, duration: Any = 1.0) -> Array:
    """Convert ``(start, end)`` ``(..., 2)`` to ``(centre, width)`` as fractions of `duration`."""
    fractions = windows / duration
    start, end = fractions[..., 0], fractions[..., 1]
    return namespace_of(windows).stack(((start + end) / 2, end - start), -1)


def _overlap(a: Array, b: Array) -> tuple[Array, Array]:
    """Intersection and hull length, each ``(..., N, M)``, of windows ``(..., N, 2)`` and ``(..., M, 2)``."""
    xp = namespace_of(a)
    a, b = a[..., :, None, :], b[..., None, :, :]
    inner = xp.minimum(a[..., 1], b[..., 1]) - xp.maximum(a[..., 0], b[..., 0])
    hull = xp.maximum(a[..., 1], b[..., 1]) - xp.minimum(a[..., 0], b[..., 0])
    return xp.clip(inner, 0, None), hull


def _union(a: Array, b: Array, intersection: Array) -> Array:
    return (a[..., 1] - a[..., 0])[..., :, None] + (b[..., 1] - b[..., 0])[..., None, :] - intersection


def _divide(numerator: Array, denominator: Array) -> Array:
    """Divide, with 0 where the denominator is 0."""
    safe = namespace_of(numerator).where(denominator == 0, 1, denominator)
    return numerator / safe


def iou(a: Array, b: Array) -> Array:
    """Return intersection over union ``(..., N, M)`` in [0, 1] of windows ``(..., N, 2)`` and ``(..., M, 2)``.

    Two windows of zero length have IoU 0.
    """
    intersection, _ = _overlap(a, b)
    return _divide(intersection, _union(a, b, intersection))


def hull_iou(a: Array, b: Array) -> Array:
    """Return intersection over hull length ``(..., N, M)``; equal to `iou` wherever the two overlap, else 0.

    Source: the reference evaluator's R1 and NMS use this form; the last digit can differ from `iou`.
    """
    return _divide(*_overlap(a, b))


def generalised_iou(a: Array, b: Array) -> Array:
    """Return the generalised IoU ``(..., N, M)`` in [-1, 1]: IoU minus the empty share of the hull.

    Source: Rezatofighi et al., CVPR 2019, in one dimension.
    """
    intersection, hull = _overlap(a, b)
    union = _union(a, b, intersection)
    return _divide(intersection, union) - _divide(hull - union, hull)


def non_maximum_suppression(windows: np.ndarray, scores: np.ndarray, threshold: float, keep: int) -> list[int]:
    """Return the positions of the windows that survive greedy suppression, best first.

    A window is dropped if its intersection over hull with a better, kept one **exceeds** `threshold`.

    Args:
        windows: ``(N, 2)`` in seconds.
        scores: ``(N,)``, higher is better; ties keep the given order.
        threshold: in [0, 1].
        keep: how many survive at the most.
    """
    order = list(np.argsort(-scores, kind="stable"))
    kept: list[int] = []
    while order and len(kept) < keep:
        best = order.pop(0)
        kept.append(int(best))
        if order:
            overlap = hull_iou(windows[[best]], windows[order])[0]
            order = [i for i, value in zip(order, overlap, strict=True) if value <= threshold]
    return kept


def parse_window(text: str) -> tuple[float, float]:
    """Return the window that ``START-END`` stands for, in seconds.

    Raises:
        ConfigError: it is not of that form, or empty.

    Example:
        >>> parse_window("59.5-1:02"), parse_window("1:00:00-1:00:02.5")
        ((59.5, 62.0), (3600.0, 3602.5))
    """
    match = re.fullmatch(rf"\s*{_CLOCK}\s*-\s*{_CLOCK}\s*", text, re.ASCII)
    if match is None:
        raise ConfigError(f"window {text!r} is not START-END in seconds or [hh:]mm:ss, such as 12.5-20 or 1:02-1:10")
    numbers = [float(part or 0) for part in match.groups()]
    start, end = (hours * 3600 + minutes * 60 + seconds for hours, minutes, seconds in (numbers[:3], numbers[3:]))
    if start >= end:
        raise ConfigError(f"window {text!r} ends {'where' if start == end else 'before'} it begins; give START-END")
    return start, end
