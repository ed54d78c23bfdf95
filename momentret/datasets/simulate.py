"""A small data set out of nothing: for trying things out, the demo and tests. No video is behind it.

Every word has a random direction; a query's tokens are its words, and inside a relevant window the clips of its video
carry the query's mean direction, turned by one fixed rotation that a model has to learn. Annotations are written in
the QVHighlights format and features in the Moment-DETR layout, so the whole real path is exercised.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import OutputExistsError
from momentret.files import write_jsonl

__all__ = ["Simulation", "simulate"]

SUBJECTS = ("a man", "a woman", "a child", "a dog", "a chef", "two friends", "a cyclist", "a vlogger")
ACTIONS = ("opens", "carries", "paints", "throws", "washes", "films", "repairs", "looks at")
OBJECTS = ("a door", "a red car", "the dishes", "a ball", "an old camera", "a suitcase", "the window", "a cake")
SIGNAL, NOISE = 0.9, 0.8  # strength of the query in its clips, and of everything else, per unit vector


@dataclass(frozen=True)
class Simulation:
    """How much to make."""

    train: int = 256
    """Training queries; one video each."""
    val: int = 64
    """Validation queries."""
    clips: int = 75
    """Clips of a full-length video; one in four is shorter."""
    clip_length: float = 2.0
    """Seconds."""
    dim: int = 64
    """Width of the features."""
    seed: int = 1


def simulate(folder: Path, config: Simulation) -> dict[str, Path]:
    """Write ``train.jsonl``, ``val.jsonl`` and ``features/`` below a new folder and return their paths.

    Raises:
        OutputExistsError: the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise OutputExistsError(folder)
    random = np.random.default_rng(config.seed)
    world = _World(config, random)
    paths = {"features": folder / "features"}
    for name in ("clip_features", "clip_text_features"):
        (paths["features"] / name).mkdir(parents=True, exist_ok=True)
    for split, count in (("train", config.train), ("val", config.val)):
        rows = [_row(f"{split}{i:05d}", i + config.train * (split == "val"), config, random) for i in range(count)]
        for row in rows:
            _write_features(paths["features"], row, world, random)
        paths[split] = folder / f"{split}.jsonl"
        write_jsonl(paths[split], rows)
    return paths


class _World:
    """One direction a word, and the rotation between text and video."""

    def __init__(self, config: Simulation, random: np.random.Generator) -> None:
        words = sorted({word for phrase in (*SUBJECTS, *ACTIONS, *OBJECTS) for word in phrase.split()})
        self.words = dict(zip(words, _unit(random.standard_normal((len(words), config.dim))), strict=True))
        self.rotation = np.linalg.qr(random.standard_normal((config.dim, config.dim)))[0]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _row(video_id: str, query_id: int, config: Simulation, random: np.random.Generator) -> dict[str, Any]:
    """Return one annotation with one or two windows on the clip grid."""
    clips = int(config.clips * random.choice([1.0, 1.0, 1.0, 0.7]))
    windows = []
    for part in np.array_split(np.arange(clips), random.integers(1, 3)):  # one window in each part: they never touch
        length = int(random.integers(2, max(3, len(part) // 2)))
        start = int(part[0] + random.integers(1, max(2, len(part) - length)))
        windows.append((start, min(start + length, int(part[-1]))))
    relevant = [clip for start, end in windows for clip in range(start, end)]
    return {
        "qid": query_id,
        "query": " ".join(str(random.choice(list(phrases))) for phrases in (SUBJECTS, ACTIONS, OBJECTS)),
        "vid": video_id,
        "clips": clips,
        "duration": clips * config.clip_length,
        "relevant_windows": [[start * config.clip_length, end * config.clip_length] for start, end in windows],
        "relevant_clip_ids": relevant,
        "saliency_scores": random.integers(1, 5, (len(relevant), 3)).tolist(),
    }


def _write_features(folder: Path, row: dict[str, Any], world: _World, random: np.random.Generator) -> None:
    tokens = np.stack([world.words[word] for word in row["query"].split()])
    sentence = _unit(tokens.mean(axis=0))
    clips = _unit(random.standard_normal((row.pop("clips"), len(sentence)))) * NOISE
    gain = np.mean(row["saliency_scores"], axis=1, keepdims=True) / 4
    clips[row["relevant_clip_ids"]] += SIGNAL * (0.5 + gain) * (sentence @ world.rotation)
    tokens = np.concatenate((tokens, sentence[None]))  # the end token carries the sentence
    np.savez(folder / "clip_features" / f"{row['vid']}.npz", features=clips.astype(np.float16))
    text = folder / "clip_text_features" / f"qid{row['qid']}.npz"
    np.savez(text, last_hidden_state=tokens.astype(np.float16), pooler_output=sentence.astype(np.float16))
