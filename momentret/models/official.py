"""Reads checkpoints of the official Moment-DETR code and of Lighthouse, without executing anything in them.

Those are pickles, and a pickle can call any function. Here only a handful of names are known, each to a harmless
stand-in of ours; every other name is refused. Tensors are read from the archive by us, and only those of the model.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from momentret.errors import CheckpointError, ConfigError
from momentret.features import SourceManifest, StoreManifest
from momentret.features.layouts import LAYOUTS
from momentret.models.checkpoint import other_kind, require_weights
from momentret.models.moment_detr import MomentDETR, MomentDETRConfig

__all__ = [
    "DATASET_NAMES",
    "FAMILIES",
    "ORDERS",
    "OfficialCheckpoint",
    "feature_manifest",
    "input_fields",
    "model_config",
    "read_official",
    "reorder_columns",
    "video_families",
]

FAMILIES = {"slowfast": 2304, "clip": 512}
"""Video feature families of released checkpoints and their widths, in the order of the official code."""

ORDERS = {"official": ("slowfast", "clip"), "lighthouse": ("clip", "slowfast")}
"""The order in which each code base joins the families."""

DATASET_NAMES = {
    "hl": "qvhighlights",
    "qvhighlight": "qvhighlights",
    "qvhighlight_pretrain": "qvhighlights",
    "charades": "charades_sta",
    "activitynet": "activitynet",
    "tacos": "tacos",
    "tvsum": "tvsum",
    "youtube_highlight": "youtube_highlights",
}
"""``dset_name`` of either code base -> our name."""

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

OPTION_NAMES = {
    "nheads": "heads",
    "dropout": "dropout",
    "input_dropout": "input_dropout",
    "use_txt_pos": "text_positions",
    "aux_loss": "auxiliary_losses",
    "temperature": "temperature",
    "set_cost_span": "cost_span",
    "set_cost_giou": "cost_giou",
    "set_cost_class": "cost_label",
    "span_loss_coef": "weight_span",
    "giou_loss_coef": "weight_giou",
    "label_loss_coef": "weight_label",
    "lw_saliency": "weight_saliency",
    "contrastive_align_loss_coef": "weight_contrastive",
    "eos_coef": "background_weight",
    "saliency_margin": "saliency_margin",
}
"""Options that the weights do not show -> fields of `MomentDETRConfig`."""


class OfficialCheckpoint(NamedTuple):
    """What is read of such a file."""

    weights: dict[str, Tensor]
    """By parameter name, float32."""
    options: dict[str, Any]
    """The options of the training run, nested ones as dictionaries."""
    epoch: int | None
    """Counted from 0."""
    source: str
    """``official`` or ``lighthouse``, told by how the options are stored."""


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint that the official code or Lighthouse wrote with ``torch.save``.

    Raises:
        CheckpointError: the file is of another kind or damaged, asks for anything but plain values and tensors, or
            holds no model.
        OSError: it cannot be opened.
    """
    if other := other_kind(path):
        raise CheckpointError(f"{path} {other}")
    try:
        with zipfile.ZipFile(path) as archive:
            root = _Archive(path, archive)
            content = root.unpickle()
            weights = _weights(path, content, root)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is damaged or was not written by torch.save of torch 1.6 or newer ({error}); download it again, "
            "or load and save it once with the code that made it"
        ) from error
    options, epoch = content.get("opt"), content.get("epoch")
    return OfficialCheckpoint(
        weights=weights,
        options=_plain(options) if isinstance(options, _Namespace | dict) else {},
        epoch=epoch if isinstance(epoch, int) else None,
        source="lighthouse" if isinstance(options, dict) else "official",
    )


# ---- reading --------------------------------------------------------------


class _Namespace:
    """Stands in for argparse.Namespace."""


class _Dict(dict[Any, Any]):
    """Stands in for easydict.EasyDict and collections.OrderedDict."""


@dataclass
class _Storage:
    """A piece of the archive that holds numbers."""

    key: str
    dtype: torch.dtype


