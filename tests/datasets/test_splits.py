from __future__ import annotations

import pytest

from momentret.datasets.splits import hold_out
from momentret.errors import AnnotationError
from momentret.records import Annotation


def queries(videos: int, each: int = 2) -> list[Annotation]:
    return [Annotation(i, f"v{i % videos}", "q", 10.0) for i in range(videos * each)]


def test_whole_videos_are_held_out_and_nothing_is_lost() -> None:
    annotations = queries(500)
    train, held_out = hold_out(annotations)
    assert not {a.video_id for a in train} & {a.video_id for a in held_out}
    assert sorted([*train, *held_out], key=lambda a: int(a.query_id)) == annotations
    assert all(len([a for a in held_out if a.video_id == one.video_id]) == 2 for one in held_out)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_about_the_share_is_held_out(share: float) -> None:
    _, held_out = hold_out(queries(4000, 1), share)
    # four standard deviations of a binomial count
    assert abs(len(held_out) - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5


def test_the_choice_is_the_same_for_ever() -> None:
    _, held_out = hold_out(queries(100, 1))
    # the ids among v0 to v99 whose hash falls into the first tenth, written down once
    assert [a.video_id for a in held_out] == ["v57", "v60", "v63", "v65", "v88", "v90"]


def test_the_choice_of_a_video_does_not_depend_on_the_others() -> None:
    whole = {a.video_id for a in hold_out(queries(500))[1]}
    half = queries(500)[::-1][::2]
    assert {a.video_id for a in hold_out(half)[1]} == whole & {a.video_id for a in half}


def test_another_seed_is_another_choice() -> None:
    first, second = ({a.video_id for a in hold_out(queries(500), seed=seed)[1]} for seed in (0, 1))
    assert first
    assert second
    assert first != second


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        hold_out(queries(10), share)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(AnnotationError, match="holding out 10% of 1 video leaves a part empty"):
        hold_out(queries(1))
