"""What a dataset is to the rest of the library: `DatasetInfo`, one value per dataset file of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from momentret.datasets.reading import Reading

__all__ = ["DatasetInfo"]


@dataclass(frozen=True)
class DatasetInfo:
    """One dataset: how its files are read and what its usual settings are."""

    name: str
    read: Callable[[Reading], None]
    """Fill a `Reading` from its file."""
    recognise: Callable[[dict[str, Any]], bool]
    """Say whether a row of a JSON-lines file comes from this dataset."""
    clip_length: float
    """Seconds per feature row in the common feature packages."""
    saliency: str
    """The labels that train saliency: ``scores`` (annotators' scores of relevant clips), ``window`` (in or out of the
    window), ``labels`` (a label for every clip)."""
    clamp: tuple[float, float] | None
    """Seconds that predicted windows are clamped to; None: they are not."""
    round_to_clips: bool
    """Round predicted windows to whole clips."""
    has_validation_split: bool
    """False where the only other split is the one that is reported: select on a held-out part of train."""
    licence: str
    """Of the annotations, in one line."""
    suffixes: tuple[str, ...] = ()
    """File name endings that only this dataset uses."""
    subsets: tuple[str, ...] = ("full",)
    """Selections of rows that the literature reports on."""
    needs_durations: bool = False
    """Some of its files lack video durations, so that duration files may be given."""
