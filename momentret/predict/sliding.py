"""Videos longer than a model sees at once: where to look, and how to join what was seen.

Pure NumPy, no model: overlapping *views* of a video are laid out, and their proposals and saliency are merged into one
ranking and one curve. Views overlap by half, so a moment of at most half a view lies whole in at least one.
"""

from __future__ import annotations

import numpy as np

__all__ = ["blend_saliency", "merge_proposals", "view_starts"]

CUT_WEIGHT = 0.5  # a proposal that a view's border cuts off yields to a whole one unless it scores twice as much
SAME_MOMENT = 0.5  # overlap above which proposals of different views are one moment
CANDIDATES = 1000  # proposals considered, best first: far more than anyone reads


def view_starts(clips: int, size: int) -> np.ndarray:
    """Return the first clip of each view ``(V,)``: half a view apart, the last one ends with the video.

    Example:
        >>> view_starts(200, 75).tolist()
        [0, 37, 74, 111, 125]
    """
    if clips <= size:
        return np.zeros(1, dtype=int)
    starts = np.arange(0, clips - size, max(1, size // 2))
    return np.append(starts, clips - size)


def blend_saliency(saliency: np.ndarray, starts: np.ndarray, clips: int) -> np.ndarray:
    """Return one curve ``(L,)`` from the curves of the views ``(V, size)``.

    Where views overlap, each counts by its distance to its own nearest border, so that no seam shows.
    """
    size = saliency.shape[1]
    weight = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(float)
    total, weights = np.zeros(clips), np.zeros(clips)
    for start, curve in zip(starts, saliency, strict=True):
        total[start : start + size] += weight * curve
        weights[start : start + size] += weight
    return total / weights


def merge_proposals(
    windows: np.ndarray, scores: np.ndarray, views: np.ndarray, *, tolerance: float, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the proposals of overlapping views into one list, best first.

    A moment that runs through a whole overlap is seen as two halves: they are joined. A moment that one view sees
    whole and its neighbour cut off is kept once, whole. What two views both see whole is kept once.

    Args:
        windows: ``(V, S, 2)`` in seconds of the video.
        scores: ``(V, S)``, higher is better.
        views: ``(V, 2)`` start and end of each view, in seconds, in order.
        tolerance: a proposal that comes this close (seconds) to a view's border is taken to be cut off by it.
        top: how many to return at the most.

    Returns:
        Windows ``(K, 2)`` and scores ``(K,)`` with ``K <= top``.
    """
    low, high = views[:, None, 0], views[:, None, 1]
    windows = np.clip(windows, low[..., None], high[..., None])
    cut = np.stack((windows[..., 0] <= low + tolerance, windows[..., 1] >= high - tolerance), axis=-1)
    cut[0, :, 0] = cut[-1, :, 1] = False  # the video's own borders cut nothing
    found = _Proposals(windows, scores.astype(float), cut, np.repeat(np.arange(len(views)), scores.shape[1]))
    for left in range(len(views) - 1):
        _join_halves(found, left, views[left + 1, 0] + tolerance, views[left, 1] - tolerance)
    return _best(found, top)


class _Proposals:
    """The proposals of all views; ``cut`` says for each end whether a border of its view cut it off."""

    def __init__(self, windows: np.ndarray, scores: np.ndarray, cut: np.ndarray, owner: np.ndarray) -> None:
        self.windows, self.scores, self.cut = windows, scores, cut  # (V, S, 2), (V, S), (V, S, 2)
        self.owner = owner.reshape(scores.shape).copy()  # what a proposal may not suppress: its own view's


def _join_halves(found: _Proposals, left: int, begin: float, end: float) -> None:
    """Join, in place, the halves of moments that run through the overlap ``[begin, end]`` of a view and the next one.

    The joined moment takes the right half's place, so that it can be continued; the left half's score becomes -inf.
    """
    windows, scores, cut, right = found.windows, found.scores, found.cut, left + 1
    firsts = np.flatnonzero(cut[left, :, 1] & (windows[left, :, 0] <= begin) & np.isfinite(scores[left]))
    seconds = list(np.flatnonzero(cut[right, :, 0] & (windows[right, :, 1] >= end)))
    for first in firsts[np.argsort(-scores[left, firsts], kind="stable")]:
        alike = [second for second in seconds if _alike(scores[left, first], scores[right, second])]
        if not alike:
            continue
        second = max(alike, key=lambda place: scores[right, place])
        seconds.remove(second)
        lengths = np.diff([windows[left, first], windows[right, second]])[:, 0]
        scores[right, second] = np.average([scores[left, first], scores[right, second]], weights=lengths)
        windows[right, second, 0], cut[right, second, 0] = windows[left, first, 0], cut[left, first, 0]
        found.owner[right, second] = -1 - scores.shape[1] * right - second  # its own: halves of both views yield to it
        scores[left, first] = -np.inf


def _alike(a: float, b: float) -> bool:
    return bool(min(a, b) >= CUT_WEIGHT * max(a, b))


def _best(found: _Proposals, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows and scores that survive suppression across views, best first."""
    windows, scores = found.windows.reshape(-1, 2), found.scores.reshape(-1)
    cut, owner = found.cut.any(axis=-1).reshape(-1), found.owner.reshape(-1)
    order = np.argsort(-scores * np.where(cut, CUT_WEIGHT, 1.0), kind="stable")
    order = order[np.isfinite(scores[order])][:CANDIDATES]
    kept: list[int] = []
    while len(order) and len(kept) < top:
        best, order = order[0], order[1:]
        kept.append(int(best))
        same = _share(windows[order], cut[order], windows[best]) > SAME_MOMENT
        order = order[~same | (owner[order] == owner[best])]
    ranking = sorted(kept, key=lambda place: -scores[place])
    return windows[ranking], scores[ranking]


def _share(windows: np.ndarray, cut: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return how much ``(N,)`` of each window is the same as `best`: IoU, or share of itself if it was cut off."""
    length = windows[:, 1] - windows[:, 0]
    overlap = np.clip(np.minimum(windows[:, 1], best[1]) - np.maximum(windows[:, 0], best[0]), 0, None)
    whole = np.where(cut, length, length + (best[1] - best[0]) - overlap)
    return overlap / np.maximum(whole, 1e-9)
