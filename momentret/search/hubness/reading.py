"""Matrices and embeddings from files: .npy (mapped), .npz, .h5, .csv, .tsv, .parquet, .pt, feature stores, indexes.

Written ``path`` or ``path:key`` where a file holds several arrays. Nothing is ever unpickled.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import ConfigError, DataError
from momentret.search.hubness.arrays import Array, PickedArray, TurnedArray, pick_rows
from momentret.words import count_of

__all__ = ["READERS", "Source", "read_source"]

ID_COLUMNS = ("id", "query_id", "gallery_id", "Unnamed: 0")  # the last is what pandas reads a nameless one as
HASHED = 1 << 30  # bytes of the largest file that is hashed for the report


@dataclass(frozen=True)
class Source:
    """An array and where it came from."""

    array: Array
    path: Path
    row_ids: list[str] | None = None
    column_ids: list[str] | None = None

    @property
    def cast(self) -> bool:
        """True: the numbers are not float32 or float64, so they are computed with as float32."""
        return str(self.array.dtype).removeprefix("torch.") not in ("float32", "float64")

    def turned(self) -> Source:
        """Return the same numbers with rows and columns changed over."""
        hdf5 = not isinstance(self.array, PickedArray) and not hasattr(self.array, "T")
        array = TurnedArray(self.array) if hdf5 or isinstance(self.array, np.memmap) else self.array[:].T
        return replace(self, array=array, row_ids=self.column_ids, column_ids=self.row_ids)

    def picked(self, rows: np.ndarray) -> Source:
        """Return the rows at rising positions."""
        ids = None if self.row_ids is None else [self.row_ids[i] for i in rows]
        return replace(self, array=pick_rows(self.array, rows), row_ids=ids)

    @property
    def facts(self) -> dict[str, Any]:
        """Path, shape, number format and hash of the file, for reports."""
        facts = {"path": str(self.path), "shape": list(self.array.shape), "dtype": str(self.array.dtype)}
        return {**facts, "sha256": _sha256(self.path)}


def _sha256(path: Path) -> str | None:
    """Return the hash of a file; None for a folder, and for a file so large that reading it again would take long."""
    if path.is_dir() or path.stat().st_size > HASHED:
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def read_source(spec: str, name: str) -> Source:
    """Open an array by its ending.

    Args:
        spec: ``path``, or ``path:key``.
        name: what it is, for messages: ``the similarities``.

    Raises:
        DataError: unreadable, of another format, or not a matrix of numbers.
        ConfigError: it holds several arrays and none was named.
    """
    path, key = _split(spec)
    if not path.exists():
        raise DataError(f"{name}: {str(path)!r} does not exist")
    ending = "folder" if path.is_dir() else path.suffix.lower()
    reader = READERS.get(ending)
    if reader is None:
        hint = "; pickles are never loaded, save the array with numpy.save" if ending in (".pkl", ".pickle") else ""
        raise DataError(f"{name}: {path.name!r} ends in {ending!r}, expected {', '.join(READERS)}{hint}")
    source = reader(path, key)
    if len(source.array.shape) != 2 or 0 in source.array.shape:
        raise DataError(f"{name} ({path}) has shape {tuple(source.array.shape)}, expected two axes, none of them empty")
    kind = getattr(source.array.dtype, "kind", "f")
    if kind not in "fiub":
        raise DataError(f"{name} ({path}) holds {source.array.dtype} values, expected real numbers")
    for what, ids in (("row", source.row_ids), ("column", source.column_ids)):
        require_unique(ids, f"{name} ({path}): {what} id")
    return source


def require_unique(ids: Sequence[str] | None, name: str) -> None:
    """Raise `DataError` for the first id that comes twice."""
    seen: set[str] = set()
    for text in ids or ():
        if text in seen:
            raise DataError(f"{name} {text!r} comes twice; ids must be unique")
        seen.add(text)


def _split(spec: str) -> tuple[Path, str | None]:
    if Path(spec).exists() or ":" not in spec:
        return Path(spec), None
    path, key = spec.rsplit(":", 1)
    return Path(path), key


def _read_npy(path: Path, key: str | None) -> Source:
    try:
        return Source(np.load(path, mmap_mode="r", allow_pickle=False), path)
    except (ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{path} is not a NumPy array of plain numbers ({error}); save it again") from error


def _read_npz(path: Path, key: str | None) -> Source:
    from momentret.features.readers import check_size

    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                check_size(info.file_size, info.compress_size, path)
        with np.load(path, allow_pickle=False) as arrays:
            return Source(arrays[_choose(path, key, list(arrays.files))], path)
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is not a whole .npz file of plain numbers ({error}); save it again") from error


def _choose(path: Path, key: str | None, known: list[str]) -> str:
    if key is None and len(known) == 1:
        return known[0]
    if key is None or key not in known:
        shown = ", ".join(known[:10]) or "nothing"
        what = "no array was named" if key is None else f"there is no {key!r}"
        raise ConfigError(f"{path} holds {shown}: {what}; write {path.name}:NAME")
    return key


def _read_h5(path: Path, key: str | None) -> Source:
    """Open a data set by names alone; links and foreign storage are never followed."""
    import h5py

    try:
        node = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not a whole HDF5 file ({error}); get it again") from error
    for name in _choose(path, key.strip("/") if key else None, _data_sets(node)).split("/"):
        node = node[name]
    if node.external or node.is_virtual:
        raise DataError(f"{path} keeps its numbers in other files, which are not read; repack the file")
    return Source(node, path)


def _data_sets(group: Any, prefix: str = "") -> list[str]:
    import h5py

    found: list[str] = []
    for name in group:
        if type(group.get(name, getlink=True)) is h5py.HardLink:
            node = group[name]
            found += [prefix + name] if isinstance(node, h5py.Dataset) else _data_sets(node, f"{prefix}{name}/")
    return found


def _read_table(path: Path, key: str | None) -> Source:
    """Read a table: dense (optional header of gallery ids, optional first column of query ids) or long."""
    import pandas as pd

    names = None
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            names = _header(path, separator)
            text: dict[Hashable, type[str]] = dict.fromkeys(ID_COLUMNS, str)  # 007 is not 7
            table = pd.read_csv(path, sep=separator, header=None if names is None else 0, dtype=text)
    except ImportError as error:
        raise ConfigError(
            f"{path}: .parquet needs pyarrow: pip install 'momentret[parquet]'; or save as .npy"
        ) from error
    except (ValueError, OSError, pd.errors.ParserError) as error:  # pyarrow's errors are of these
        raise DataError(f"{path} is not a readable table ({error}); save it as .npy") from error
    if names is not None:
        require_unique(names, f"{path}: column id")  # pandas would rename the second one
    if table.empty:
        raise DataError(f"{path} is a table without numbers; give rows of queries and columns of the gallery")
    if {"query_id", "gallery_id", "score"} <= set(table.columns):
        return _from_long_table(table, path)
    return _from_table(table, path)


def _from_long_table(table: Any, path: Path) -> Source:
    """Spread rows of query_id, gallery_id, score; pairs that are not listed are masked (-inf)."""
    import pandas as pd

    keys = ["query_id", "gallery_id"]
    if table[keys].isna().any(axis=None) or table["score"].dtype.kind not in "fiub":
        raise DataError(f"{path}: an id is missing, or column 'score' does not hold numbers")
    repeated = table[table.duplicated(keys)]
    if len(repeated):
        pair = ", ".join(str(repeated.iloc[0][key]) for key in keys)
        raise DataError(f"{path}: {count_of(len(repeated), 'pair')} given twice (first: {pair}); keep one score")
    (rows, row_ids), (columns, column_ids) = (pd.factorize(table[key]) for key in keys)
    values = np.full((len(row_ids), len(column_ids)), -np.inf)
    values[rows, columns] = table["score"]
    return Source(values, path, [str(name) for name in row_ids], [str(name) for name in column_ids])


def _from_table(table: Any, path: Path) -> Source:
    first = table.columns[0]
    with_ids = table[first].dtype.kind not in "fiub" or str(first) in ID_COLUMNS
    row_ids = [str(value) for value in table[first]] if with_ids else None
    values = table.drop(columns=first) if with_ids else table
    text = [column for column in values.columns if values[column].dtype.kind not in "fiub"]
    if text:
        raise DataError(f"{path}: column {text[0]!r} does not hold numbers; only the first column may be ids")
    named = any(isinstance(column, str) for column in values.columns)
    return Source(values.to_numpy(), path, row_ids, [str(column) for column in values.columns] if named else None)


def _header(path: Path, separator: str) -> list[str] | None:
    """Return the names in the first line, or None if it holds numbers: other than 0, 1, 2, as pandas names columns."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        cells = next(csv.reader(file, delimiter=separator), [])
    counted = [str(i) for i in range(len(cells))]
    if cells == ["", *counted[:-1]] or (cells == counted and len(cells) > 2):
        return cells
    return None if all(_is_number(cell) for cell in cells[1:] or cells) else cells


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_pt(path: Path, key: str | None) -> Source:
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign files, which are then refused
            value = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds more than tensors or is damaged; save the tensor alone") from error
    if isinstance(value, dict):
        tensors = {str(name): part for name, part in value.items() if isinstance(part, torch.Tensor)}
        value = tensors[_choose(path, key, list(tensors))]
    if not isinstance(value, torch.Tensor):
        raise DataError(f"{path} holds a {type(value).__name__}, expected a tensor")
    if value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64):
        value = value.float()
    try:
        return Source(value.detach().numpy(), path)
    except (RuntimeError, TypeError) as error:
        raise DataError(f"{path} holds a tensor that is no plain array ({error}); save it dense") from error


def _read_store(path: Path, key: str | None) -> Source:
    """Open the vectors of a packed feature store or of a corpus index; row ids are ``id`` or ``id:row``."""
    from momentret.features.packed import PackedSource
    from momentret.search.hubness.corpus import clip_gallery
    from momentret.search.index import CorpusIndex

    if (path / "segments").is_dir():
        with CorpusIndex.open(path) as index:
            names, clips = clip_gallery(index)
        return Source(clips, path, row_ids=names)
    if not (path / "manifest.json").exists():
        raise DataError(f"{path} is a folder, but no feature store and no index; give the file of a matrix in it")
    source = PackedSource.load(path)
    parts = [(item_id, source.read(item_id)) for item_id in source.ids()]
    ids = [name if len(rows) == 1 else f"{name}:{i}" for name, rows in parts for i in range(len(rows))]
    return Source(np.concatenate([rows for _, rows in parts]), path, row_ids=ids)


READERS: dict[str, Callable[[Path, str | None], Source]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_table,
    ".pt": _read_pt,
    ".pth": _read_pt,
    "folder": _read_store,
}
