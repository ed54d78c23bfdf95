"""What is scored on which dataset, and what a legal submission to it looks like: one table, `DATASETS`.

No arithmetic lives here. A new dataset is one entry; nothing else asks for a dataset's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from momentret.config import nearest

__all__ = ["DATASETS", "Rules", "find_rules"]

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""IoU 0.5, 0.55 … 0.95."""
RECALL_THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))
"""IoU 0.3, 0.35 … 0.95: the grounding papers start lower."""


@dataclass(frozen=True)
class Rules:
    """How one dataset is scored."""

    clip_length: float
    """Seconds; models round their windows to it."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Name -> ``(low, high]`` in seconds of the true windows that count; ``full`` is unbounded. Empty: no moments."""
    recall_ranks: tuple[int, ...] = (1,)
    """The n of R@n."""
    recall_thresholds: tuple[float, ...] = AP_THRESHOLDS
    mean_iou: bool = False
    """Also report the mean IoU of the first window."""
    brief: tuple[str, ...] = ()
    """Keys of the headline moment metrics, as `report` spells them."""
    levels: Mapping[str, int] = field(default_factory=dict)
    """Highlight level -> the smallest annotator score that makes a clip positive. Empty: no such metric."""
    domain_metric: str | None = None
    """Highlight metric averaged over domains: a key of `highlights.DOMAIN_METRICS`."""
    fixed_end: float = 0.0
    """Seconds up to which a window is legal in any video: the reference clamps to it, not to the duration."""
    before: float = 0.0
    """How far before the video a window may start, as a share of the duration: the reference does not clamp."""
    after: float = 0.0
    """The same after the video."""
    saliency_slack: tuple[int, int] = (0, 0)
    """How many clips the saliency may differ from the labels: fewest, most."""
    facts: bool = True
    """Whether the report holds a ``data`` entry; the official QVHighlights structure has none."""
    note: str = ""
    """What a reader must know to compare the numbers."""

    @property
    def has_highlights(self) -> bool:
        """Whether saliency is scored."""
        return bool(self.levels) or self.domain_metric is not None

    def earliest_start(self, duration: np.ndarray) -> np.ndarray:
        """Return the smallest legal start in seconds, for durations of any shape."""
        return -self.before * duration - (self.clip_length if self.before else 0.0)

    def latest_end(self, duration: np.ndarray) -> np.ndarray:
        """Return the largest legal end in seconds, for durations of any shape."""
        return np.maximum(self.fixed_end, (1 + self.after) * duration + (self.clip_length if self.after else 0.0))


_FULL = {"full": (-np.inf, np.inf)}
_GROUNDING_BRIEF = (
    *(f"MR-full-R{rank}@{threshold}" for rank in (1, 5) for threshold in (0.3, 0.5, 0.7)),
    "MR-full-mIoU",
    "MR-full-mAP",
    "MR-full-mAP@0.5",
    "MR-full-mAP@0.75",
)
_R5_NOTE = "R5 counts the first five windows as submitted; suppressing near-duplicates is the model's business."


def _grounding(clip_length: float, before: float, after: float, note: str) -> Rules:
    return Rules(
        clip_length=clip_length,
        ranges=_FULL,
        recall_ranks=(1, 5),
        recall_thresholds=RECALL_THRESHOLDS,
        mean_iou=True,
        brief=_GROUNDING_BRIEF,
        before=before,
        after=after,
        note=note,
    )


DATASETS: Mapping[str, Rules] = {
    "qvhighlights": Rules(
        clip_length=2.0,
        ranges={"short": (0, 10), "middle": (10, 30), "long": (30, 150), **_FULL},
        brief=(
            *(f"MR-full-{key}" for key in ("R1@0.5", "R1@0.7", "mAP", "mAP@0.5", "mAP@0.75")),
            *(f"MR-{name}-mAP" for name in ("long", "middle", "short")),
        ),
        levels={"Fair": 2, "Good": 3, "VeryGood": 4},
        fixed_end=150.0,
        saliency_slack=(-1, 2),
        facts=False,
    ),
    "charades_sta": _grounding(1.0, 0.0, 0.5, _R5_NOTE),
    "activitynet": _grounding(2.0, 0.5, 0.5, _R5_NOTE + " Papers differ on the split: name val_1, val_2 or both."),
    "tacos": _grounding(2.0, 0.5, 0.5, _R5_NOTE),
    "tvsum": Rules(clip_length=2.0, domain_metric="top5", saliency_slack=(0, 3)),
    "youtube_highlights": Rules(clip_length=2.0, domain_metric="all", saliency_slack=(0, 3)),
}


def find_rules(dataset: str) -> Rules:
    """Return the rules of `dataset`.

    Raises:
        ValueError: there is no such dataset; the nearest name is in the message.
    """
    if dataset not in DATASETS:
        raise ValueError(f"no rules to score dataset {dataset!r}{nearest(dataset, list(DATASETS))}")
    return DATASETS[dataset]
