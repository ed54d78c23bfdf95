"""A fitted normaliser on disk: a folder of `state.safetensors` and `manifest.json`; nothing is ever unpickled.

manifest.json: {"format", "version", "library", "items", "gallery", "content", "config", "facts", "terms": [weight, …]};
state.safetensors: bias.0, active.0, bias.1, active.1; for gc also ordered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from momentret.errors import ConfigError, DataError, MismatchError
from momentret.files import atomic_write, refuse_existing, write_json
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.fitting import Facts, Term
from momentret.search.hubness.guard import GuardResult
from momentret.search.hubness.normaliser import HubnessNormaliser

__all__ = ["gallery_hash", "library_version", "load_normaliser", "save_normaliser"]

FORMAT, VERSION = "momentret-hubness", 1


def gallery_hash(ids: Sequence[str]) -> str:
    """Return a SHA-256 of gallery ids in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def save_normaliser(
    normaliser: HubnessNormaliser,
    folder: Path,
    gallery_ids: Sequence[str] | None = None,
    overwrite: bool = False,
    content: str | None = None,
) -> None:
    """Write a fitted normaliser; the manifest comes last, so a folder without one does not load.

    Args:
        normaliser: what to keep.
        folder: where.
        gallery_ids: ids of the gallery it was fitted for, where known.
        overwrite: replace another state.
        content: what tells the gallery's embeddings from others, where known.

    Raises:
        ConfigError: it is not fitted, or its method keeps nothing (transductive).
        OutputExistsError: there is one already.
    """
    from safetensors.torch import save

    if normaliser.items is None:
        raise ConfigError(f"nothing to save: method {normaliser.config.method!r} is not fitted on banks")
    manifest = folder / "manifest.json"
    refuse_existing(manifest, overwrite)
    with atomic_write(folder / "state.safetensors", "wb") as file:
        file.write(save({name: value.cpu().contiguous() for name, value in _tensors(normaliser).items()}))
    write_json(
        manifest,
        {
            "format": FORMAT,
            "version": VERSION,
            "library": library_version(),
            "items": normaliser.items,
            "gallery": None if gallery_ids is None else gallery_hash(gallery_ids),
            "content": content,
            "config": asdict(normaliser.config),
            "facts": asdict(normaliser.facts),
            "terms": [term.weight for term in normaliser.terms],
        },
    )


def _tensors(normaliser: HubnessNormaliser) -> dict[str, Tensor]:
    tensors = {f"bias.{i}": term.bias for i, term in enumerate(normaliser.terms)}
    tensors |= {f"active.{i}": term.active for i, term in enumerate(normaliser.terms) if term.active is not None}
    if normaliser.ordered is not None:
        tensors["ordered"] = normaliser.ordered
    return tensors


def load_normaliser(
    folder: Path, gallery_ids: Sequence[str] | None = None, content: str | None = None
) -> HubnessNormaliser:
    """Read a fitted normaliser.

    Args:
        folder: where `save_normaliser` wrote.
        gallery_ids: ids of the gallery it will be applied to, compared with those it was fitted for, where known.
        content: likewise.

    Raises:
        DataError: a file is missing or damaged, or of another version.
        MismatchError: it was fitted for another gallery.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tensors = load((folder / "state.safetensors").read_bytes())
    except (ValueError, RecursionError, SafetensorError) as error:
        raise DataError(f"{folder} holds no readable hubness state ({error}); fit again") from error
    _check_manifest(manifest, folder)
    if gallery_ids is not None and manifest["gallery"] not in (None, gallery_hash(gallery_ids)):
        raise MismatchError(f"{folder} was fitted for another gallery (other ids or order); fit it for this one")
    if content is not None and manifest.get("content") not in (None, content):
        raise MismatchError(f"{folder} was fitted for other gallery embeddings, or another --metric; fit it for these")
    try:
        return _rebuild(manifest, tensors)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise DataError(f"{folder}: manifest and state do not belong together ({error!r}); fit again") from error


def _check_manifest(manifest: Any, folder: Path) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{folder}/manifest.json is not of a hubness state; expected format {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise DataError(f"{folder} is of version {manifest.get('version')!r}, this library reads {VERSION}; fit again")


def _rebuild(manifest: dict[str, Any], tensors: dict[str, Tensor]) -> HubnessNormaliser:
    normaliser = HubnessNormaliser(HubnessConfig(**manifest["config"]))
    facts = dict(manifest["facts"])
    guard = facts.pop("guard")
    normaliser.facts = Facts(**facts, guard=None if guard is None else GuardResult(**guard))
    normaliser.items = int(manifest["items"])
    normaliser.ordered = tensors.get("ordered")
    normaliser.terms = tuple(
        Term(tensors[f"bias.{i}"].double(), float(weight), tensors.get(f"active.{i}"))
        for i, weight in enumerate(manifest["terms"])
    )
    for name, value in tensors.items():
        assert value.shape[0] == normaliser.items, name
        assert name == "ordered" or bool(value.isfinite().all()), name
    return normaliser


def library_version() -> str:
    """Return the installed version of momentret, or ``unknown``."""
    try:
        return version("momentret")
    except PackageNotFoundError:
        return "unknown"
