"""Everything a hubness command is given, opened and checked against one another."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from momentret.errors import ConfigError
from momentret.search.hubness.arrays import MatrixRows, ProductRows, Rows
from momentret.search.hubness.checking import check_banks
from momentret.search.hubness.reading import read_source

__all__ = ["Inputs", "open_inputs"]

log = logging.getLogger(__name__)
TRANSPOSABLE = ("similarities", "query-bank", "gallery-bank")


@dataclass
class Inputs:
    """What the user brought."""

    S: Rows | None
    """Test queries × gallery."""
    banks: dict[str, Rows]
    """By the argument names of `HubnessNormaliser.fit`."""
    live: Rows | None
    query_ids: list[str] | None
    gallery_ids: list[str] | None
    facts: dict[str, Any]
    """Path, shape and number format of every input, for the report."""
    warnings: list[str]


def open_inputs(
    similarities: str | None = None,
    *,
    queries: str | None = None,
    gallery: str | None = None,
    metric: str = "cosine",
    query_bank: str | None = None,
    gallery_bank: str | None = None,
    cross_bank: str | None = None,
    live: str | None = None,
    transpose: Collection[str] = (),
) -> Inputs:
    """Open matrices, or with a gallery embeddings; every input is ``path`` or ``path:key``.

    Args:
        similarities: test queries × gallery.
        queries: embeddings of the test queries, instead.
        gallery: embeddings of the gallery; all other inputs are embeddings then.
        metric: of embeddings, ``cosine`` or ``dot``.
        query_bank: training queries × gallery.
        gallery_bank: training gallery × gallery.
        cross_bank: query bank × gallery bank; from embeddings it follows.
        live: live queries × gallery.
        transpose: names of inputs that lie the other way round.

    Raises:
        ConfigError: the combination makes no sense.
        DataError: a file cannot be used.
        MismatchError: two inputs are not of one gallery.
    """
    if gallery and similarities:
        raise ConfigError("both similarities and --gallery were given; give one kind of input")
    if queries and not gallery:
        raise ConfigError("--queries holds embeddings, so --gallery is needed too")
    if metric not in ("cosine", "dot"):
        raise ConfigError(f"--metric is {metric!r}, expected cosine or dot")
    for name in transpose:
        if name not in TRANSPOSABLE:
            raise ConfigError(f"--transpose {name!r} is not an input; expected {', '.join(TRANSPOSABLE)}")
    specs = {
        "similarities": queries if gallery else similarities,
        "query_bank": query_bank,
        "gallery_bank": gallery_bank,
        "cross_bank": cross_bank,
        "live": live,
    }
    inputs = _open({k: v for k, v in specs.items() if v}, gallery, metric, [t.replace("-", "_") for t in transpose])
    if inputs.S is not None:
        bank, other = inputs.banks.get("query_bank"), inputs.banks.get("gallery_bank")
        inputs.warnings += check_banks(inputs.S, bank, other, gallery is not None)
    for warning in inputs.warnings:
        log.warning(warning)
    return inputs


def _open(specs: dict[str, str], gallery: str | None, metric: str, turned: Collection[str]) -> Inputs:
    right = read_source(gallery, "the gallery") if gallery else None
    sources = {name: read_source(spec, _title(name)) for name, spec in specs.items()}
    arrays = {name: source.array[:].T if name in turned else source.array for name, source in sources.items()}
    rows: dict[str, Rows] = {
        name: ProductRows(array, right.array, metric, _title(name)) if right else MatrixRows(array, _title(name))
        for name, array in arrays.items()
    }
    if right and {"query_bank", "gallery_bank"} <= set(arrays) and "cross_bank" not in arrays:
        rows["cross_bank"] = ProductRows(arrays["query_bank"], arrays["gallery_bank"], metric, "the cross bank")
    facts = {name: source.facts for name, source in sources.items()}
    test = sources.get("similarities")
    query_ids, gallery_ids = (test.row_ids, test.column_ids) if test else (None, None)
    if "similarities" in turned:
        query_ids, gallery_ids = gallery_ids, query_ids
    if right:
        facts["gallery"], gallery_ids = right.facts, right.row_ids
    S, live = rows.pop("similarities", None), rows.pop("live", None)
    return Inputs(S, rows, live, query_ids, gallery_ids, facts, [])


def _title(name: str) -> str:
    return "the live queries" if name == "live" else f"the {name.replace('_', ' ')}"
