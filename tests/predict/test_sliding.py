"""Views of a long video and how what they saw is merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentret.predict.sliding import blend_saliency, merge_proposals, view_starts

SIZE, CLIPS, LENGTH = 20, 90, 2.0  # clips a view, clips of the video, seconds a clip
STARTS = view_starts(CLIPS, SIZE)
VIEWS = np.stack((STARTS, STARTS + SIZE), axis=1) * LENGTH


def proposals(moments: list[tuple[float, float]], slots: int = 4, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return what a model that finds everything would propose in every view; other slots are unsure and empty."""
    random = np.random.default_rng(0)
    windows, scores = np.zeros((len(VIEWS), slots, 2)), np.full((len(VIEWS), slots), 0.01)
    windows += VIEWS[:, None, :1]
    for i, (low, high) in enumerate(VIEWS):
        seen = [(max(s, low), min(e, high)) for s, e in moments if min(e, high) - max(s, low) >= LENGTH]
        for slot, (start, end) in enumerate(seen):
            windows[i, slot] = np.array([start, end]) + random.uniform(-noise, noise, 2)
            scores[i, slot] = 0.9 - random.uniform(0, 0.05)
    return windows, scores


def found(moments: list[tuple[float, float]], noise: float = 0.0) -> list[tuple[float, float]]:
    windows, scores = merge_proposals(*proposals(moments, noise=noise), VIEWS, tolerance=LENGTH, top=50)
    assert (np.diff(scores) <= 0).all(), "best first"
    return sorted((float(s), float(e)) for (s, e), score in zip(windows, scores, strict=True) if score > 0.5)


@given(st.integers(1, 400), st.integers(1, 80))
def test_views_cover_every_clip_and_never_leave_the_video(clips: int, size: int) -> None:
    starts = view_starts(clips, size)
    seen = np.zeros(clips, dtype=bool)
    for start in starts:
        seen[start : start + size] = True
    assert seen.all()
    assert starts[-1] + min(size, clips) == clips
    assert (np.diff(starts) > 0).all()


@pytest.mark.parametrize("start", np.arange(0, 160, 3).tolist())
@pytest.mark.parametrize("width", [4, 8, 14])
def test_a_short_moment_is_found_once_wherever_the_seams_are(start: float, width: float) -> None:
    assert found([(start, start + width)]) == [(start, start + width)]


@pytest.mark.parametrize("moment", [(10.0, 40.0), (30.0, 90.0), (0.0, 180.0), (35.0, 175.0), (16.0, 58.0)])
def test_a_moment_longer_than_the_overlap_is_not_split(moment: tuple[float, float]) -> None:
    assert found([moment]) == [moment]


def test_neighbouring_moments_stay_apart() -> None:
    moments = [(16.0, 22.0), (26.0, 34.0), (38.0, 44.0), (120.0, 126.0)]
    assert found(moments) == moments


@pytest.mark.parametrize("moment", [(10.0, 40.0), (36.0, 46.0), (30.0, 90.0)])
def test_unsure_borders_do_not_double_a_moment(moment: tuple[float, float]) -> None:
    ((start, end),) = found([moment], noise=1.0)
    assert abs(start - moment[0]) <= 1
    assert abs(end - moment[1]) <= 1


def test_at_most_top_are_returned_the_best_ones() -> None:
    windows, scores = proposals([(16.0, 22.0), (120.0, 126.0)])
    kept, values = merge_proposals(windows, scores, VIEWS, tolerance=LENGTH, top=1)
    assert kept.shape == (1, 2)
    assert values[0] == pytest.approx(scores.max(), abs=0.05)


def test_one_curve_comes_back_from_views_of_it() -> None:
    curve = np.sin(np.arange(CLIPS) / 7)
    views = np.stack([curve[s : s + SIZE] for s in STARTS])
    np.testing.assert_allclose(blend_saliency(views, STARTS, CLIPS), curve, atol=1e-12)


def test_a_seam_does_not_show_in_the_curve() -> None:
    views = np.arange(len(STARTS))[:, None] * np.ones(SIZE)  # every view has its own level
    assert np.abs(np.diff(blend_saliency(views, STARTS, CLIPS))).max() < 0.5
