"""Fixed-dimensional encodings against the definition in loops and 64 bits, and as an estimate of the score."""

from __future__ import annotations

import numpy as np
import pytest

from momentret.search.chamfer import alignment
from momentret.search.index.fde import FixedEncoding
from tests.search.corpus import unit


def plain(encoding: FixedEncoding, rows: np.ndarray, mean: bool) -> np.ndarray:
    """Evaluate the definition for one direction with plain loops in float64."""
    blocks = []
    for repetition in range(encoding.repetitions):
        planes, project = encoding._random(repetition)
        sides = [tuple(int(row.astype(float) @ plane > 0) for plane in planes.T) for row in rows]
        sketched = project(np.eye(encoding.dim, dtype=np.float32)).astype(float)
        for bucket in range(2**encoding.planes):
            bits = tuple(bucket >> i & 1 for i in range(encoding.planes))
            members = [i for i, side in enumerate(sides) if side == bits]
            if mean and not members:
                members = [
                    min(range(len(rows)), key=lambda i: sum(a != b for a, b in zip(sides[i], bits, strict=True)))
                ]
            total = sum((rows[i].astype(float) @ sketched for i in members), np.zeros(sketched.shape[1]))
            blocks.append(total / (len(members) if mean else 1))
    return np.concatenate(blocks) / np.sqrt(encoding.repetitions)


@pytest.mark.parametrize("sketch", [3, 8])
def test_an_encoding_equals_its_definition(sketch: int) -> None:
    rng = np.random.default_rng(0)
    encoding = FixedEncoding(8, repetitions=3, planes=2, sketch=sketch)
    rows = unit(rng.normal(size=(5, 8)))
    both = np.concatenate([plain(encoding, rows, True), plain(encoding, rows, False) / 5])
    np.testing.assert_allclose(encoding.video(rows), both, atol=1e-6)
    np.testing.assert_allclose(encoding.query(rows), np.concatenate(np.split(both, 2)[::-1]), atol=1e-6)
    assert encoding.video(rows).shape == (encoding.width,)


def test_the_product_follows_the_score() -> None:
    rng = np.random.default_rng(1)
    topics = unit(rng.normal(size=(8, 32)))
    videos = [unit(topics[rng.integers(8, size=12)] + 0.5 * topics[i % 8]) for i in range(60)]
    encoding = FixedEncoding(32, repetitions=40, planes=4, sketch=32)
    query = unit(topics[:3] + 0.3 * rng.normal(size=(3, 32)) / np.sqrt(32))
    estimates = [encoding.video(clips) @ encoding.query(query) for clips in videos]
    scores = [sum(alignment(query @ clips.T)) for clips in videos]
    assert np.corrcoef(estimates, scores)[0, 1] > 0.9
