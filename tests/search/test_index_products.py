"""Products in integers: exact, and the same whichever kernel makes them."""

from __future__ import annotations

import numpy as np
import pytest

from momentret.search.index import products as kernels
from momentret.search.index.products import digits, join_digits, products

KERNELS = [
    kernels._by_floats,
    pytest.param(
        kernels._by_torch,
        marks=pytest.mark.skipif(
            kernels._multiply() is not kernels._by_torch, reason="this processor saturates sums of byte products"
        ),
    ),
]


@pytest.mark.parametrize("multiply", KERNELS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 700, 24), (24, 513, 2500), (3, 40, 128)])
def test_products_are_exact(multiply: kernels.Multiply, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.integers(-128, 128, size=(rows, shape[2]), dtype=np.int8) for rows in shape[:2])
    left[0], right[0] = -128, -128
    np.testing.assert_array_equal(multiply(left, right), left.astype(np.int64) @ right.astype(np.int64).T)


def test_digits_say_what_the_token_is() -> None:
    tokens = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
    tokens[2] = 0
    parts, step = digits(tokens)
    assert parts.dtype == np.int8
    assert np.abs(tokens - step * (255.0 * parts[0] + parts[1])).max() <= 0.51 * step.max()
    assert (parts[:, 2] == 0).all()


def test_joined_products_are_those_of_the_tokens() -> None:
    rng = np.random.default_rng(1)
    tokens, rows = rng.normal(size=(4, 64)).astype(np.float32), rng.integers(-127, 128, size=(90, 64), dtype=np.int8)
    parts, step = digits(tokens)
    joined = join_digits(products(parts.reshape(8, 64), rows).reshape(2, 4, 90), step)
    np.testing.assert_allclose(joined, tokens @ rows.T.astype(np.float32), atol=64 * 127 * step.max())