@dataclass
class _Recipe:
    """A tensor that has not been read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _recipe(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Recipe:
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or len(shape) != len(stride):
        raise CheckpointError("a tensor is malformed")
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise CheckpointError("a tensor is malformed")
    return _Recipe(storage, offset, tuple(shape), tuple(stride))


def _device(*arguments: Any) -> str:
    return ":".join(map(str, arguments))


KNOWN: dict[tuple[str, str], Any] = {
    ("argparse", "Namespace"): _Namespace,
    ("collections", "OrderedDict"): _Dict,
    ("easydict", "EasyDict"): _Dict,
    ("torch", "device"): _device,
    ("torch._utils", "_rebuild_tensor_v2"): _recipe,
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


# The unpickler in Python rather than C: its memo is a dictionary, so no index in a file can make it fill the memory.
class _Unpickler(pickle._Unpickler):
    def load_build(self) -> None:
        """Give an object its attributes: only stand-ins have any, so a file cannot reach into functions or classes."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, target = stack.pop(), stack[-1]
        if not isinstance(target, _Namespace | _Dict) or not isinstance(state, dict):
            raise CheckpointError("it sets attributes of what has none; do not trust this file")
        target.__dict__.update(state)

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # type: ignore[dict-item]  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise CheckpointError(f"it asks for {module}.{name}, which a model has no need of; do not trust this file")
        return KNOWN[module, name]

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, *_ = reference
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise CheckpointError("a tensor storage is malformed")
        return _Storage(key, dtype)


