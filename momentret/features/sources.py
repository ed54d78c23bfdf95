"""What a feature source is, and what all kinds of source share: ids, paths, learning what the rows are.

A source is one family in one place. It hands out rows as they are on file: nothing is normalised, cut or joined here
(that is `momentret.inputs`). The kinds: `folder`, `hdf5` and, our own, `packed`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from momentret.errors import FeatureError
from momentret.features.layouts import Family
from momentret.features.manifest import SourceManifest
from momentret.features.readers import check_rows

__all__ = ["FeatureSource", "Loaded", "check_id", "describe", "find_path"]

PROBES = 5  # items looked at to learn dimension and number format: one damaged file does not decide

Loaded = tuple[np.ndarray, str]
"""An array as on file, and the file's name for messages."""


class FeatureSource(Protocol):
    """What a store needs of a family, wherever it lies."""

    @property
    def manifest(self) -> SourceManifest: ...

    def ids(self) -> list[str]:
        """Return the ids of all items, sorted."""
        ...

    def __contains__(self, item_id: str) -> bool: ...

    def read(self, item_id: str) -> np.ndarray:
        """Return the rows ``(L, D)`` of one item, float16 or float32 as on file; not to be written to.

        Raises:
            FeatureError: missing, damaged, or not a finite ``(L, D)`` array of the family's dimension.
        """
        ...

    def where(self, item_id: str) -> str:
        """Say where the item lies or would lie: family, id and the files tried."""
        ...


def check_id(item_id: str) -> str:
    """Return `item_id` if it can be part of a file name: ids come from users' files and must not leave the folder.

    Raises:
        FeatureError: it is empty, a dot name, or holds a path separator or a NUL.

    Example:
        >>> check_id("-x_y.0")
        '-x_y.0'
    """
    if item_id in ("", ".", "..") or any(character in item_id for character in "/\\\0"):
        raise FeatureError(
            f"id {item_id!r} cannot name features: it is empty, a dot name, or holds a path separator or NUL; rename it"
        )
    return item_id


def find_path(root: Path, relative: str) -> Path | None:
    """Return the path below `root`, the case of letters ignored where the exact name is absent; None if there is none.

    Raises:
        FeatureError: two names differ by case only and neither is the exact one.
    """
    path = root
    for name in Path(relative).parts:
        if not (path / name).exists():
            same = [other for other in folder_names(path) if other.lower() == name.lower()]
            if len(same) > 1:
                raise FeatureError(f"{path} holds {' and '.join(sorted(same))}; rename the right one to {name}")
            if not same:
                return None
            name = same[0]
        path = path / name
    return path if path.exists() else None


def folder_names(folder: Path) -> list[str]:
    """Return the names in a folder; none if it is no folder."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def describe(name: str, family: Family, ids: Sequence[str], load: Callable[[str], Loaded]) -> SourceManifest:
    """Return the manifest of a family: what its layout says, dimension and number format as most probed items have.

    Args:
        name: of the family.
        family: its entry in the table of layouts.
        ids: of all its items; at least one.
        load: reads one item, unchecked.

    Raises:
        FeatureError: none of the probed items can be read.
    """
    seen: Counter[tuple[int, str]] = Counter()
    damage: list[FeatureError] = []
    for item_id in ids[:: -(-len(ids) // PROBES)]:
        try:
            rows = check_rows(*load(item_id))
            seen[rows.shape[1], rows.dtype.name] += 1
        except FeatureError as error:
            damage.append(error)
    if not seen:
        raise damage[0]
    dimension, dtype = seen.most_common(1)[0][0]
    known = SourceManifest(name, dimension, family.clip_length, family.encoder, layer=family.layer, dtype=dtype)
    return replace(known, normalisation=family.normalisation)
