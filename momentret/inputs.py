"""Features -> model inputs: normalise, temporal endpoints, cut, pad, mask.

The only preparation path: training, evaluation, prediction and search all call the functions below, so a model meets
the same numbers everywhere. Where rows come from is `features`; what is asked of them is `datasets`.

Source: Lei, Berg, Bansal, "QVHighlights", NeurIPS 2021, and its released code for the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from momentret.config import require
from momentret.errors import ConfigError, FeatureError

__all__ = [
    "Batch",
    "InputConfig",
    "collate",
    "l2_normalise",
    "pad_spans",
    "prepare_text",
    "prepare_video",
    "to_device",
]

Batch = dict[str, Any]
"""``video (B, L, D)``, ``video_mask (B, L)``, ``text (B, T, D)``, ``text_mask (B, T)`` True where valid,
``duration (B,)`` seconds; for training also ``spans (B, N, 2)`` with zeros behind each item's own, ``span_counts`` (B
whole numbers), ``saliency_positive`` and ``saliency_negative (B, P)``, clips."""

NORM_EPSILON = 1e-5  # added to the norm, not a floor: the reference's constant


@dataclass(frozen=True)
class InputConfig:
    """How features become inputs; travels in every checkpoint."""

    max_clips: int | None = 75
    """Clips a model sees at once; longer videos are cut in training and slid over in prediction. None: no limit."""
    max_words: int | None = 32
    """Text tokens kept, from the first. None: all."""
    normalise_video: bool = True
    """L2-normalise every row of every video source, before they are joined."""
    normalise_text: bool = True
    """L2-normalise every text token."""
    use_video: bool = True
    """False keeps only the temporal endpoints: a model that is blind to the video."""
    temporal_endpoints: bool = True
    """Append each clip's start and end as fractions of the video (TEF, 2 columns)."""

    def __post_init__(self) -> None:
        for name in ("max_clips", "max_words"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"inputs.{name}", value, "at least 1 or null")
        if not (self.use_video or self.temporal_endpoints):
            raise ConfigError("inputs.use_video and inputs.temporal_endpoints are both false: nothing is left to see")

    def video_dim(self, dimensions: Sequence[int]) -> int:
        """Return the width D of a prepared clip, given the width of each video source."""
        return self.use_video * sum(dimensions) + 2 * self.temporal_endpoints


def l2_normalise(rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Divide each row ``(..., D)`` by its length plus 1e-5; a row of zeros stays zero. Returns float32, in `out`."""
    out = _float32(rows, out)
    length = np.sqrt(np.einsum("...d,...d->...", out, out))
    out /= length[..., None] + np.float32(NORM_EPSILON)
    return out


def _float32(rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Copy rows as float32, exactly, to `out` or a new array."""
    out = np.empty(rows.shape, dtype=np.float32) if out is None else out
    if rows.dtype == np.float16:  # NumPy takes eight times as long as torch, which wants memory it could write to
        torch.from_numpy(out).copy_(torch.from_numpy(rows.copy()))
    else:
        out[...] = rows
    return out


def prepare_video(sources: Sequence[np.ndarray], config: InputConfig) -> Tensor:
    """Join the sources of one video into its input ``(L, D)``, float32.

    Each source is normalised by itself, all are cut to the shortest and to `max_clips`, joined in the given order, and
    followed by the temporal endpoints ``(i / L, (i + 1) / L)``.

    Args:
        sources: one ``(L_i, D_i)`` array a source; at least one, none is changed.
        config: what to do with them.

    Raises:
        FeatureError: the sources differ by more than two clips.
    """
    clips = min(len(rows) for rows in sources)
    if max(len(rows) for rows in sources) - clips > 2:
        lengths = ", ".join(str(len(rows)) for rows in sources)
        raise FeatureError(f"video sources have {lengths} clips; more than 2 apart means different clip lengths")
    clips = clips if config.max_clips is None else min(clips, config.max_clips)
    widths = [rows.shape[1] for rows in sources]
    video = np.empty((clips, config.video_dim(widths)), dtype=np.float32)
    if config.use_video:
        convert = l2_normalise if config.normalise_video else _float32
        for rows, end, width in zip(sources, accumulate(widths), widths, strict=True):
            convert(rows[:clips], video[:, end - width : end])
    if config.temporal_endpoints:
        video[:, -2] = np.arange(clips, dtype=np.float32) / np.float32(clips)
        video[:, -1] = video[:, -2] + np.float32(1 / clips)
    return torch.from_numpy(video)


def prepare_text(tokens: np.ndarray, config: InputConfig) -> Tensor:
    """Cut the token states ``(T, D)`` of one query to `max_words` and normalise them; float32."""
    convert = l2_normalise if config.normalise_text else _float32
    return torch.from_numpy(convert(tokens[: config.max_words]))


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Pad the items of a batch to the longest and stack them.

    Args:
        items: each with ``video (L, D)``, ``text (T, D)`` and ``duration``; targets, if any, in every one.
    """
    video, video_mask = _pad([item["video"] for item in items])
    text, text_mask = _pad([item["text"] for item in items])
    batch: Batch = {
        "video": video,
        "video_mask": video_mask,
        "text": text,
        "text_mask": text_mask,
        "duration": torch.tensor([item["duration"] for item in items], dtype=torch.float32),
    }
    if "spans" in items[0]:
        batch["spans"], batch["span_counts"] = pad_spans([item["spans"] for item in items])
    for name in ("saliency_positive", "saliency_negative"):
        if name in items[0]:
            batch[name] = torch.tensor([item[name] for item in items])  # (B, P)
    return batch


def pad_spans(spans: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
    """Stack targets ``(n_i, 2)`` to ``(B, N, 2)`` with zeros behind, and return each ``n_i`` (0 is legal)."""
    rows = [item.reshape(-1, 2) for item in spans]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), tuple(len(item) for item in rows)


def _pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack ``(L_i, D)`` to ``(B, L, D)`` with zeros behind, and say which rows are real ``(B, L)``."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with every tensor on `device`; counts stay where they are."""
    if device.type == "cpu":
        return batch
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }
