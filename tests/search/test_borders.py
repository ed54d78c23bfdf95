from __future__ import annotations

import numpy as np
import pytest

from momentret.search.borders import grown

SHOT = [0.1, 0.2, 0.1, 0.7, 0.8, 0.6, 0.7, 0.2, 0.1, 0.1]


@pytest.mark.parametrize("window", [(4, 4), (3, 5), (6, 6), (2, 5), (0, 9)])
def test_any_window_on_a_moment_becomes_the_moment(window: tuple[int, int]) -> None:
    assert grown(SHOT, *window) == (3, 6)


def test_a_moment_is_not_joined_with_the_next_one() -> None:
    twice = [0.1, 0.8, 0.8, 0.1, 0.1, 0.1, 0.7, 0.7, 0.1]
    assert grown(twice, 1, 1) == (1, 2)
    assert grown(twice, 6, 7) == (6, 7)


def test_a_moment_at_the_border_of_the_video_ends_there() -> None:
    assert grown(SHOT[4:], 0, 0) == (0, 2)
    assert grown(SHOT[:6], 5, 5) == (3, 5)


def test_a_video_that_fits_everywhere_is_one_moment() -> None:
    assert grown([0.5] * 8, 3, 3) == (0, 7)
    noisy = 0.5 + 0.01 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    assert grown(noisy, 2, 2) == (0, 7)


def test_one_clip_is_one_moment() -> None:
    assert grown([0.3], 0, 0) == (0, 0)


def test_it_is_the_run_around_the_peak_that_a_loop_finds() -> None:
    numbers = np.random.default_rng(0)
    for _ in range(50):
        curve = np.repeat(numbers.uniform(size=6), numbers.integers(1, 5, 6)) + numbers.normal(scale=0.01)
        first, last = sorted(numbers.integers(0, len(curve), 2).tolist())
        peak = first + int(curve[first : last + 1].argmax())
        steps = np.quantile(np.abs(np.diff(curve)), 0.25)
        limit = min(0.6 * curve[peak] + 0.4 * np.quantile(curve, 0.25), curve[peak] - 4 * steps)
        begin = end = peak
        while begin > 0 and curve[begin - 1] >= limit:
            begin -= 1
        while end + 1 < len(curve) and curve[end + 1] >= limit:
            end += 1
        assert grown(curve, first, last) == (begin, end)
