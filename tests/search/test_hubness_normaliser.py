from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from momentret.errors import ConfigError, DataError, MismatchError, OutputExistsError
from momentret.search.hubness import methods
from momentret.search.hubness.arrays import top_k
from momentret.search.hubness.config import METHODS, HubnessConfig
from momentret.search.hubness.guard import guard_slope, reliability
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.rows import MatrixRows, ProductRows
from momentret.search.hubness.state import load_normaliser, save_normaliser
from tests.search.hubness_helpers import matrices, world

S, P, R = matrices()
X = P @ R.T
BANK = [name for name, method in METHODS.items() if not method.transductive]


def fitted(method: str, **options) -> HubnessNormaliser:
    return HubnessNormaliser(method=method, **{"shrink": 1.0, **options}).fit(P, R, X)


def same_up_to_row_shift(actual: np.ndarray, expected: np.ndarray, atol: float = 1e-6) -> None:
    shift = (actual - expected).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(actual - shift, expected, atol=atol)


def test_every_method_equals_its_definition() -> None:
    q, g = methods.inverted_softmax_bias(P, 20.0), methods.inverted_softmax_bias(R, 3.0)
    expected = {
        "raw": S,
        "is": S - q,
        "gis": S - g,
        "dis": methods.dynamic_inverted_softmax(S, P, 20.0),
        "dualis": methods.dual_inverted_softmax(S, P, R, 20.0, 3.0) / 23.0,
        "dualdis": methods.dual_dis(S, P, R, 20.0, 3.0),
        "nnn": S - methods.nnn_bias(P, 0.75, 16),
        "csls": methods.csls(S, P, 16) / 2,
        "bank-sinkhorn": S - methods.bank_sinkhorn_bias(P, 0.02, 10),
        "dbsn": S - methods.bank_sinkhorn_bias(P, 0.02, 10, X),
        "gc": methods.globally_corrected(S, P),
    }
    assert set(expected) == set(BANK)
    for name, scores in expected.items():
        alpha = 0.75 if name == "nnn" else 1.0
        hub = fitted(name, beta_query=20.0, beta_gallery=3.0, top=16, alpha=alpha, tau=0.02)
        same_up_to_row_shift(hub.transform(S), scores)


def test_transductive_methods_look_at_the_test_queries() -> None:
    sn = HubnessNormaliser(method="sn", tau=0.02).transform(S)
    same_up_to_row_shift(sn, S - methods.bank_sinkhorn_bias(S, 0.02, 10))
    dsl = HubnessNormaliser(method="dsl", beta_query=100.0, rule="product").transform(S)
    np.testing.assert_allclose(dsl, methods.dual_softmax(S, 100.0), atol=1e-6)
    clean = HubnessNormaliser(method="dsl", beta_query=100.0).transform(S)
    same_up_to_row_shift(clean, S - methods.inverted_softmax_bias(S, 100.0))


@pytest.mark.parametrize("method", BANK)
def test_one_query_at_a_time_gives_the_ranking_of_all_at_once(method: str) -> None:
    hub = fitted(method)
    together = np.argsort(-hub.transform(S), axis=1, kind="stable")
    for i in (0, 7, 59):
        np.testing.assert_array_equal(hub.query(S[i])[0], together[i])


@pytest.mark.parametrize("method", ["dsl", "sn"])
def test_transductive_methods_refuse_single_queries(method: str) -> None:
    with pytest.raises(ConfigError, match="all test queries at once"):
        HubnessNormaliser(method=method).query(S[0])


@pytest.mark.parametrize("method", list(METHODS))
def test_inputs_are_not_changed_and_out_may_be_the_input(method: str) -> None:
    arrays = [array.copy() for array in (S, P, R, X)]
    hub = HubnessNormaliser(method=method).fit(*arrays[1:])
    scores = hub.transform(arrays[0])
    for array, original in zip(arrays, (S, P, R, X), strict=True):
        np.testing.assert_array_equal(array, original)
    if method != "gc":  # its scores are float64
        hub.transform(arrays[0], out=arrays[0])
        np.testing.assert_array_equal(arrays[0], scores)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "gc"])
