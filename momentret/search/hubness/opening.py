"""Everything a hubness command is given, opened and checked against one another."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from momentret.errors import ConfigError, MismatchError
from momentret.search.hubness.arrays import Array
from momentret.search.hubness.checking import check_banks, few_rows, require_other_ids
from momentret.search.hubness.preparing import Preparing, prepare_banks
from momentret.search.hubness.reading import Source, read_source
from momentret.search.hubness.rows import MatrixRows, ProductRows, Rows, content_hash
from momentret.search.hubness.tuning import hold_out_rows
from momentret.words import count_of

__all__ = ["BACKWARD", "FORWARD", "Inputs", "open_inputs"]

logger = logging.getLogger(__name__)
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
    content: str | None
    """Metric and hash of the gallery's embeddings; None without embeddings."""
    facts: dict[str, Any]
    """Path, shape and number format of every input, for the report."""
    warnings: list[str]
    direction: str = FORWARD
    said: Collection[str] | None = None
    """Warnings of the other direction, if that was gone through before."""
    chosen_by: str = "automatic"
    """Where the settings come from, for the report."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What took how long, for the report."""

    def warn(self, message: str) -> None:
        """Log a warning, and keep it for the report; each once, and after the direction where it is the second."""
        if message in self.warnings:
            return
        self.warnings.append(message)
        if self.said is None or message not in self.said:
            logger.warning(message if self.said is None else f"{self.direction}: {message}")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how many seconds the block takes."""
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


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
    paired_banks: bool = False,
    preparing: Preparing | None = None,
    said: Collection[str] | None = None,
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
        paired_banks: the banks are embeddings and row i of both belong together: a tenth of them, held out, are the
            queries and the gallery.
        preparing: what is done with the banks.
        said: warnings of the other direction, if that was gone through before: they are not logged again.

    Raises:
        ConfigError: the combination makes no sense.
        DataError: a file cannot be used.
        MismatchError: two inputs are not of one gallery.
    """
    if paired_banks and (similarities or queries or gallery or not (query_bank and gallery_bank)):
        raise ConfigError(
            "--paired-banks takes queries and gallery from --query-bank and --gallery-bank, embeddings both; "
            "give these two and no similarities, --queries or --gallery"
        )
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
    sources = {name: read_source(spec, _title(name)) for name, spec in specs.items() if spec}
    if paired_banks:
        sources = _hold_out_pairs(sources["query_bank"], sources["gallery_bank"])
    embeddings = "gallery" in sources
    inputs = _open(sources, metric, turned, allow_overlap, preparing or Preparing(), direction=direction, said=said)
    _check(inputs, embeddings, allow_overlap)
    return inputs


def _hold_out_pairs(query_bank: Source, gallery_bank: Source) -> dict[str, Source]:
    rows, others = query_bank.array.shape[0], gallery_bank.array.shape[0]
    if rows != others:
        raise MismatchError(f"the query bank has {rows} rows, the gallery bank {others}: row i of both must be a pair")
    held, rest = hold_out_rows(rows)
    gallery = gallery_bank.picked(held)
    return {
        "queries": query_bank.picked(held),
        "gallery": replace(gallery, array=gallery.array[:]),
        "query_bank": query_bank.picked(rest),
        "gallery_bank": gallery_bank.picked(rest),
    }


def _check(inputs: Inputs, embeddings: bool, allow_overlap: bool) -> None:
    bank, other = inputs.banks.get("query_bank"), inputs.banks.get("gallery_bank")
    warnings = [] if inputs.S is None else check_banks(inputs.S, bank, other, embeddings, allow_overlap)
    for warning in [*warnings, *few_rows(*(0 if rows is None else rows.shape[0] for rows in (bank, other)))]:
        inputs.warn(warning)


def _open(
    sources: dict[str, Source],
    metric: str,
    turned: Collection[str],
    allow_overlap: bool,
    preparing: Preparing,
    **way: Any,
) -> Inputs:
    facts = {name: source.facts for name, source in sources.items()}
    casts = {name: source for name, source in sources.items() if source.cast}
    right = sources.pop("gallery", None)
    sources = {name: source.turned() if name in turned else source for name, source in sources.items()}
    test = sources.get("similarities") or sources.get("queries")
    query_ids = test.row_ids if test else None
    if right:
        gallery_ids = right.row_ids
    else:
        against = {name: source for name, source in sources.items() if name != "cross_bank"}  # the gallery
        gallery_ids = test.column_ids if test else next((s.column_ids for s in against.values() if s.column_ids), None)
        sources |= {name: _in_order(source, gallery_ids, name) for name, source in against.items()}
    if not allow_overlap:
        for name, ids in (("query_bank", query_ids), ("gallery_bank", gallery_ids)):
            if name in sources:
                require_other_ids(sources[name].row_ids, ids, _title(name))
    arrays = {name: source.array for name, source in sources.items()}
    rows = _rows(arrays, None if right is None else right.array, metric, preparing.device)
    content = None if right is None else f"{metric}:{content_hash(right.array)}"
    inputs = Inputs(None, {}, None, query_ids, gallery_ids, content, facts, [], **way)
    for name, source in casts.items():
        inputs.warn(f"{_title(name)}: {source.array.dtype} values are computed with as float32")
    prepare_banks(rows, inputs, preparing)
    inputs.S, inputs.live = rows.pop("similarities", None) or rows.pop("queries", None), rows.pop("live", None)
    inputs.banks = rows
    return inputs


def _in_order(source: Source, gallery_ids: list[str] | None, name: str) -> Source:
    """Return a matrix with its columns in the order of the gallery, if both are named."""
    if gallery_ids is None or source.column_ids in (None, gallery_ids):
        return source
    places = {text: i for i, text in enumerate(source.column_ids)}
    missing = [text for text in gallery_ids if text not in places]
    if missing:
        turned = missing[0] in (source.row_ids or ())
        way = f"it looks transposed, pass --transpose {name.replace('_', '-')}"
        hint = way if turned else "give its similarities, -inf where there are none"
        few = count_of(len(missing), "gallery item")
        raise MismatchError(f"{_title(name)} has no column for {few} (first: {missing[0]!r}); {hint}")
    return replace(source, array=source.array[:, [places[text] for text in gallery_ids]], column_ids=gallery_ids)


def _rows(arrays: dict[str, Array], gallery: Array | None, metric: str, device: str) -> dict[str, Rows]:
    """Return rows of matrices, or of embeddings against one gallery that all of them share."""
    if gallery is None:
        return {name: MatrixRows(array, _title(name), device) for name, array in arrays.items()}
    shapes = {_title(name): tuple(array.shape) for name, array in {**arrays, "gallery": gallery}.items()}
    if len({shape[1] for shape in shapes.values()}) > 1:
        shown = ", ".join(f"{title} {shape}" for title, shape in shapes.items())
        raise MismatchError(f"widths differ: {shown}; are all embeddings of one model?")
    rows: dict[str, Rows] = {}
    shared: ProductRows | None = None
    for name, array in arrays.items():
        title = _title(name)
        shared = shared.beside(array, title) if shared else ProductRows(array, gallery, metric, title, device)
        rows[name] = shared
    return rows


def _title(name: str) -> str:
    return "the live queries" if name == "live" else f"the {name.replace('_', ' ')}"
