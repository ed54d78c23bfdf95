"""Every method against the stored values.

Source: golden/dbnorm.{json,npz}: outputs of the authors' public code (`off/`) and of the equations in float64 (`eq/`);
key grammar and tolerances are in the JSON. float64 within 1e-10, float32 within 1e-6 in similarity units.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from momentret.search.hubness import methods
from momentret.search.hubness.methods import signed_log_factor
from tests.helpers import GOLDEN

ARRAYS = np.load(GOLDEN / "dbnorm.npz")
FACTS = json.loads((GOLDEN / "dbnorm.json").read_text())
CASES = list(FACTS["cases"])


def find(prefix: str) -> list[tuple[str, str, dict[str, float]]]:
    """Return (case, key, numbers in its last part) of all arrays ``<case>/<prefix>/...``."""
    found = []
    for key in ARRAYS.files:
        case, name = key.split("/", 1)
        if name.startswith(prefix + "/"):
            parts = name[len(prefix) + 1 :].split("_")
            found.append((case, key, {p.rstrip("0123456789.-"): exact(p.lstrip("abgkqtiuKB")) for p in parts}))
    assert found, prefix
    return found


def exact(text: str) -> float:
    try:
        return 1 / 1.99 if text == "0.502513" else float(text)
    except ValueError:  # a word, not a number
        return float("nan")


def inputs(case: str, *names: str, dtype: Any = np.float64) -> list[np.ndarray]:
    return [ARRAYS[f"{case}/in/{name}"].astype(dtype) for name in names]


def check(actual: Any, key: str, dtype: Any, scale: float = 1.0, shift: bool = False) -> None:
    """Compare; `scale` turns float32 log units into similarity units, `shift` ignores a constant."""
    expected = ARRAYS[key]
    if shift:
        actual, expected = actual - actual.mean(), expected - expected.mean()
    if dtype == np.float64:
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)
        return
    actual = np.asarray(actual, np.float64)  # so that the division does not round
    largest = max(1.0, float(np.abs(ARRAYS[f"{key.split('/')[0]}/in/S"]).max()))
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=1e-6 * largest)


both = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@both
@pytest.mark.parametrize(("prefix", "bank"), [("eq/biasIS_q", "P"), ("eq/biasIS_g", "R")])
def test_inverted_softmax_bias(prefix: str, bank: str, dtype: Any) -> None:
    for case, key, numbers in find(prefix):
        check(methods.inverted_softmax_bias(*inputs(case, bank, dtype=dtype), numbers["b"]), key, dtype)


@both
def test_inverted_softmax(dtype: Any) -> None:
    for case, key, numbers in find("eq/logIS"):
        check(methods.inverted_softmax(*inputs(case, "S", "P", dtype=dtype), numbers["b"]), key, dtype, numbers["b"])


@both
def test_dual_inverted_softmax(dtype: Any) -> None:
    for case, key, n in find("eq/logDualIS"):
        actual = methods.dual_inverted_softmax(*inputs(case, "S", "P", "R", dtype=dtype), n["bq"], n["bg"])
        check(actual, key, dtype, n["bq"] + n["bg"])


@both
def test_dual_dis_monotone(dtype: Any) -> None:
    for case, key, n in find("eq/DualDIS_monotone"):
        check(methods.dual_dis(*inputs(case, "S", "P", "R", dtype=dtype), n["bq"], n["bg"], int(n["k"])), key, dtype)


def test_dual_dis_product() -> None:
    for case, key, n in find("eq/DualDIS_product"):
        S, P, R = (torch.from_numpy(array) for array in inputs(case, "S", "P", "R"))
        product, size = torch.ones_like(S), torch.zeros_like(S)
        for bank, beta in ((P, n["bq"]), (R, n["bg"])):
            opened = methods.gate(S, methods.activation_set(bank, int(n["k"])))[:, None]
            sign, log = signed_log_factor(S, methods.inverted_softmax_bias(bank, beta), beta, opened)
            product, size = product * sign, size + log
        check((product * size.exp()).numpy(), key, np.float64)
        scores = methods.dual_dis(S, P, R, n["bq"], n["bg"], int(n["k"]), "product")
        expected = torch.from_numpy(ARRAYS[key])
        finite = expected.isfinite().all(1) & (expected != 0).all(1)
        assert torch.equal(scores[finite].argsort(1), expected[finite].argsort(1))


@pytest.mark.parametrize(("letter", "bank"), [("Q", "P"), ("G", "R")])
def test_activation_sets_and_gates(letter: str, bank: str) -> None:
    for case, key, n in find(f"eq/act{letter}"):
        S, B = inputs(case, "S", bank)
        active = methods.activation_set(B, int(n["k"]))
        np.testing.assert_array_equal(np.flatnonzero(active), ARRAYS[key])
        np.testing.assert_array_equal(methods.gate(S, active), ARRAYS[key.replace("eq/act", "eq/gate")])


@both
@pytest.mark.parametrize("case", CASES)
def test_globally_corrected(case: str, dtype: Any) -> None:
    S, P = inputs(case, "S", "P")  # ranks are exact: float32 would move ties
    check(methods.globally_corrected(S, P, additive=True), f"{case}/eq/GC_score", np.float64)
    rank = np.ceil(-methods.globally_corrected(S, P) - 0.5)
    np.testing.assert_array_equal(rank, ARRAYS[f"{case}/eq/GC_rank"])


@both
def test_csls(dtype: Any) -> None:
    for case, key, n in find("eq/CSLS"):
        check(methods.csls(*inputs(case, "S", "P", dtype=dtype), int(n["K"])), key, dtype, 2.0)


@both
def test_nnn(dtype: Any) -> None:
    for case, key, n in find("eq/NNN_bias"):
        check(methods.nnn_bias(*inputs(case, "P", dtype=dtype), n["a"], int(n["k"])), key, dtype)
    for case, key, n in find("off/NNN_alignment_mean"):
        check(methods.top_mean(*inputs(case, "P"), int(n["k"])), key, np.float32)


@both
def test_dual_softmax(dtype: Any) -> None:
    for case, key, n in find("eq/DSL"):
        check(methods.dual_softmax(*inputs(case, "S", dtype=dtype), n["t"]), key, dtype)


@both
@pytest.mark.parametrize(("prefix", "bank"), [("eq/bankSN_bias", "P"), ("eq/SN_bias", "S")])
def test_sinkhorn(prefix: str, bank: str, dtype: Any) -> None:
    for case, key, n in find(prefix):
        bias = methods.bank_sinkhorn_bias(*inputs(case, bank, dtype=dtype), n["tau"], int(n["it"]))
        check(bias, key, dtype, shift=True)


@both
@pytest.mark.parametrize("prefix", ["eq/DBSN_bias", "off/DBSN_targetbias"])
def test_dual_bank_sinkhorn(prefix: str, dtype: Any) -> None:
    for case, key, n in find(prefix):
        P, X = inputs(case, "P", "X_bankq_bankg", dtype=dtype)
        check(methods.bank_sinkhorn_bias(P, n["tau"], int(n["it"]), X), key, dtype, shift=True)


def test_the_authors_code_where_it_does_not_overflow() -> None:
    for case, key, n in find("off/IS"):
        compare_logs(methods.inverted_softmax(*inputs(case, "S", "P"), n["b"]), ARRAYS[key])
    for case, key, n in find("off/DIS"):
        S, P = inputs(case, "S", "P")
        if n["b"] * S.max() > 700:
            continue  # the authors look for the best item after exp, where all that overflowed are equal
        opened = methods.gate(S, methods.activation_set(P, int(n["k"])))
        scores = methods.dynamic_inverted_softmax(S, P, n["b"], int(n["k"]))
        compare_logs(n["b"] * scores[opened], ARRAYS[key][opened])
        np.testing.assert_array_equal(scores[~opened], S[~opened])
        np.testing.assert_array_equal(S[~opened], ARRAYS[key][~opened])
    for case, key, n in find("off/DualIS_repaired"):
        compare_logs(methods.dual_inverted_softmax(*inputs(case, "S", "P", "R"), n["bq"], n["bg"]), ARRAYS[key])


def compare_logs(actual: np.ndarray, official: np.ndarray) -> None:
    usable = np.isfinite(official) & (official > 1e-290)
    np.testing.assert_allclose(actual[usable], np.log(official[usable]), rtol=0, atol=1e-8)
