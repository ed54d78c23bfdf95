"""Families in one HDF5 file, a data set an item. Links and numbers kept in other files are never followed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import FeatureError
from momentret.features.layouts import Family
from momentret.features.manifest import SourceManifest
from momentret.features.readers import as_float, check_rows, check_size
from momentret.features.sources import Loaded, check_id, describe, find_path

__all__ = ["Hdf5Source"]

_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)  # what h5py makes of broken files


class Hdf5Source:
    """A family in one HDF5 file, opened once a process."""

    def __init__(self, manifest: SourceManifest, path: Path, keys: Sequence[str]) -> None:
        self.manifest, self.path, self.keys = manifest, path, keys
        self._file: tuple[int, Any] | None = None

    @classmethod
    def open(cls, root: Path, name: str, family: Family) -> Hdf5Source | None:
        """Find the file and learn dimension and number format from a few items.

        Returns:
            None if there is no such file.

        Raises:
            FeatureError: it is damaged or holds no readable item.
        """
        found = (find_path(root, pattern.replace("{family}", name)) for pattern in family.files)
        path = next((path for path in found if path is not None and path.is_file()), None)
        if path is None:
            return None
        source = cls(SourceManifest(name, 1), path, family.keys)
        ids = source.ids()
        if not ids:
            raise FeatureError(f"{path} holds no items; get it again")
        source.manifest = describe(name, family, ids, source._load)
        return source

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _root(self) -> Any:
        """Return the open file; every process opens its own, HDF5 does not survive a fork."""
        if self._file is None or self._file[0] != os.getpid():
            import h5py

            try:
                self._file = os.getpid(), h5py.File(self.path, "r")
            except _DAMAGE as error:
                raise FeatureError(f"{self.path} is not a whole HDF5 file ({error}); get it again") from error
        return self._file[1]

    def ids(self) -> list[str]:
        """Return the names at the top of the file, sorted."""
        try:
            return sorted(self._root())
        except _DAMAGE as error:
            raise FeatureError(f"{self.path} is damaged ({error}); get it again") from error

    def __contains__(self, item_id: str) -> bool:
        return self._dataset(item_id) is not None

    def read(self, item_id: str) -> np.ndarray:
        """Return the rows ``(L, D)`` of one item; see `FeatureSource`."""
        return check_rows(*self._load(item_id), self.manifest.dimension)

    def where(self, item_id: str) -> str:
        """Say where in the file the item lies, or would."""
        names = " or ".join(key.format(vid=item_id, qid=item_id) for key in self.keys)
        return f"{self.manifest.family} features of {item_id!r} ({self.path}, {names})"

    def _load(self, item_id: str) -> Loaded:
        dataset = self._dataset(item_id)
        if dataset is None:
            raise FeatureError(f"{self.where(item_id)} are missing; extract them or leave the item out")
        return _read_dataset(dataset, self.where(item_id)), self.where(item_id)

    def _dataset(self, item_id: str) -> Any:
        """Return the item's data set, reached without following any link; None if there is none."""
        check_id(item_id)
        try:
            found = (_follow(self._root(), key.format(vid=item_id, qid=item_id)) for key in self.keys)
            return next((dataset for dataset in found if dataset is not None), None)
        except _DAMAGE as error:
            raise FeatureError(f"{self.where(item_id)} are damaged ({error}); get the file again") from error


def _follow(group: Any, names: str) -> Any:
    import h5py

    node = group
    for name in names.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(name, getlink=True), h5py.HardLink):
            return None
        node = node[name]
    return node if isinstance(node, h5py.Dataset) else None


def _read_dataset(dataset: Any, where: str) -> np.ndarray:
    """Read a data set after looking at what it declares."""
    try:
        if dataset.external or dataset.is_virtual:
            raise FeatureError(f"{where} keep their numbers in other files, which are not read; repack the file")
        size = dataset.dtype.itemsize
        unpacked = max(dataset.size or 0, math.prod(dataset.chunks or (0,))) * size
        check_size(unpacked, dataset.id.get_storage_size(), where)
        return as_float(np.asarray(dataset[()]), where)
    except _DAMAGE as error:
        raise FeatureError(f"{where} are damaged ({error}); get the file again") from error
