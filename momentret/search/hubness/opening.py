"""Everything a hubness command is given, opened and checked against one another."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from momentret.errors import ConfigError
from momentret.search.hubness.checking import check_banks, require_other_ids
from momentret.search.hubness.reading import read_source
from momentret.search.hubness.rows import MatrixRows, ProductRows, Rows

__all__ = ["BACKWARD", "FORWARD", "Inputs", "open_inputs"]

log = logging.getLogger(__name__)
TRANSPOSABLE = ("similarities", "query-bank", "gallery-bank")
FORWARD, BACKWARD = "query-to-gallery", "gallery-to-query"
OPPOSITE = {"queries": "gallery", "gallery": "queries", "query_bank": "gallery_bank", "gallery_bank": "query_bank"}


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
    direction: str = FORWARD

    def warn(self, message: str) -> None:
        """Log a warning, and keep it for the report; each once."""
        if message not in self.warnings:
            self.warnings.append(message)
            log.warning(message)


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
    direction: str = FORWARD,
    allow_overlap: bool = False,
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
        direction: `BACKWARD` lets gallery items ask and ranks the queries: embeddings change places, similarities are
            turned, and banks of similarities must be those of the other direction (training items × queries).
        allow_overlap: banks may hold items of the test set.

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
    if direction not in (FORWARD, BACKWARD):
        raise ConfigError(f"--direction is {direction!r}, expected {FORWARD} or {BACKWARD}")
    for name in transpose:
        if name not in TRANSPOSABLE:
            raise ConfigError(f"--transpose {name!r} is not an input; expected {', '.join(TRANSPOSABLE)}")
    specs = {"query_bank": query_bank, "gallery_bank": gallery_bank, "cross_bank": cross_bank, "live": live}
    specs |= {"queries": queries, "gallery": gallery} if gallery else {"similarities": similarities}
    turned = {name.replace("-", "_") for name in transpose}
    if direction == BACKWARD:
        if gallery and not queries:
            raise ConfigError(f"--direction {BACKWARD} ranks the queries, so --queries is needed too")
        specs = {OPPOSITE.get(name, name) if gallery else name: spec for name, spec in specs.items()}
        turned ^= set() if gallery else {"similarities"}
    inputs = _open({name: spec for name, spec in specs.items() if spec}, metric, turned, allow_overlap)
    inputs.direction = direction
    if inputs.S is not None:
        bank, other = inputs.banks.get("query_bank"), inputs.banks.get("gallery_bank")
        for warning in check_banks(inputs.S, bank, other, gallery is not None, allow_overlap):
            inputs.warn(warning)
    return inputs


def _open(specs: dict[str, str], metric: str, turned: Collection[str], allow_overlap: bool) -> Inputs:
    sources = {name: read_source(spec, _title(name)) for name, spec in specs.items()}
    facts = {name: source.facts for name, source in sources.items()}
    right, test = sources.pop("gallery", None), sources.get("similarities") or sources.get("queries")
    arrays = {name: source.array[:].T if name in turned else source.array for name, source in sources.items()}
    rows: dict[str, Rows] = {
        name: ProductRows(array, right.array, metric, _title(name)) if right else MatrixRows(array, _title(name))
        for name, array in arrays.items()
    }
    if right and {"query_bank", "gallery_bank"} <= set(arrays) and "cross_bank" not in arrays:
        rows["cross_bank"] = ProductRows(arrays["query_bank"], arrays["gallery_bank"], metric, "the cross bank")
    query_ids, gallery_ids = (test.row_ids, test.column_ids) if test else (None, None)
    if "similarities" in turned:
        query_ids, gallery_ids = gallery_ids, query_ids
    if right:
        gallery_ids = right.row_ids
    if not allow_overlap:
        for name, ids in (("query_bank", query_ids), ("gallery_bank", gallery_ids)):
            if name in sources and name not in turned:
                require_other_ids(sources[name].row_ids, ids, _title(name))
    S, live = rows.pop("similarities", None) or rows.pop("queries", None), rows.pop("live", None)
    inputs = Inputs(S, rows, live, query_ids, gallery_ids, facts, [])
    for name, source in sources.items():
        if source.cast:
            inputs.warn(f"{_title(name)}: {source.array.dtype} values are computed with as float32")
    return inputs


def _title(name: str) -> str:
    return "the live queries" if name == "live" else f"the {name.replace('_', ' ')}"
