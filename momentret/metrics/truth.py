"""Ground truth as padded arrays: built once, then scored against any number of submissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from momentret.errors import AnnotationError
from momentret.metrics.moments import pack
from momentret.metrics.rules import Rules
from momentret.records import Annotation
from momentret.words import count_of

__all__ = ["GroundTruth"]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What is true about Q queries. Shapes: G true windows, L clips, A annotators."""

    rules: Rules
    annotations: Sequence[Annotation]
    durations: np.ndarray
    """``(Q,)`` seconds."""
    windows: np.ndarray
    """``(Q, G, 2)`` seconds."""
    windows_valid: np.ndarray
    """``(Q, G)``."""
    clips: np.ndarray | None
    """``(Q,)``: how many clips have a label; None where nothing is scored by clip."""

    @classmethod
    def of(cls, annotations: Sequence[Annotation], rules: Rules) -> GroundTruth:
        """Collect `annotations`.

        Raises:
            AnnotationError: there are none, one comes twice, or one lacks what `rules` score.
        """
        if not annotations:
            raise AnnotationError("the ground truth holds no queries; nothing can be scored")
        _refuse_duplicates(annotations)
        flat = np.array([w for a in annotations for w in a.windows], float).reshape(-1, 2)
        windows, valid = pack(flat, np.array([len(a.windows) for a in annotations]))
        for annotation in annotations:
            _refuse_hidden(annotation, rules)
        return cls(
            rules=rules,
            annotations=annotations,
            durations=np.array([a.duration for a in annotations], float),
            windows=windows,
            windows_valid=valid,
            clips=np.array([_count_clips(a, rules) for a in annotations]) if rules.has_highlights else None,
        )

    @property
    def clips_valid(self) -> np.ndarray:
        """``(Q, L)``, False for padding."""
        assert self.clips is not None
        return np.arange(self.clips.max()) < self.clips[:, None]

    def saliency(self) -> np.ndarray:
        """Return the annotator scores ``(Q, L, A)``, 0 for clips outside the true windows."""
        annotators = max((len(s) for a in self.annotations for s in a.saliency or ()), default=1)
        scores = np.zeros((*self.clips_valid.shape, annotators))
        for row, annotation in zip(scores, self.annotations, strict=True):
            if annotation.relevant_clips:
                row[list(annotation.relevant_clips)] = annotation.saliency
        return scores


def _refuse_duplicates(annotations: Sequence[Annotation]) -> None:
    seen: set[str] = set()
    for annotation in annotations:
        if str(annotation.query_id) in seen:
            raise AnnotationError(f"query {annotation.query_id!r} comes twice in the ground truth; remove one")
        seen.add(str(annotation.query_id))


def _refuse_hidden(annotation: Annotation, rules: Rules) -> None:
    """Raise if the labels that `rules` score are hidden or damaged."""
    name = f"query {annotation.query_id!r} of the ground truth"
    if rules.ranges and not annotation.windows:
        raise AnnotationError(f"{name} has no windows; is this the hidden test split? give the file with labels")
    if rules.domain_metric and not (annotation.clip_labels and annotation.domain):
        raise AnnotationError(f"{name} has no clip labels or no domain; give the file with labels")
    if rules.levels:
        clips = _count_clips(annotation, rules)
        if any(not 0 <= clip < clips for clip in annotation.relevant_clips or ()):
            raise AnnotationError(f"{name} has relevant clips outside its {count_of(clips, 'clip')}; repair the file")
        if len({len(scores) for scores in annotation.saliency or ()}) > 1:
            raise AnnotationError(f"{name} has clips with different numbers of annotators; repair the file")


def _count_clips(annotation: Annotation, rules: Rules) -> int:
    if rules.domain_metric:
        return len(annotation.clip_labels or ())
    return int(annotation.duration / rules.clip_length)
