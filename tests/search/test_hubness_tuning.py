from __future__ import annotations

import numpy as np
import pytest

from momentret.errors import ConfigError, DataError
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import ranks, retrieval_metrics
from momentret.search.hubness.simulation import WORLDS, World
from momentret.search.hubness.tuning import grid, tune, tune_unpaired
from tests.search.hubness_helpers import diagonal, matrices


@pytest.fixture(scope="module")
def validation() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return matrices(150, 600)


@pytest.mark.parametrize("method", ["auto", "is", "gis", "dualdis", "nnn", "csls", "bank-sinkhorn", "gc"])
def test_the_choice_is_the_least_correction_near_the_best(method: str, validation) -> None:
    S, P, R = validation
    result = tune(S, P, diagonal(150), method, R)
    raw = retrieval_metrics(ranks(S, diagonal(150)))["R1"]
    assert raw == result.trials[0].R1
    assert max(trial.R1 for trial in result.trials) == result.best.R1
    assert raw <= result.chosen.R1 <= result.best.R1
    assert result.chosen.correction <= result.best.correction
    hub = HubnessNormaliser(result.config).fit(P, R)
    again = retrieval_metrics(ranks(hub.transform(S), diagonal(150)))["R1"]
    assert again == pytest.approx(result.chosen.R1)


def test_a_bank_of_noise_is_tuned_away() -> None:
    S, _, _ = matrices(150, 50)
    noise = np.random.default_rng(0).standard_normal((50, 150)).astype(np.float32)
    assert tune(S, noise, diagonal(150), "is").chosen.correction == 0


def test_without_pairs_the_skewness_of_held_out_bank_queries_decides(validation) -> None:
    _, P, _ = validation
    result = tune_unpaired(P)
    assert abs(result.best.skewness) == min(abs(trial.skewness) for trial in result.trials)
    assert result.config.shrink is None
    with pytest.raises(DataError, match="at least 20"):
        tune_unpaired(P[:19])


def test_held_out_rows_are_not_those_at_the_top_of_a_sorted_bank(validation) -> None:
    bank = validation[1].copy()
    bank[: len(bank) // 10] = bank[0]  # these alone would find the same ten of 150 items: a skewness of 3.5
    assert tune_unpaired(bank).best.skewness < 3


@pytest.mark.parametrize("method", ["dsl", "sn", "dbsn"])
def test_methods_that_cannot_be_tuned_say_so(method: str) -> None:
    with pytest.raises(ConfigError, match="cannot be tuned"):
        grid(method)


def test_defaults_and_tuning_gain_in_a_clip_like_world() -> None:
    random = np.random.default_rng(3)
    world = World(WORLDS["clip-like"], 2)
    (bank, _), test, held = (world.pairs(n, random) for n in (4000, 600, 600))
    pairs = diagonal(600)

    def score(text: np.ndarray, video: np.ndarray, hub: HubnessNormaliser | None) -> float:
        S = text @ video.T
        return retrieval_metrics(ranks(S if hub is None else hub.fit(bank @ video.T).transform(S), pairs))["R1"]

    raw, automatic = score(*test, None), score(*test, HubnessNormaliser())
    assert automatic >= raw + 6
    result = tune(held[0] @ held[1].T, bank @ held[1].T, pairs, "is")
    best = max(score(*test, HubnessNormaliser(trial.config)) for trial in result.trials[1:])
    assert score(*test, HubnessNormaliser(result.config)) >= best - 2  # 600 queries: a point is six of them
