"""Folders with one feature file an item, as the community's packages have them: ``clip_features/<vid>.npz``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import FeatureError
from momentret.features.layouts import Family
from momentret.features.manifest import SourceManifest
from momentret.features.readers import check_rows, read_array, read_facts
from momentret.features.sources import Loaded, check_id, describe, find_path, folder_names

__all__ = ["FolderSource", "Pattern"]


class Pattern:
    """A path with an id in it, below a folder that was found: ``clip_text_features/qid{qid}.npz``."""

    def __init__(self, folder: Path, rest: str) -> None:
        self.folder, self.rest = folder, rest

    @classmethod
    def find(cls, root: Path, pattern: str) -> Pattern | None:
        """Find the folders before the id, whatever their case; None if they are not there."""
        parts = pattern.split("/")
        fixed = next(i for i, part in enumerate(parts) if "{" in part)
        folder = find_path(root, "/".join(parts[:fixed]))
        return None if folder is None or not folder.is_dir() else cls(folder, "/".join(parts[fixed:]))

    def path(self, item_id: str) -> Path | None:
        """Return where the item would lie; None if the id does not have the pattern's form."""
        if "{k}" not in self.rest:
            return self.folder / self.rest.format(vid=item_id, qid=item_id)
        video_id, _, number = item_id.rpartition("_")
        return self.folder / self.rest.format(vid=check_id(video_id), k=number) if video_id and number else None

    def files(self) -> Iterator[tuple[Path, str]]:
        """Yield ``(path, id)`` of every file that fits."""
        yield from _walk(self.folder, self.rest.split("/"), ())

    @property
    def literals(self) -> int:
        """Number of fixed characters: of two patterns that fit a file, the one with more is meant."""
        return len(re.sub(r"{\w+}", "", self.rest))


def _walk(folder: Path, parts: Sequence[str], found: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    expression = re.compile(re.sub(r"\\{\w+\\}", "(.+)", re.escape(parts[0])), re.DOTALL)
    for name in folder_names(folder):
        match = expression.fullmatch(name)
        if match is None:
            continue
        if len(parts) > 1:
            yield from _walk(folder / name, parts[1:], found + match.groups())
        else:
            yield folder / name, "_".join(found + match.groups())


class FolderSource:
    """A family of files; of several patterns, the first that has the item's file counts."""

    def __init__(self, manifest: SourceManifest, family: Family, patterns: Sequence[Sequence[Pattern]]) -> None:
        self.manifest, self.family, self.patterns = manifest, family, patterns

    @classmethod
    def open(cls, root: Path, name: str, family: Family) -> FolderSource | None:
        """Find the family's folders and learn dimension and number format from a few files.

        Returns:
            None if no folder of the family is there.

        Raises:
            FeatureError: the folders hold no readable feature file.
        """
        patterns = []
        for alternative in family.files:
            parts = [Pattern.find(root, part.replace("{family}", name)) for part in alternative.split(" + ")]
            if all(parts):
                patterns.append([part for part in parts if part is not None])
        if not patterns:
            return None
        source = cls(SourceManifest(name, 1), family, patterns)
        source.manifest = source._learn(name)
        return source

    def _learn(self, name: str) -> SourceManifest:
        ids = self.ids()
        if not ids:
            first = self.patterns[0][0]
            raise FeatureError(f"{first.folder} holds no file {first.rest}; unpack the features there")
        facts: dict[str, Any] = {}
        if self.family.self_described:
            facts = read_facts(self._alternatives(ids[0])[0][0])
        return replace(describe(name, self.family, ids, self._load), **facts)

    def ids(self) -> list[str]:
        """Return the ids of all files, sorted."""
        found: dict[Path, tuple[int, str]] = {}
        for first, *_ in self.patterns:
            for path, item_id in first.files():
                found[path] = max(found.get(path, (-1, "")), (first.literals, item_id))
        return sorted({item_id for _, item_id in found.values()})

    def __contains__(self, item_id: str) -> bool:
        return any(all(path.exists() for path in paths) for paths in self._alternatives(item_id))

    def read(self, item_id: str) -> np.ndarray:
        """Return the rows ``(L, D)`` of one item; see `FeatureSource`."""
        return check_rows(*self._load(item_id), self.manifest.dimension)

    def where(self, item_id: str) -> str:
        """Say which files hold the item, or would."""
        tried = " or ".join(_join_names(paths) for paths in self._alternatives(item_id))
        return f"{self.manifest.family} features of {item_id!r} ({tried or 'an id of another form'})"

    def _alternatives(self, item_id: str) -> list[list[Path]]:
        """Return the files that may hold an item, in the order in which they are tried."""
        check_id(item_id)
        places = ([part.path(item_id) for part in pattern] for pattern in self.patterns)
        return [[path for path in paths if path] for paths in places if all(paths)]

    def _load(self, item_id: str) -> Loaded:
        for paths in self._alternatives(item_id):
            try:
                columns = [self._select(read_array(path, self.family.keys), path) for path in paths]
            except FileNotFoundError:
                continue
            return _join_columns(columns, _join_names(paths)), _join_names(paths)
        raise FeatureError(f"{self.where(item_id)} are missing; extract them or leave the item out")

    def _select(self, array: np.ndarray, path: Path) -> np.ndarray:
        select: tuple[Any, ...] = (slice(None), *self.family.select)
        if array.ndim != len(select) + 1:
            raise FeatureError(f"{path} has shape {array.shape}, expected {len(select) + 1} axes; extract again")
        try:
            return array[select]
        except IndexError as error:
            raise FeatureError(f"{path} has shape {array.shape}, too small for {self.family.select}") from error


def _join_names(paths: Sequence[Path]) -> str:
    return " + ".join(map(str, paths))


def _join_columns(columns: Sequence[np.ndarray], name: str) -> np.ndarray:
    if len(columns) == 1:
        return columns[0]
    if any(array.ndim != 2 or len(array) != len(columns[0]) for array in columns):
        shapes = " and ".join(str(array.shape) for array in columns)
        raise FeatureError(f"{name} have shapes {shapes}, expected as many rows in each; extract again")
    return np.concatenate(columns, axis=1)