def test_torch_in_torch_out(method: str) -> None:
    hub = HubnessNormaliser(method=method).fit(*(torch.from_numpy(array) for array in (P, R, X)))
    scores = hub.transform(torch.from_numpy(S))
    assert isinstance(scores, torch.Tensor)
    np.testing.assert_array_equal(scores, HubnessNormaliser(method=method).fit(P, R, X).transform(S))


@pytest.mark.parametrize("method", list(METHODS))
def test_a_gpu_gives_the_same_scores(method: str, gpu: str) -> None:
    hub = HubnessNormaliser(method=method).fit(*(torch.from_numpy(array).to(gpu) for array in (P, R, X)))
    scores = hub.transform(torch.from_numpy(S).to(gpu))
    assert scores.is_cuda
    expected = HubnessNormaliser(method=method).fit(P, R, X).transform(S)
    np.testing.assert_allclose(scores.cpu(), expected, atol=1e-5)


@pytest.mark.parametrize("method", list(METHODS))
def test_scaled_similarities_give_the_same_ranking(method: str) -> None:
    wide = [array.astype(np.float64) for array in (S, P, R, X)]
    plain = HubnessNormaliser(method=method).fit(*wide[1:]).transform(wide[0])
    hundred = HubnessNormaliser(method=method).fit(*(100 * array for array in wide[1:])).transform(100 * wide[0])
    np.testing.assert_array_equal(np.argsort(-plain, 1), np.argsort(-hundred, 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("beta", [1e-3, 1000.0])
def test_no_temperature_overflows(dtype, beta: float) -> None:
    hub = HubnessNormaliser(method="dualdis", beta_query=beta, beta_gallery=beta)
    scores = hub.fit((P * 100).astype(dtype), (R * 100).astype(dtype)).transform((S * 100).astype(dtype))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("rule", ["monotone", "product"])
@pytest.mark.parametrize("method", list(METHODS))
def test_masked_entries_stay_masked_and_move_no_other(method: str, rule: str) -> None:
    holes = np.random.default_rng(0).random((3, *S.shape)) < 0.2
    masked = [np.where(hole, -np.inf, array[:60]) for hole, array in zip(holes, (S, P, R), strict=True)]
    hub = HubnessNormaliser(method=method, rule=rule).fit(masked[1], masked[2], X[:60])
    scores = hub.transform(masked[0])
    np.testing.assert_array_equal(np.isneginf(scores), holes[0])
    assert np.isfinite(scores[~holes[0]]).all()


@pytest.mark.parametrize("method", ["is", "dis", "gis", "dualis", "dualdis", "nnn", "csls"])
def test_an_item_that_no_bank_row_sees_is_not_corrected(method: str) -> None:
    banks = [np.where(np.arange(60) == 3, -np.inf, bank) for bank in (P, R)]
    hub = HubnessNormaliser(method=method).fit(*banks)
    assert hub.bias()[3] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(hub.transform(S)[:, 3], S[:, 3], atol=1e-6)
    assert hub.facts.masked_items == (2 if method.startswith("dual") else 1)


def test_gates_closed_for_all_leave_raw_scores_and_open_for_all_are_is() -> None:
    hub = fitted("dis", beta_query=20.0)
    (term,) = hub.terms
    hub.terms = (type(term)(term.bias, 1.0, torch.zeros(60, dtype=torch.bool)),)
    np.testing.assert_array_equal(hub.transform(S), S)
    hub.terms = (type(term)(term.bias, 1.0, torch.ones(60, dtype=torch.bool)),)
    np.testing.assert_array_equal(hub.transform(S), fitted("is", beta_query=20.0).transform(S))


def test_permuted_bank_and_gallery() -> None:
    order, bank = np.random.default_rng(0).permutation(60), np.random.default_rng(1).permutation(300)
    plain = fitted("dualis").transform(S)
    hub = HubnessNormaliser(method="dualis", shrink=1.0).fit(P[bank][:, order], R[bank][:, order])
    np.testing.assert_allclose(hub.transform(S[:, order]), plain[:, order], atol=1e-6)


def test_shrinkage_runs_from_raw_to_the_published_method() -> None:
    np.testing.assert_array_equal(fitted("is", shrink=0.0).transform(S), S)
    half = fitted("is", shrink=0.5).transform(S)
    np.testing.assert_allclose(half, (S + fitted("is", shrink=1.0).transform(S)) / 2, atol=1e-6)


def test_automatic_shrinkage_believes_large_banks_more() -> None:
    made = world(100, 2000)
    big, small = (HubnessNormaliser().fit(made["bank_text"][:n] @ made["video"].T).facts.shrink for n in (2000, 40))
    assert 0 <= small < big <= 1


def test_a_constant_bank_corrects_nothing() -> None:
    hub = HubnessNormaliser(method="is").fit(np.full((50, 60), 0.3, np.float32))
    assert hub.facts.shrink == 0
    np.testing.assert_array_equal(hub.transform(S), S)


def test_the_guard_believes_a_bank_of_the_same_world_and_no_other() -> None:
    made = world(200, 3000)
    gallery, live = made["video"], world(200, 300)["bank_text"] @ made["video"].T
    good = HubnessNormaliser().fit(made["bank_text"] @ gallery.T, live=live).facts
    noise = np.random.default_rng(0).standard_normal((3000, 200)).astype(np.float32) * 0.05
    bad = HubnessNormaliser().fit(noise, live=live).facts
    assert good.guard is not None
    assert bad.guard is not None
    assert good.guard.fit
    assert good.shrink > 0.5
    assert not bad.guard.fit
    assert bad.shrink == 0


def test_guard_slope_by_hand() -> None:
    bank = torch.tensor([1.0, -1.0, 0.0, 0.0])
    alike = guard_slope(bank, 0.5 * bank + 3.0, 30)
    assert (alike.slope, alike.agreement) == (pytest.approx(0.5), pytest.approx(1.0))
    partly = guard_slope(bank, torch.tensor([1.0, -1.0, 1.0, -1.0]), 30)  # half of the live variance is the bank's
    assert (partly.slope, partly.correlation) == (pytest.approx(0.5**0.5), pytest.approx(0.5**0.5))
    noisy = guard_slope(bank, torch.tensor([1.0, -1.0, 1.0, -1.0]), 30, live_reliability=0.5)
    assert (noisy.slope, noisy.agreement) == (pytest.approx(1.0), pytest.approx(1.0))
    assert guard_slope(bank, -bank, 30).slope == 0
    assert guard_slope(torch.zeros(3), torch.ones(3), 30).correlation == 0


def test_reliability_by_hand() -> None:
    line = torch.tensor([0.0, 1.0, 2.0])
    assert reliability([(line, line)]) == pytest.approx(1.0)
    assert reliability([(line, -line)]) == 0
    assert reliability([]) == 0


def test_search_from_embeddings_equals_the_matrix() -> None:
    made = world()
    rows = ProductRows(made["text"], made["video"])
    hub = HubnessNormaliser(method="dualdis").fit(
        ProductRows(made["bank_text"], made["video"]), ProductRows(made["bank_video"], made["video"])
    )
    places, scores = hub.search(rows, 10)
    expected = top_k(torch.from_numpy(fitted("dualdis", shrink=None).transform(S)), 10)
    np.testing.assert_array_equal(places, expected[1])
    np.testing.assert_allclose(scores, expected[0], atol=1e-6)


@pytest.mark.parametrize("method", ["is", "dis", "dualis", "dualdis", "nnn"])
@pytest.mark.parametrize("low_count", [0, 10])
def test_a_certified_list_is_never_wrong(method: str, low_count: int) -> None:
    random, certified, right = np.random.default_rng(0), 0, 0
    for trial in range(200):
        s, p, r = (random.standard_normal((5, 40)) * 0.1 + random.standard_normal(40) * 0.05 for _ in range(3))
        hub = HubnessNormaliser(method=method, beta_query=30.0, beta_gallery=10.0, shrink=1.0).fit(p, r)
        top, size = 1 + trial % 3, 3 + trial % 20
        raw, ids = top_k(torch.from_numpy(s), size)
        low_ids = hub.least_biased(low_count)
        low = (low_ids, s[:, low_ids]) if low_count else None
        found, _, proven = hub.rerank(ids.numpy(), raw.numpy(), top, low)
        truth = top_k(torch.from_numpy(hub.transform(s)), top)[1].numpy()
        equal = (found[:, :top] == truth).all(1)
        assert equal[proven].all()
        certified, right = certified + proven.sum(), right + equal.sum()
    assert 0 < certified <= right


def test_equal_items_of_a_list_may_come_in_any_order() -> None:
    hub = HubnessNormaliser(method="dis", shrink=1.0).fit(np.tile(P[:, :30], 2))
    raw, ids = top_k(torch.from_numpy(np.tile(S[:, :30], 2)), 60)  # items i and 30 + i are the same
    turned = ids.reshape(60, 30, 2).flip(2).flatten(1)
    assert not torch.equal(turned, ids)
    for found, again in zip(
        hub.rerank(ids.numpy(), raw.numpy(), 5), hub.rerank(turned.numpy(), raw.numpy(), 5), strict=True
    ):
        np.testing.assert_array_equal(found, again)


def test_a_list_of_the_whole_gallery_is_exact() -> None:
    hub = fitted("is")
    raw, ids = top_k(torch.from_numpy(S), 60)
    found, scores, proven = hub.rerank(ids.numpy(), raw.numpy(), 60)
    assert proven.all()
    np.testing.assert_array_equal(found, np.argsort(-hub.transform(S), 1, kind="stable"))
    np.testing.assert_allclose(scores, np.sort(hub.transform(S), 1)[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("method", ["gc", "dsl"])
def test_methods_without_a_bias_cannot_correct_a_list(method: str) -> None:
    with pytest.raises(ConfigError, match=r"no bias per item|not fitted"):
        HubnessNormaliser(method=method).fit(P).rerank(np.zeros((1, 2), int), np.zeros((1, 2)))


@pytest.mark.parametrize("method", BANK[1:])
def test_saved_and_loaded_it_does_the_same(method: str, tmp_path) -> None:
    hub = fitted(method)
    save_normaliser(hub, tmp_path / "state", [f"v{i}" for i in range(60)])
    loaded = load_normaliser(tmp_path / "state", [f"v{i}" for i in range(60)])
    np.testing.assert_array_equal(loaded.transform(S), hub.transform(S))
    assert loaded.config == hub.config
    with pytest.raises(MismatchError, match="another gallery"):
        load_normaliser(tmp_path / "state", ["v"] * 60)
    with pytest.raises(OutputExistsError):
        save_normaliser(hub, tmp_path / "state")


@pytest.mark.parametrize("damage", ["not json", '{"format": "x"}', "{}", None])
def test_a_damaged_state_is_refused(damage: str | None, tmp_path) -> None:
    save_normaliser(fitted("is"), tmp_path)
    manifest = tmp_path / "manifest.json"
    if damage is None:
        values = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**values, "items": 61}))
    else:
        manifest.write_text(damage)
    with pytest.raises(DataError):
        load_normaliser(tmp_path)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "iss"}, "did you mean 'is'"),
        ({"beta_query": -1.0}, "beta_query is -1.0"),
        ({"tau": float("nan")}, "tau is nan"),
        ({"shrink": 1.5}, "shrink is 1.5"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"k_query": 0}, "k_query is 0"),
        ({"iterations": -1}, "iterations is -1"),
        ({"rule": "sum"}, "rule is 'sum'"),
    ],
)
def test_impossible_parameters_are_named(options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        HubnessConfig(**options)


@pytest.mark.parametrize("method", list(METHODS))
def test_published_values_are_complete(method: str) -> None:
    config = HubnessConfig.published(method)
    assert config.shrink == 1.0
    assert np.isfinite(HubnessNormaliser(config).fit(P, R, X).transform(S)).all()


def test_missing_and_unfitting_banks_are_named() -> None:
    with pytest.raises(ConfigError, match="'dualis' needs a gallery bank"):
        HubnessNormaliser(method="dualis").fit(P)
    with pytest.raises(MismatchError, match="same gallery"):
        HubnessNormaliser(method="dualis").fit(P, R[:, :5])
    with pytest.raises(MismatchError, match="fitted for 60 gallery items"):
        fitted("is").transform(S[:, :5])
    with pytest.raises(ConfigError, match="not fitted"):
        HubnessNormaliser(method="is").transform(S)
    with pytest.raises(DataError, match="row 0, column 1"):
        fitted("is").transform(np.where(np.arange(60) == 1, np.nan, S[:1]))


def test_blocks_do_not_change_the_result() -> None:
    rows = MatrixRows(S)
    for method in BANK:
        hub = fitted(method)
        parts = [block for _, block in hub.blocks(rows, block_bytes=700)]
        np.testing.assert_array_equal(torch.cat(parts), hub.transform(S))
