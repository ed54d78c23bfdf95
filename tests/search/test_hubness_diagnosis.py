"""k-occurrence, its statistics, ranks and metrics.

Source: golden/dbnorm.{json,npz} (see test_hubness_golden); counts and ranks exact, statistics within 1e-12.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from momentret.errors import DataError
from momentret.search.hubness import methods
from momentret.search.hubness.diagnosis import bad_occurrence, hubness_statistics, k_occurrence, worst_hubs
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import TIES, compare_ranks, ranks, retrieval_metrics
from tests.search.hubness_helpers import diagonal
from tests.search.test_hubness_golden import ARRAYS, FACTS, find


def scores_of(case: str, name: str) -> np.ndarray:
    S, P = (ARRAYS[f"{case}/in/{letter}"] for letter in "SP")
    if name == "raw":
        return S
    beta = float(name.removeprefix("IS_b")) if name.startswith("IS_b") else (0.5 if case == "logit" else 20.0)
    if name == "DIS_mixed":
        opened = methods.gate(S, methods.activation_set(P, 1))[:, None]
        return np.where(opened, np.exp(methods.inverted_softmax(S, P, beta)), S)
    return methods.inverted_softmax(S, P, beta)


def test_k_occurrence() -> None:
    for case, key, _ in find("eq/Nk"):
        name, k = key.split("/")[-1].rsplit("_k", 1)
        np.testing.assert_array_equal(k_occurrence(scores_of(case, name), int(k)), ARRAYS[key])


def test_statistics_of_the_distribution() -> None:
    names = {
        "skew": "skewness",
        "max": "max",
        "antihub": "antihub_rate",
        "hub_rate": "hub_rate",
        "hub_occ": "hub_occupancy",
        "gini": "gini",
        "robin": "robin_hood",
        "eff": "effective_share",
        "skhub_gini": "gini",
        "skhub_robin": "robin_hood",
        "skhub_atkinson": "atkinson",
        "skhub_antihub": "antihub_rate",
    }
    compared = 0
    for case, facts in FACTS["cases"].items():
        for label, expected in facts["stats"].items():
            if label.startswith("metrics"):
                continue
            name, k = label.rsplit("_k", 1)
            counts = k_occurrence(scores_of(case, name), int(k))
            queries = ARRAYS[f"{case}/in/S"].shape[0]
            found = hubness_statistics(counts, queries, int(k))
            for theirs, ours in names.items():
                if expected.get(theirs) is not None:
                    assert getattr(found, ours) == pytest.approx(expected[theirs], abs=1e-12), (case, label, theirs)
                    compared += 1
            official = expected.get("official_dbnorm_skew")
            if official is not None and case != "dups":  # the authors break ties by an unstable sort
                without = hubness_statistics(counts, queries, int(k), ignore_zeros=True).skewness
                assert without == pytest.approx(official, abs=1e-12)
    assert compared > 200


def positives(case: str) -> np.ndarray:
    shape = ARRAYS[f"{case}/in/S"].shape
    return np.stack([np.arange(shape[0]), np.arange(shape[0]) * shape[1] // shape[0]], axis=1)


@pytest.mark.parametrize("rule", ["", "_optimistic", "_pessimistic"])
def test_ranks_under_every_tie_rule(rule: str) -> None:
    for case, key, _ in find(f"eq/rank_t2v{rule}"):
        found = ranks(scores_of(case, key.split("/")[-1]), positives(case), rule.lstrip("_") or "average")
        np.testing.assert_array_equal(found, ARRAYS[key])


def test_ranks_from_video_to_text() -> None:
    for case, key, _ in find("eq/rank_v2t"):
        scores = scores_of(case, key.split("/")[-1])
        np.testing.assert_array_equal(ranks(scores.T.copy(), positives(case)[:, ::-1].copy()), ARRAYS[key])


def test_metrics() -> None:
    compared = 0
    for case, facts in FACTS["cases"].items():
        for label, expected in facts["stats"].items():
            if label.startswith("metrics_"):
                _, direction, name = label.split("_", 2)
                found = retrieval_metrics(ARRAYS[f"{case}/eq/rank_{direction}/{name}"])
                assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-12)
                compared += 1
    assert compared > 10


def test_a_worked_example() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.8, 0.8, 0.1], [0.7, 0.2, 0.6]])
    np.testing.assert_array_equal(k_occurrence(scores, 1), [3, 0, 0])
    np.testing.assert_array_equal(bad_occurrence(scores, 1, diagonal(3)), [2, 0, 0])
    found = hubness_statistics(np.array([3, 0, 0]), 3, 1)
    assert (found.mean, found.max, found.hub_rate, found.hub_occupancy) == (1.0, 3, 1 / 3, 1.0)
    assert found.antihub_rate == found.robin_hood == 2 / 3
    assert found.effective_share == pytest.approx(1 / 3)
    np.testing.assert_array_equal(worst_hubs(np.array([1, 5, 5, 0]), 2), [1, 2])
    assert [ranks(scores, diagonal(3), ties)[1] for ties in TIES] == [0.5, 0, 1, 1]
    assert retrieval_metrics(np.array([0, 0.5, 1]))["R1"] == pytest.approx(100 / 3)


def test_masked_items_are_in_no_list() -> None:
    scores = np.array([[-np.inf, 0.1, -np.inf], [-np.inf, 0.3, 0.2]])
    np.testing.assert_array_equal(k_occurrence(scores, 2), [0, 2, 1])
    np.testing.assert_array_equal(bad_occurrence(scores, 2, np.array([[0, 0], [1, 1]])), [0, 1, 1])
    np.testing.assert_array_equal(methods.activation_set(scores, 2), [False, True, True])
    with pytest.raises(DataError, match="every similarity is masked"):
        hubness_statistics(np.zeros(3, int), 2, 2)


def test_the_baseline_is_what_uniform_retrieval_gives() -> None:
    scores = np.random.default_rng(0).standard_normal((2000, 2000)).astype(np.float32)
    found = hubness_statistics(k_occurrence(scores, 10), 2000, 10)
    assert found.skewness == pytest.approx(found.skewness_baseline, abs=0.15)


def test_comparison_by_hand() -> None:
    before, after = np.array([0, 1, 2, 0, 3.0]), np.array([0, 0, 0, 1, 3.0])
    found = compare_ranks(before, after)
    assert (found["gained"], found["lost"], found["R1"]) == (2, 1, pytest.approx(20))
    assert found["mcnemar_p"] == pytest.approx(1.0)
    assert found["ci95"][0] < 20 < found["ci95"][1]
    assert compare_ranks(np.ones(10), np.zeros(10))["mcnemar_p"] == pytest.approx(2 / 2**10)


@pytest.mark.parametrize(
    ("pairs", "word"),
    [
        (np.array([[0, 0]]), "1 query without a positive"),
        (np.array([[0, 0], [1, 5]]), "item 5"),
        (np.array([[0, 0], [-1, 1]]), "reaches"),
        (np.zeros((0, 2), int), "integer pairs"),
    ],
)
def test_ground_truth_that_does_not_fit_is_refused(pairs: np.ndarray, word: str) -> None:
    with pytest.raises(DataError, match=word):
        ranks(np.zeros((2, 3)), pairs)


def test_the_certificates_of_raw_lists() -> None:
    for case, key, numbers in find("eq/cert_top1"):
        S, P = (ARRAYS[f"{case}/in/{letter}"] for letter in "SP")
        beta = 0.2 if case == "logit" else 20.0
        hub = HubnessNormaliser(method="is", beta_query=beta, shrink=1.0).fit(P)
        order = torch.from_numpy(S).sort(dim=1, descending=True, stable=True)
        size = int(numbers["K"])
        _, _, proven = hub.rerank(order.indices[:, :size].numpy(), order.values[:, :size].numpy())
        np.testing.assert_array_equal(proven, ARRAYS[key])
