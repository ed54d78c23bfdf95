"""What a model is trained towards: spans and saliency pairs of one annotation.

Random choices take their generator as an argument, so the targets of an epoch can be drawn again exactly.

Source: Lei, Berg, Bansal, NeurIPS 2021, and the released code for how ties, caps and missing clips are treated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from momentret.config import require
from momentret.records import Annotation, Window
from momentret.spans import windows_to_spans

__all__ = ["Pairs", "TargetConfig", "clip_range", "saliency_pairs", "span_targets"]

Pairs = tuple[list[int], list[int]]
"""Clips that should score higher, and as many that should score lower."""

SALIENCY_KINDS = ("scores", "window", "labels")


@dataclass(frozen=True)
class TargetConfig:
    """How annotations become targets."""

    max_windows: int | None = 5
    """Windows used of one query; if there are more, a random choice at every access. None: all."""
    saliency: str = "scores"
    """``scores``: from annotators' scores (QVHighlights); ``window``: inside against outside the first window
    (Charades-STA, ActivityNet, TACoS, captions); ``labels``: from labels of every clip (TVSum, YouTube Highlights)."""
    span: str = "l1"
    """``l1``: (centre, width) fractions; ``ce``: first and last clip."""

    def __post_init__(self) -> None:
        windows, kinds = self.max_windows, ", ".join(SALIENCY_KINDS)
        require(windows is None or windows >= 1, "targets.max_windows", windows, "at least 1 or null")
        require(self.saliency in SALIENCY_KINDS, "targets.saliency", self.saliency, f"one of {kinds}")
        require(self.span in ("l1", "ce"), "targets.span", self.span, "'l1' or 'ce'")


def span_targets(
    windows: Sequence[Window], clips: int, clip_length: float, config: TargetConfig, random: np.random.Generator
) -> Tensor:
    """Return the targets ``(n, 2)`` of one query: float spans, or for ``ce`` first and last clip, long.

    Spans are fractions of ``clips * clip_length`` seconds, the time that the features cover.
    """
    if config.max_windows is not None and len(windows) > config.max_windows:
        windows = [windows[i] for i in random.permutation(len(windows))[: config.max_windows]]
    if config.span == "ce":
        ranges = [clip_range(window, clips, clip_length) for window in windows]
        return torch.tensor(ranges, dtype=torch.long).reshape(-1, 2)
    rows = np.array(windows, dtype=np.float32).reshape(-1, 2)
    return torch.from_numpy(windows_to_spans(rows, clips * clip_length))


def clip_range(window: Window, clips: int, clip_length: float) -> tuple[int, int]:
    """Return the first and last clip (inclusive) of a window, both inside a video of `clips` clips."""
    last = max(0, min(int(window[1] / clip_length), clips) - 1)
    return min(int(window[0] / clip_length), last), last


def saliency_pairs(
    annotation: Annotation, clips: int, clip_length: float, config: TargetConfig, random: np.random.Generator
) -> Pairs:
    """Return the clips to rank above others, and those others: two pairs, one for ``labels``."""
    if config.saliency == "scores":
        return _pairs_from_scores(annotation, clips, random)
    if config.saliency == "labels":
        return _pair_from_labels(annotation, clips)
    return _pairs_from_window(annotation.windows[0], clips, clip_length, random)


def _pairs_from_scores(annotation: Annotation, clips: int, random: np.random.Generator) -> Pairs:
    """Return a hard pair inside the relevant clips, and an easy one: a relevant clip and one outside.

    Ties of the summed scores go to the earliest clip for the negative and the latest for the positive.
    """
    relevant = annotation.relevant_clips or ()
    sums = [sum(scores) for scores in annotation.saliency or ()]
    lowest, highest = min(sums), max(sums)
    latest = len(sums) - 1 - sums[::-1].index(highest)
    hard_positive, hard_negative = (min(relevant[i], clips - 1) for i in (latest, sums.index(lowest)))
    outside = sorted(set(range(clips)) - set(relevant))
    if not outside:
        return [hard_positive] * 2, [hard_negative] * 2
    easy_positive = min(relevant[random.integers(len(relevant))], clips - 1)
    return [hard_positive, easy_positive], [hard_negative, outside[random.integers(len(outside))]]


def _pairs_from_window(window: Window, clips: int, clip_length: float, random: np.random.Generator) -> Pairs:
    """Return two clips inside the window against two outside; a window that fills the video gives no contrast."""
    first, last = clip_range(window, clips, clip_length)
    inside = range(first, last + 1)
    outside = [*range(first), *range(last + 1, clips)]
    positive = [first, first] if len(inside) == 1 else [int(i) for i in random.choice(inside, 2, replace=False)]
    if len(outside) < 2:
        return positive, positive
    return positive, [int(i) for i in random.choice(outside, 2, replace=False)]


def _pair_from_labels(annotation: Annotation, clips: int) -> Pairs:
    """Return the clip that raters agree on most against the one they agree on least."""
    agreement = np.sum(annotation.clip_labels or (), axis=1)[:clips]
    return [int(np.argmax(agreement))], [int(np.argmin(agreement))]
