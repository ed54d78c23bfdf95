"""What is asked of an index and what it answers, whichever backend does the searching."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from momentret.search.index.filters import Filter
from momentret.search.index.first_stage import Level
from momentret.search.index.proposals import FirstStage
from momentret.search.index.settings import Video

__all__ = ["LENGTHS", "Hit", "SearchOptions", "SearchResult", "unit_tokens"]

LENGTHS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64)
"""Window lengths in clips that are scored by default: all up to 16, then ever fewer."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A found moment."""

    video: Video
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    score: float
    """In [-2, 2], higher is better: the sum of the two parts below."""
    to_video: float
    """Mean over the tokens of their best clip's similarity."""
    to_language: float
    """Mean over the clips of their best token's similarity."""

    @property
    def cost(self) -> float:
        """Return the symmetric squared Chamfer cost, in [0, 8]."""
        return 4 - 2 * self.score


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search.

    Raises:
        ValueError: an option is out of range.
    """

    top: int = 10
    """How many moments."""
    candidates: int | None = None
    """Chapters that the first stage hands to exact scoring, at least `top`; by default 3 times that, or 100."""
    exact: bool | Literal["certified"] = False
    """Score everything, or everything that could still matter (``"certified"``)."""
    level: Level = "moment"
    """``"video"`` scores each video as one window."""
    lengths: tuple[int, ...] = LENGTHS
    """Window lengths in clips, ascending."""
    overlap: float = 0.7
    """Of two windows of a video whose intersection over union exceeds this, the better one stays."""
    per_video: int = 3
    """Moments of one video, at most."""
    where: Filter = field(default_factory=Filter)
    """Which videos to look at."""
    first_stage: FirstStage = "pooled"
    """``"pooled"`` looks at every chapter; ``"outlined"`` at its outline first, faster and a little less sure, as is
    done with 200,000 chapters anyway; the others let FAISS propose chapters."""
    proof_limit: int | None = None
    """Videos that a certified search scores at the most before it gives up the proof."""
    device: str = "cpu"
    """Where the first stage looks at every chapter: ``"cpu"``, or torch's name of a GPU, such as ``"cuda"``."""

    def __post_init__(self) -> None:
        candidates = self.top if self.candidates is None else self.candidates
        if min(self.top, candidates, self.per_video) < 1:
            raise ValueError("top, candidates and per_video must be at least 1")
        if not self.lengths or self.lengths[0] < 1 or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths {self.lengths} must be ascending whole numbers of clips, at least 1")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap {self.overlap} is not in [0, 1]")
        if self.level not in ("moment", "video") or self.exact not in (False, True, "certified"):
            raise ValueError(f"level {self.level!r} or exact {self.exact!r} is not known")
        if self.first_stage not in get_args(FirstStage):
            raise ValueError(f"first_stage {self.first_stage!r} is not one of {', '.join(get_args(FirstStage))}")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, and how thoroughly."""

    hits: tuple[Hit, ...]
    """Best first; ties by video id, then by time."""
    videos: int
    """Videos that passed the filter."""
    scored: int
    """Videos of which windows were scored exactly."""
    certified: bool
    """No better moment exists among the vectors as they are kept."""


def unit_tokens(tokens: np.ndarray, sentence: np.ndarray | None, dim: int) -> np.ndarray:
    """Return the query as unit rows ``(T, D)``; a sentence vector joins as one more token.

    Raises:
        ValueError: there is no token, the width is not that of the index, or a row is zero or not finite.
    """
    rows = np.atleast_2d(tokens) if sentence is None else np.vstack([np.atleast_2d(tokens), sentence])
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != dim:
        raise ValueError(f"the query has shape {np.shape(tokens)}, but the index holds vectors of {dim} numbers")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("a token of the query is zero or not finite")
    return np.ascontiguousarray(rows / norms, dtype=np.float32)
