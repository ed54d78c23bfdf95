"""Work on a whole store: pack it, check every byte of it, sum it up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import FeatureError
from momentret.features.packed import PackedSource, staged_folder, write_family
from momentret.features.sources import FeatureSource
from momentret.features.store import FeatureStore
from momentret.progress import Progress, silent
from momentret.words import count_of, first_few

__all__ = ["check_store", "pack_store", "summarise_store"]

SPARE_ROWS = 2  # families of one video differ by a row or two: their frame rates divide the duration differently


def pack_store(
    store: FeatureStore,
    output: Path,
    *,
    ids: Collection[str] | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> None:
    """Copy a store into our packed format; it is there whole when this returns, and not at all before.

    Args:
        store: what to pack; rows are copied as they are on file.
        output: the folder to make.
        ids: videos and queries to keep; None keeps all.
        dtype: ``float16`` or ``float32`` to convert rows to; None keeps each family's own.
        overwrite: replace a packed store at `output`.
        progress: reports on the items.

    Raises:
        OutputExistsError: `output` exists and `overwrite` is false.
        FeatureError: an item is damaged, or an id is in no family.
    """
    families = [(name, source, _kept(source, ids)) for name, source in store.families()]
    if ids is not None:
        _require_known(set(ids) - {item for _, _, kept in families for item in kept})
    with staged_folder(output, overwrite) as folder:
        for name, source, kept in families:
            items = progress(kept, f"pack {name}", len(kept))
            manifest = replace(source.manifest, dtype=dtype or source.manifest.dtype)
            write_family(folder / name, manifest, ((item, _converted(source.read(item), dtype)) for item in items))


def _kept(source: FeatureSource, ids: Collection[str] | None) -> list[str]:
    wanted = None if ids is None else set(ids)
    return [item for item in source.ids() if wanted is None or item in wanted]


def _require_known(unknown: set[str]) -> None:
    if unknown:
        raise FeatureError(
            f"{count_of(len(unknown), 'id')} in no family: {first_few(sorted(unknown))}; correct the list"
        )


def _converted(rows: np.ndarray, dtype: str | None) -> np.ndarray:
    if dtype is None:
        return rows
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused when it is written
        return rows.astype(dtype, copy=False)


def check_store(store: FeatureStore, progress: Progress = silent) -> list[str]:
    """Read every item and return what is wrong, a line each; empty if nothing is.

    Looked at: whether each item can be read and is a finite array of the right width, checksums of packed items,
    videos that only some of the families have, and families that differ by more than two rows for one video.
    """
    problems: list[str] = []
    rows: dict[str, dict[str, int]] = {}
    for name, source in store.families():
        ids = source.ids()
        rows[name] = {}
        for item in progress(ids, f"check {name}", len(ids)):
            try:
                rows[name][item] = _check_item(source, item)
            except FeatureError as error:
                rows[name][item] = 0
                problems.append(str(error))
    video = {name: lengths for name, lengths in rows.items() if name.startswith("video/")}
    return problems + list(_absent(video)) + list(_uneven(video))


def _check_item(source: FeatureSource, item: str) -> int:
    """Return the item's number of rows after reading every byte of it."""
    if isinstance(source, PackedSource):
        source.check(item)
    return len(source.read(item))


def _absent(video: dict[str, dict[str, int]]) -> Iterator[str]:
    every = set().union(*video.values())
    for name, lengths in video.items():
        absent = sorted(every - set(lengths))
        if absent:
            yield f"{name}: {len(absent)} of {count_of(len(every), 'video')} missing: {first_few(absent)}"


def _uneven(video: dict[str, dict[str, int]]) -> Iterator[str]:
    for item in sorted(set().union(*video.values())):
        lengths = {name: found[item] for name, found in video.items() if found.get(item)}
        if lengths and max(lengths.values()) - min(lengths.values()) > SPARE_ROWS:
            shown = ", ".join(f"{count_of(count, 'row')} in {name}" for name, count in lengths.items())
            yield f"video {item!r} has {shown}: more than {SPARE_ROWS} apart means different clip lengths"


def summarise_store(store: FeatureStore, progress: Progress = silent) -> dict[str, dict[str, Any]]:
    """Return the facts of every family by name: its manifest, numbers of items and rows, bytes, rows per item."""
    return {name: _summarise(name, source, progress) for name, source in store.families()}


def _summarise(name: str, source: FeatureSource, progress: Progress) -> dict[str, Any]:
    ids = source.ids()
    lengths = np.array([len(source.read(item)) for item in progress(ids, f"read {name}", len(ids))])
    manifest = source.manifest
    return {
        "manifest": manifest.to_dict(),
        "packed": isinstance(source, PackedSource),
        "items": len(ids),
        "rows": int(lengths.sum()),
        "bytes": int(lengths.sum()) * manifest.dimension * np.dtype(manifest.dtype).itemsize,
        "rows_per_item": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "mean": float(lengths.mean()),
            "max": int(lengths.max()),
        },
    }
