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


@pytest.mark.parametrize("count", [1, 2])
def test_digits_say_what_the_token_is(count: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
    tokens[2] = 0
    parts, step = digits(tokens, count)
    assert (parts.dtype, len(parts)) == (np.int8, count)
    written = sum(255.0 ** (count - 1 - i) * part for i, part in enumerate(parts))
    assert np.abs(tokens - step * written).max() <= 0.51 * step.max()
    assert step.max() < 1.1 * np.abs(tokens).max() / (127 * 255 ** (count - 1))
    assert (parts[:, 2] == 0).all()


@pytest.mark.parametrize("count", [1, 2])
def test_joined_products_are_those_of_the_tokens(count: int) -> None:
    rng = np.random.default_rng(1)
    tokens, rows = rng.normal(size=(4, 64)).astype(np.float32), rng.integers(-127, 128, size=(90, 64), dtype=np.int8)
    parts, step = digits(tokens, count)
    joined = join_digits(products(parts.reshape(4 * count, 64), rows).reshape(count, 4, 90), step)
    np.testing.assert_allclose(joined, tokens @ rows.T.astype(np.float32), atol=64 * 127 * step.max())
