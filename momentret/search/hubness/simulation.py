"""A two-modality embedding world with hubs in it, for tests, benchmarks and the numbers of the README.

Text and video vectors share a latent of 48 dimensions around 100 topics; each modality has its own mean direction.
Some videos sit closer to their topic's centre (local hubs) or to the text mean (global hubs) than others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from momentret.config import nearest
from momentret.errors import ConfigError
from momentret.files import write_json

__all__ = ["WORLDS", "World", "WorldConfig", "write_world"]


@dataclass(frozen=True)
class WorldConfig:
    """Statistics of a world; the defaults are CLIP-like: paired cosine 0.34, unpaired 0.17, video-video 0.54."""

    dimension: int = 256
    latent: int = 48
    topics: int = 100
    prototypicality: float = 0.05
    """Median pull of a video towards its topic's centre."""
    global_hub: float = 0.02
    """Median size of a video's component along the text mean, of either sign."""
    text_noise: float = 1.2
    video_noise: float = 0.9
    clean: bool = False
    """Centred topics, latents of equal length, no ambient noise along the text mean."""


WORLDS = {
    "clean": WorldConfig(prototypicality=0, global_hub=0, text_noise=0.8, video_noise=1.3, clean=True),
    "clip-like": WorldConfig(),
    "hub-heavy": WorldConfig(prototypicality=0.2, global_hub=0.05),
}


class World:
    """Fixed directions and topics; draws pairs of text and video vectors.

    Example:
        >>> text, video = World(WORLDS["clip-like"], seed=0).pairs(1000, np.random.default_rng(1))
        >>> text.shape, round(float((text * video).sum(1).mean()), 1)
        ((1000, 256), 0.3)
    """

    def __init__(self, config: WorldConfig, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.config = config
        frame, _ = np.linalg.qr(random.standard_normal((config.dimension, config.latent + 2)))
        self.text_mean, other, self.basis = frame[:, 0], frame[:, 1], frame[:, 2:].T  # (D,), (D,), (latent, D)
        self.video_mean = 0.3 * self.text_mean + np.sqrt(1 - 0.09) * other
        self.centres = random.standard_normal((config.topics, config.latent))
        if config.clean:
            self.centres -= self.centres.mean(0)

    def pairs(
        self, count: int, random: np.random.Generator, topics: int | None = None, **style: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw unit vectors of matching texts and videos, ``(count, D)`` float32 each.

        Args:
            count: number of pairs.
            random: source of randomness.
            topics: only the first so many topics occur: a bank of another domain.
            style: fields of `WorldConfig` that differ for these pairs.
        """
        config = replace(self.config, **style) if style else self.config  # type: ignore[arg-type]
        topic = self.centres[random.integers(topics or config.topics, size=count)]
        core = np.sqrt(0.5) * (topic + random.standard_normal(topic.shape))
        text = _latent(core, config.text_noise, random, config.clean)
        video = _latent(core, config.video_noise, random, config.clean)
        video = video + config.prototypicality * _skewed(count, random) * topic
        sign = random.choice([-1.0, 1.0], (count, 1))
        hub = config.global_hub * sign * _skewed(count, random) * self.text_mean
        return self._vectors(text, self.text_mean, random), self._vectors(video, self.video_mean, random, hub)

    def _vectors(
        self, latent: np.ndarray, mean: np.ndarray, random: np.random.Generator, extra: np.ndarray | float = 0.0
    ) -> np.ndarray:
        noise = random.standard_normal((len(latent), self.config.dimension))
        if self.config.clean:
            noise -= (noise @ self.text_mean)[:, None] * self.text_mean
        vectors = np.sqrt(0.55) * mean + np.sqrt(0.35 / self.config.latent) * latent @ self.basis
        vectors += np.sqrt(0.10 / self.config.dimension) * noise + extra
        unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit


def _latent(core: np.ndarray, noise: float, random: np.random.Generator, equal_length: bool) -> np.ndarray:
    latent: np.ndarray = (core + noise * random.standard_normal(core.shape)) / np.sqrt(1 + noise**2)
    if equal_length:
        latent *= np.sqrt(latent.shape[1]) / np.linalg.norm(latent, axis=1, keepdims=True)
    return latent


def _skewed(count: int, random: np.random.Generator) -> np.ndarray:
    """Return positive factors with median exp(-0.18) and mean 1, ``(count, 1)``."""
    factors: np.ndarray = np.exp(0.6 * random.standard_normal((count, 1)) - 0.18)
    return factors


def write_world(folder: Path, name: str, size: int, bank: int, seed: int) -> list[str]:
    """Write a test split, a validation split and banks of one world; returns the names of the files.

    ``similarities``, ``query_bank`` and ``gallery_bank`` (and ``val_…``) are products of the embeddings ``queries``,
    ``gallery``, ``bank_queries`` and ``bank_gallery``; query i belongs to item i.

    Raises:
        ConfigError: the world is unknown.
    """
    if name not in WORLDS:
        raise ConfigError(f"world {name!r} is unknown{nearest(name, list(WORLDS))}")
    random, world = np.random.default_rng([1, seed]), World(WORLDS[name], seed)
    made = {}
    for split in ("", "val_"):
        made[f"{split}queries"], made[f"{split}gallery"] = world.pairs(size, random)
    made["bank_queries"], made["bank_gallery"] = world.pairs(bank, random)
    for split in ("", "val_"):
        gallery = made[f"{split}gallery"]
        made[f"{split}similarities"] = made[f"{split}queries"] @ gallery.T
        made[f"{split}query_bank"] = made["bank_queries"] @ gallery.T
        made[f"{split}gallery_bank"] = made["bank_gallery"] @ gallery.T
    for stem, array in made.items():
        np.save(folder / f"{stem}.npy", array)
    write_json(folder / "world.json", {"world": name, "size": size, "bank": bank, "seed": seed})
    return sorted(f"{stem}.npy" for stem in made)
