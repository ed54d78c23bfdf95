from __future__ import annotations

import pytest

from momentret.metrics.corpus import chance, first_right
from momentret.records import Annotation

TRUTH = Annotation("1", "b", "a cat", 8.0, windows=((2.0, 4.0), (6.0, 8.0)))


@pytest.mark.parametrize(
    ("found", "rank"),
    [
        ([("b", 2.0, 4.0)], 1),
        ([("a", 2.0, 4.0), ("b", 5.0, 8.0)], 2),
        ([("b", 2.0, 8.0), ("b", 0.0, 2.0)], None),
        ([], None),
    ],
)
def test_the_rank_is_that_of_the_first_moment_that_overlaps_enough(
    found: list[tuple[str, float, float]], rank: int | None
) -> None:
    assert first_right(found, TRUTH, 0.5) == rank


def test_without_a_threshold_the_video_decides() -> None:
    assert first_right([("a", 2.0, 4.0), ("b", 0.0, 1.0)], TRUTH, 0.0) == 2


def test_chance_worked_by_hand() -> None:
    # b has windows of 1, 2, 3 and 4 clips: 4 (2 right), 3 (all IoU 1/2), 2 (IoU 1/3) and 1 (IoU 1/4)
    assert chance(TRUTH, {"b": 8.0}, 2.0, 0.5) == pytest.approx(5 / 10)
    assert chance(TRUTH, {"b": 8.0, "a": 4.0}, 2.0, 0.5) == pytest.approx(5 / 13)
    assert chance(TRUTH, {"b": 8.0}, 2.0, 0.5, longest=1) == pytest.approx(2 / 4)


def test_a_last_clip_counts_from_half_of_it() -> None:
    assert chance(TRUTH, {"b": 8.0, "a": 4.9}, 2.0, 0.5) == pytest.approx(5 / 13)
    assert chance(TRUTH, {"b": 8.0, "a": 5.1}, 2.0, 0.5) == pytest.approx(5 / 16)
