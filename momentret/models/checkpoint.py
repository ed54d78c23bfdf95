"""Checkpoints: one ``.safetensors`` file with the weights and, in its header, everything needed to use them.

The header's ``momentret`` entry is JSON: format number, model name and config, how inputs are prepared, which features
the model was trained on, how predictions are post-processed, and what it was trained on. Nothing is ever unpickled;
files of the official code are read by `official`.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from momentret.config import nearest
from momentret.errors import CheckpointError, ConfigError
from momentret.files import atomic_write
from momentret.models import MODELS

__all__ = ["Checkpoint", "build_model", "load_checkpoint", "other_kind", "save_checkpoint"]

FORMAT = 1
ENTRY = "momentret"


@dataclass
class Checkpoint:
    """A trained model as it lies on disk."""

    model_name: str
    """A name of `MODELS`."""
    config: dict[str, Any]
    """Fields of the model's config dataclass."""
    weights: dict[str, Tensor]
    """By parameter name, float32."""
    inputs: dict[str, Any]
    """Fields of `inputs.InputConfig`."""
    features: dict[str, Any] | None
    """`features.StoreManifest` of the training features; None if unknown."""
    postprocess: dict[str, Any]
    """Fields of `postprocess.PostprocessConfig`."""
    trained_on: dict[str, Any] = field(default_factory=dict)
    """``clip_length`` in seconds, and for people: data set, epoch, seed."""

    @property
    def clip_length(self) -> float:
        """Seconds per feature row."""
        return float(self.trained_on["clip_length"])

    def describe(self) -> dict[str, Any]:
        """Return the header, as plain JSON values."""
        return {
            "format": FORMAT,
            "model": self.model_name,
            "config": self.config,
            "inputs": self.inputs,
            "features": self.features,
            "postprocess": self.postprocess,
            "trained_on": self.trained_on,
        }


def save_checkpoint(
    path: Path,
    model: nn.Module,
    *,
    model_name: str,
    config: dict[str, Any],
    inputs: dict[str, Any],
    features: dict[str, Any] | None,
    postprocess: dict[str, Any],
    trained_on: dict[str, Any],
) -> None:
    """Write a model and what belongs to it; the file is whole or absent, an earlier one is replaced.

    Args:
        path: ends in ``.safetensors``.
        model: its state dict is saved.
        model_name: see `Checkpoint`, as for the others; all are plain JSON values.
        config: of the model.
        inputs: how features become inputs.
        features: what the features were.
        postprocess: what is done to predictions.
        trained_on: must hold ``clip_length``.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    checkpoint = Checkpoint(model_name, config, weights, inputs, features, postprocess, trained_on)
    _require_clip_length(path, trained_on)
    header = json.dumps(checkpoint.describe(), allow_nan=False)
    with atomic_write(path, "wb") as file:
        file.write(save(weights, metadata={ENTRY: header}))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file is damaged, no checkpoint of ours, or of a newer format.
        OSError: it cannot be opened.
    """
    path = Path(path)
    with path.open("rb"):  # a missing file or a folder is an ordinary OSError
        pass
    try:
        with safe_open(path, framework="pt") as file:
            header = _read_header(path, (file.metadata() or {}).get(ENTRY))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no dict
    except SafetensorError as error:
        told = other_kind(path) or (
            f"is damaged or no .safetensors file ({error}); copy it again, or convert a file of the official code with "
            "momentret checkpoint convert"
        )
        raise CheckpointError(f"{path} {told}") from error
    weights = {name: value.float() for name, value in weights.items()}
    return Checkpoint(header["model"], header["config"], weights, *(header[name] for name in _LAST))


_LAST = ("inputs", "features", "postprocess", "trained_on")
_TYPES: dict[str, Any] = {
    "model": str,
    "config": dict,
    "inputs": dict,
    "features": dict | None,
    "postprocess": dict,
    "trained_on": dict,
}


def other_kind(path: Path) -> str | None:
    """Say of a sound file that it is a checkpoint of ours or a run's training state; None: neither.

    For whoever expects something else of it: the end of a sentence that begins with the path.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb"):
        pass
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("data.pkl")]
            start = archive.open(names[0]).read(1 << 20) if names else b""  # the key is among the first
    except (zipfile.BadZipFile, NotImplementedError):
        return "is a momentret checkpoint already; use it as it is" if _is_ours(path) else None
    if b"pytorch-lightning_version" not in start:
        return None
    return "is the state that momentret train --resume goes on from; the model is best.safetensors beside it"


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return ENTRY in (file.metadata() or {})
    except SafetensorError:
        return False


def _read_header(path: Path, text: str | None) -> dict[str, Any]:
    """Return the checked header of our entry in a file's metadata."""
    try:
        header = json.loads(text or "null")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is not JSON ({error}); copy it again") from error
    if not isinstance(header, dict) or "format" not in header:
        raise CheckpointError(f"{path} holds weights but not a momentret checkpoint; train or convert one")
    if header["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {header['format']!r}, this version reads {FORMAT}; update momentret")
    for name, expected in _TYPES.items():
        if not isinstance(header.get(name), expected):
            raise CheckpointError(
                f"{path}: {name!r} is missing from the header or malformed; train or convert it again"
            )
    if header["model"] not in MODELS:
        raise CheckpointError(f"{path} holds the model {header['model']!r}{nearest(header['model'], list(MODELS))}")
    _require_clip_length(path, header["trained_on"])
    return header


def _require_clip_length(path: Path, trained_on: dict[str, Any]) -> None:
    value = trained_on.get("clip_length")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointError(f"{path}: trained_on.clip_length is {value!r}, expected seconds per feature row above 0")


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """Return the checkpoint's model with its weights, in evaluation mode.

    Raises:
        CheckpointError: config and weights do not fit each other.
    """
    config_class, model_class = MODELS[checkpoint.model_name]
    try:
        config = config_class(**checkpoint.config)
        with torch.device("meta"):  # sizes only: a config cannot ask for memory that the file does not hold
            model: nn.Module = model_class(config)
    except (TypeError, RuntimeError, OverflowError, ConfigError) as error:
        raise CheckpointError(f"the checkpoint's config is not one of {checkpoint.model_name}: {error}") from error
    require_weights(checkpoint.weights, model)
    model.load_state_dict(checkpoint.weights, assign=True)
    return model.requires_grad_().eval()


def require_weights(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Raise `CheckpointError` for the first weight that is missing, unknown, or of another shape than the model's."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(set(expected) ^ set(weights)):
        state = "is missing from" if name in expected else "is unknown in"
        raise CheckpointError(f"weight {name!r} {state} the checkpoint; it is not one of this model")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(
                f"weight {name!r} has the shape {tuple(weights[name].shape)}, the checkpoint's config makes it {shape}"
            )
