"""No corruption may gain: planted anywhere in a clean submission, it is refused or no strict metric rises."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from momentret.errors import PredictionError

from .examples import Row, make_random, make_truth, score_rows

Generator = np.random.Generator
Corruption = Callable[[list[Row], int, Generator], None]
NAN, INF = float("nan"), float("inf")


def change_windows(change: Callable[[list[list[float]], Generator], list[list[float]]]) -> Corruption:
    def corrupt(rows: list[Row], i: int, generator: Generator) -> None:
        rows[i]["pred_relevant_windows"] = change(rows[i]["pred_relevant_windows"], generator)

    return corrupt


def change_saliency(change: Callable[[list[float], Generator], list[float]]) -> Corruption:
    def corrupt(rows: list[Row], i: int, generator: Generator) -> None:
        rows[i]["pred_saliency_scores"] = change(rows[i]["pred_saliency_scores"], generator)

    return corrupt


def set_value(place: int | None, value: float) -> Corruption:
    """Overwrite one column (all if None) of a random window."""

    def change(windows: list[list[float]], generator: Generator) -> list[list[float]]:
        window = windows[generator.integers(len(windows))]
        window[slice(None) if place is None else slice(place, place + 1)] = [value] * (3 if place is None else 1)
        return windows

    return change_windows(change)


def insert_repeat(windows: list[list[float]], generator: Generator) -> list[list[float]]:
    i = int(generator.integers(len(windows)))
    return [*windows[: i + 1], *[list(windows[i]) for _ in range(generator.integers(1, 4))], *windows[i + 1 :]]


def overwrite_by_repeat(windows: list[list[float]], generator: Generator) -> list[list[float]]:
    i, j = sorted(generator.integers(0, len(windows), 2))
    windows[j][:2] = windows[i][:2]
    return windows


def shuffle_scores(windows: list[list[float]], generator: Generator) -> list[list[float]]:
    scores = generator.permutation([score for *_, score in windows]).tolist()
    return [[start, end, score] for (start, end, _), score in zip(windows, scores, strict=True)]


def zero_width(windows: list[list[float]], generator: Generator) -> list[list[float]]:
    window = windows[generator.integers(len(windows))]
    window[1] = window[0]
    return windows


def plant(spot: float, value: float) -> Callable[[list[float], Generator], list[float]]:
    return lambda scores, _: [value if k == int(spot * len(scores)) else score for k, score in enumerate(scores)]


def duplicate_row(rows: list[Row], i: int, generator: Generator) -> None:
    rows.insert(int(generator.integers(len(rows))), copy.deepcopy(rows[i]))


def drop_row(rows: list[Row], i: int, generator: Generator) -> None:
    del rows[i]


def rename_row(rows: list[Row], i: int, generator: Generator) -> None:
    rows[i]["qid"] = 999


def drop_key(key: str) -> Corruption:
    def corrupt(rows: list[Row], i: int, generator: Generator) -> None:
        del rows[i][key]

    return corrupt


CORRUPTIONS: dict[str, Corruption] = {
    **{
        f"{name} in column {place}": set_value(place, v)
        for name, v in (("nan", NAN), ("inf", INF))
        for place in (0, 1, 2)
    },
    "minus inf": set_value(0, -INF),
    "nan everywhere": set_value(None, NAN),
    "inf everywhere": set_value(None, INF),
    "reversed": change_windows(lambda windows, _: [[end, start, score] for start, end, score in windows]),
    "reversed to the origin": change_windows(lambda windows, _: [[end - start, 0.0, x] for start, end, x in windows]),
    "zero width": change_windows(zero_width),
    "before the video": set_value(0, -10.0),
    "after the video": set_value(1, 1000.0),
    "fractions": change_windows(lambda windows, _: [[s / 150, e / 150, x] for s, e, x in windows]),
    "milliseconds": change_windows(lambda windows, _: [[1000 * s, 1000 * e, x] for s, e, x in windows]),
    "shuffled list": change_windows(
        lambda windows, generator: [windows[k] for k in generator.permutation(len(windows))]
    ),
    "shuffled scores": change_windows(shuffle_scores),
    "reversed list": change_windows(lambda windows, _: windows[::-1]),
    "negated scores": change_windows(lambda windows, _: [[s, e, -x] for s, e, x in windows]),
    "equal scores": change_windows(lambda windows, _: [[s, e, 0.5] for s, e, _ in windows]),
    "repeated window": change_windows(insert_repeat),
    "overwritten by a repeat": change_windows(overwrite_by_repeat),
    "all the same window": change_windows(lambda windows, _: [[*windows[0][:2], x] for _, _, x in windows]),
    "list written twice": change_windows(lambda windows, _: [*windows, *copy.deepcopy(windows)]),
    "empty list": change_windows(lambda windows, _: []),
    "two numbers a window": change_windows(lambda windows, _: [window[:2] for window in windows]),
    "duplicate qid": duplicate_row,
    "missing qid": drop_row,
    "unknown qid": rename_row,
    "no windows key": drop_key("pred_relevant_windows"),
    "no saliency key": drop_key("pred_saliency_scores"),
    "nan saliency": change_saliency(plant(0.5, NAN)),
    "nan saliency first": change_saliency(plant(0.0, NAN)),
    "inf saliency": change_saliency(plant(0.3, INF)),
    "constant saliency": change_saliency(lambda scores, _: [0.0] * len(scores)),
    "half the saliency": change_saliency(lambda scores, _: scores[: len(scores) // 2]),
    # One missing clip is the exception: the reference's own output has it, so it scores as it does there.
    "saliency without two clips": change_saliency(lambda scores, _: scores[:-2]),
    "no saliency": change_saliency(lambda scores, _: []),
    "saliency with one more clip": change_saliency(lambda scores, generator: [*scores, float(generator.normal())]),
    "saliency with two more clips": change_saliency(
        lambda scores, generator: [*scores, *generator.normal(size=2).tolist()]
    ),
    "saliency twice": change_saliency(lambda scores, _: scores * 2),
}


def mean(values: np.ndarray) -> float:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else 0.0


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_refused_or_gains_nothing(name: str) -> None:
    for seed in range(4):
        truth_rows, clean = make_random(seed, queries=6)
        truth = make_truth(truth_rows)
        best = score_rows(clean, truth).headline
        generator = np.random.default_rng(seed)
        for places in (*([i] for i in range(len(clean))), list(range(len(clean)))):
            rows = copy.deepcopy(clean)
            for i in reversed(places):
                CORRUPTIONS[name](rows, i, generator)
            try:
                planted = score_rows(rows, truth).headline
            except PredictionError:
                continue
            for metric, values in planted.items():
                assert mean(values) <= mean(best[metric]) + 1e-9, f"{metric} rises, seed {seed}, {places}"


def test_the_same_corruptions_do_gain_in_legacy_mode() -> None:
    # Or the test above would prove nothing.
    gained = set()
    for name in ("shuffled list", "shuffled scores", "repeated window", "constant saliency"):
        for seed in range(40):
            truth_rows, rows = make_random(seed, queries=1)
            truth = make_truth(truth_rows)
            best = score_rows(rows, truth).headline
            CORRUPTIONS[name](rows, 0, np.random.default_rng(seed))
            planted = score_rows(rows, truth, legacy=True).headline
            if any(mean(values) > mean(best[metric]) for metric, values in planted.items()):
                gained.add(name)
    assert gained >= {"shuffled list", "shuffled scores", "constant saliency"}


DOMAIN_CORRUPTIONS = [name for name in CORRUPTIONS if "saliency" in name and "key" not in name]


@pytest.mark.parametrize("dataset", ["tvsum", "youtube_highlights"])
@pytest.mark.parametrize("name", DOMAIN_CORRUPTIONS)
def test_saliency_corruptions_gain_nothing_in_domain_metrics(name: str, dataset: str) -> None:
    generator = np.random.default_rng(7)
    truth_rows, clean = make_random(7, queries=6)
    for row in truth_rows:
        row["label"] = generator.integers(0, 2, (row["duration"] // 2, 1)).tolist()
        row["domain"] = "dog"
    truth = make_truth(truth_rows, dataset)
    best = score_rows(clean, truth).headline["mAP"].mean()
    for i in range(len(clean)):
        rows = copy.deepcopy(clean)
        CORRUPTIONS[name](rows, i, generator)
        try:
            assert score_rows(rows, truth).headline["mAP"].mean() <= best + 1e-9
        except PredictionError:
            continue