class _Archive:
    """The zip file of torch.save: ``<name>/data.pkl`` and one ``<name>/data/<key>`` for each storage."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError(f"{path} is compressed, which torch.save never does; do not trust this file")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointError(f"{path} says it holds more than its own size; do not trust this file")
        roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(f"{path} is a zip file, but not one that torch.save wrote: it has no data.pkl")
        self.root = roots[0]
        if f"{self.root}byteorder" in archive.namelist() and self._read("byteorder") != b"little":
            raise CheckpointError(f"{path} was written on a big-endian machine; save it again on a little-endian one")

    def _read(self, name: str) -> bytes:
        try:
            return self.archive.read(self.root + name)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{self.path}: {name!r} cannot be read ({error}); download it again") from error

    def unpickle(self) -> Any:
        """Return the pickled object with stand-ins for everything but plain values."""
        try:
            return _Unpickler(BytesIO(self._read("data.pkl"))).load()
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: refused, {error}") from error
        except Exception as error:  # a hostile pickle can make its reader raise anything
            raise CheckpointError(f"{self.path}: its pickle is damaged ({error!r:.200}); download it again") from error

    def tensor(self, recipe: _Recipe) -> Tensor:
        """Read one tensor, as float32."""
        data = self._read(f"data/{recipe.storage.key}")
        size = recipe.storage.dtype.itemsize
        last = recipe.offset + sum((n - 1) * step for n, step in zip(recipe.shape, recipe.stride, strict=True))
        if (last + 1) * size > len(data) or math.prod(recipe.shape) * size > len(data):
            raise CheckpointError(f"{self.path}: a tensor reaches beyond its storage; download it again")
        numbers = torch.frombuffer(bytearray(data[: len(data) // size * size]), dtype=recipe.storage.dtype)
        return numbers.as_strided(recipe.shape, recipe.stride, recipe.offset).float().clone()


def _weights(path: Path, content: Any, archive: _Archive) -> dict[str, Tensor]:
    """Read the tensors of the model and leave the optimiser's where they are."""
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, _Recipe) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict under 'model'; it is no Moment-DETR checkpoint")
    return {str(name): archive.tensor(recipe) for name, recipe in state.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """Return options as plain values: stand-ins become dictionaries, whatever else is odd its name."""
    if isinstance(value, _Namespace):
        value = vars(value)
    if depth < 20 and isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if depth < 20 and isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


# ---- meaning --------------------------------------------------------------


def model_config(weights: dict[str, Tensor], options: dict[str, Any]) -> MomentDETRConfig:
    """Return the config of a checkpoint: sizes from the weights themselves, the rest from the options.

    Raises:
        CheckpointError: the weights are not those of a Moment-DETR, or an option has an impossible value.
    """
    values = {ours: options[theirs] for theirs, ours in OPTION_NAMES.items() if options.get(theirs) is not None}
    try:
        config = MomentDETRConfig(**values, **_sizes(weights))
        with torch.device("meta"):
            model = MomentDETR(config)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise CheckpointError(
            f"the checkpoint is not a Moment-DETR ({error}); only Moment-DETR checkpoints can be converted"
        ) from error
    require_weights(weights, model)
    return config


def _sizes(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Read sizes off the weights."""
    spans, hidden = weights["span_embed.layers.2.weight"].shape
    sizes = {
        "video_dim": len(weights["input_vid_proj.0.LayerNorm.weight"]),
        "text_dim": len(weights["input_txt_proj.0.LayerNorm.weight"]),
        "max_words": len(weights["txt_position_embed.position_embeddings.weight"]),
        "slots": len(weights["query_embed.weight"]),
        "hidden_dim": hidden,
        "feedforward_dim": len(weights["transformer.encoder.layers.0.linear1.bias"]),
        "encoder_layers": _count(weights, "transformer.encoder.layers.{}.linear1.bias"),
        "decoder_layers": _count(weights, "transformer.decoder.layers.{}.linear1.bias"),
        "input_projections": _count(weights, "input_vid_proj.{}.net.1.weight"),
        "pre_norm": "transformer.encoder.norm.weight" in weights,
        "span_loss": "l1" if spans == 2 else "ce",
    }
    if spans != 2:
        sizes["max_clips"] = spans // 2
    contrastive = weights.get("contrastive_align_projection_query.weight")
    if contrastive is not None:
        sizes |= {"contrastive": True, "contrastive_dim": len(contrastive)}
    return sizes


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    return next(i for i in range(len(weights) + 1) if pattern.format(i) not in weights)


def video_families(config: MomentDETRConfig, options: dict[str, Any], source: str) -> tuple[str, ...]:
    """Return the feature families of the video input in the order of its columns; empty if it sees no video.

    Args:
        config: of `model_config`.
        options: ``ctx_mode`` tells whether temporal endpoints are appended (default: yes).
        source: a key of `ORDERS`: which order a model of both families was trained with.

    Raises:
        CheckpointError: the width fits no set of known families (audio, or features of another kind).
    """
    width = config.widths[0] - 2 * ("tef" in str(options.get("ctx_mode", "video_tef")))
    for families in ((), ("clip",), ("slowfast",), ORDERS[source]):
        if width == sum(FAMILIES[name] for name in families):
            return tuple(families)
    raise CheckpointError(
        f"the video input is {config.video_dim} wide, which fits no set of {', '.join(FAMILIES)} features with "
        "temporal endpoints; only such checkpoints can be converted"
    )


def feature_manifest(families: Sequence[str], config: MomentDETRConfig, clip_length: float) -> dict[str, Any]:
    """Return what is known of the features such a model was trained on: a `features.StoreManifest` as a dictionary."""
    package = LAYOUTS["moment_detr"]
    video = [
        SourceManifest(name, FAMILIES[name], clip_length, encoder=package.video[name][0].encoder) for name in families
    ]
    words = package.text["clip"][0]
    text = SourceManifest("clip", config.widths[1], encoder=words.encoder, layer=words.layer)
    return StoreManifest(tuple(video), text).to_dict()


def input_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `inputs.InputConfig` that the options ask for."""
    context = str(options.get("ctx_mode", "video_tef"))
    caps = {ours: options.get(theirs, default) for ours, theirs, default in _CAPS}
    return {
        **{name: cap if isinstance(cap, int) and cap > 0 else None for name, cap in caps.items()},  # -1: no limit
        "normalise_video": not options.get("no_norm_vfeat", False),
        "normalise_text": not options.get("no_norm_tfeat", False),
        "use_video": "video" in context,
        "temporal_endpoints": "tef" in context,
    }


_CAPS = (("max_clips", "max_v_l", 75), ("max_words", "max_q_l", 32))


def reorder_columns(weights: dict[str, Tensor], found: Sequence[str], wanted: Sequence[str]) -> dict[str, Tensor]:
    """Return weights for video features joined in the `wanted` order instead of the `found` one.

    Raises:
        ValueError: the two do not name the same families.
    """
    if sorted(found) != sorted(wanted):
        raise ValueError(f"cannot order the features {','.join(found)} as {','.join(wanted)}")
    total = len(weights["input_vid_proj.0.LayerNorm.weight"])
    starts, start = {}, 0
    for name in found:
        starts[name] = start
        start += FAMILIES[name]
    columns = [i for name in wanted for i in range(starts[name], starts[name] + FAMILIES[name])]
    order = torch.tensor([*columns, *range(start, total)])  # temporal endpoints stay last
    changed = {name: weights[f"input_vid_proj.0.{name}"][..., order] for name in _VIDEO_COLUMNS}
    return {**weights, **{f"input_vid_proj.0.{name}": value.contiguous() for name, value in changed.items()}}


_VIDEO_COLUMNS = ("LayerNorm.weight", "LayerNorm.bias", "net.1.weight")
