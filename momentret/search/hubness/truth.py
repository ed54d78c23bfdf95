"""Ground truth: which gallery items a query wants, from a rule or a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from momentret.errors import ConfigError, DataError
from momentret.search.hubness.opening import BACKWARD, Inputs
from momentret.search.hubness.retrieval import check_pairs

__all__ = ["match_truth", "read_truth"]


def match_truth(inputs: Inputs, spec: str, skip: bool = False) -> np.ndarray:
    """Return the ground truth of the inputs as positions of (query, item), ``(M, 2)``.

    Args:
        inputs: what was opened; with `skip`, queries without a positive are taken out of it.
        spec: see `read_truth`; it names (query, item) in whichever direction the inputs are.
        skip: leave queries without a positive out, instead of refusing them.

    Raises:
        ConfigError: there are no queries.
        DataError: it does not fit the inputs.
    """
    if inputs.S is None:
        raise ConfigError("ground truth is of queries, and none were given")
    queries, items = inputs.S.shape
    if inputs.direction == BACKWARD:  # the truth is always written as (query, item)
        pairs = read_truth(spec, (items, queries), inputs.gallery_ids, inputs.query_ids)[:, ::-1].copy()
    else:
        pairs = read_truth(spec, (queries, items), inputs.query_ids, inputs.gallery_ids)
    if skip and len(pairs) and 0 <= pairs[:, 0].min() <= pairs[:, 0].max() < queries:
        pairs = _without_others(inputs, pairs)
    check_pairs(pairs, inputs.S.shape)
    return pairs


def _without_others(inputs: Inputs, pairs: np.ndarray) -> np.ndarray:
    """Take queries without a positive out of the inputs; returns the pairs at the new positions."""
    assert inputs.S is not None
    kept, places = np.unique(pairs[:, 0], return_inverse=True)
    missing = inputs.S.shape[0] - len(kept)
    inputs.facts["truth"] = {"skipped_queries": missing}
    if missing:
        inputs.warn(f"{missing} of {inputs.S.shape[0]} queries have no positive in the ground truth: left out")
        inputs.S = inputs.S.pick(kept)
        inputs.query_ids = [inputs.query_ids[i] if inputs.query_ids else str(i) for i in kept.tolist()]
    return np.stack([places, pairs[:, 1]], axis=1)


def read_truth(
    spec: str, shape: tuple[int, int], row_ids: list[str] | None, column_ids: list[str] | None
) -> np.ndarray:
    """Return ground truth as positions of (query, item), ``(M, 2)``.

    Args:
        spec: ``diag``; ``captions:N`` (query i wants item i // N); or a .csv file of query_id, gallery_id.
        shape: of the similarities.
        row_ids: query ids; without them a file names positions.
        column_ids: gallery ids, likewise.

    Raises:
        DataError: it does not fit the matrix, or names unknown ids.
    """
    queries, items = shape
    if spec == "diag":
        if queries != items:
            raise DataError(
                f"ground truth 'diag' needs a square matrix, this one is {queries} × {items}; use captions:N"
            )
        return np.stack([np.arange(queries)] * 2, axis=1)
    if spec.startswith("captions:"):
        number = spec.removeprefix("captions:")
        if not number.isdigit() or int(number) < 1 or queries != int(number) * items:
            raise DataError(f"ground truth {spec!r} does not fit {queries} queries and {items} items")
        return np.stack([np.arange(queries), np.arange(queries) // int(number)], axis=1)
    return _read_pairs(Path(spec), row_ids, column_ids)


def _read_pairs(path: Path, row_ids: list[str] | None, column_ids: list[str] | None) -> np.ndarray:
    import pandas as pd

    if not path.exists():
        raise DataError(f"ground truth: {str(path)!r} is neither diag, captions:N nor a file")
    try:
        table = pd.read_csv(path, dtype=str)
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is not a readable table ({error}); expected columns query_id,gallery_id") from error
    if not {"query_id", "gallery_id"} <= set(table.columns):
        raise DataError(f"{path} has columns {', '.join(table.columns)}, expected query_id,gallery_id")
    columns = []
    for name, ids in (("query_id", row_ids), ("gallery_id", column_ids)):
        places = {text: i for i, text in enumerate(ids)} if ids else None
        try:
            columns.append([int(text) if places is None else places[text] for text in table[name].fillna("")])
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: {name} {error} is unknown; expected an id of the matrix or a position") from error
    return np.array(columns).T
