"""Splitting annotations where a dataset has no split to select on."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from momentret.errors import AnnotationError
from momentret.records import Annotation
from momentret.words import count_of

__all__ = ["hold_out"]


def hold_out(
    annotations: Sequence[Annotation], share: float = 0.1, seed: int = 0
) -> tuple[list[Annotation], list[Annotation]]:
    """Return ``(train, held_out)``: about `share` of the videos, with all their queries, are held out.

    A hash of its id decides on each video alone, so the choice does not change with the order of the rows or with what
    other videos there are.

    Raises:
        ValueError: `share` is not in (0, 1).
        AnnotationError: there are so few videos that one of the parts is empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, expected a number between 0 and 1")
    train: list[Annotation] = []
    held_out: list[Annotation] = []
    for annotation in annotations:
        (held_out if _fraction(annotation.video_id, seed) < share else train).append(annotation)
    if not (train and held_out):
        videos = len({annotation.video_id for annotation in annotations})
        raise AnnotationError(
            f"holding out {share:.0%} of {count_of(videos, 'video')} leaves a part empty; use another share or seed"
        )
    return train, held_out


def _fraction(video_id: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the id and the seed alone."""
    digest = blake2b(f"{seed}:{video_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
