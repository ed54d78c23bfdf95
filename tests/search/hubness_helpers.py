"""What the tests of the hubness laboratory share."""

from __future__ import annotations

import numpy as np

from momentret.search.hubness.simulation import WORLDS, World


def world(queries: int = 60, bank: int = 300, seed: int = 0, topics: int | None = None) -> dict[str, np.ndarray]:
    """Return embeddings of a small CLIP-like world: text, video, bank_text, bank_video."""
    random = np.random.default_rng(seed + 1)
    made = World(WORLDS["clip-like"], seed)
    text, video = made.pairs(queries, random)
    bank_text, bank_video = made.pairs(bank, random, topics)
    return {"text": text, "video": video, "bank_text": bank_text, "bank_video": bank_video}


def matrices(queries: int = 60, bank: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return S, P, R of a small world, float32."""
    made = world(queries, bank, seed)
    return tuple(made[name] @ made["video"].T for name in ("text", "bank_text", "bank_video"))  # type: ignore[return-value]


def diagonal(size: int) -> np.ndarray:
    """Return ground truth in which query i wants item i."""
    return np.stack([np.arange(size)] * 2, axis=1)
