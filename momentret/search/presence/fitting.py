"""`Presence`: calibrations of a corpus, fitted when first needed and kept beside the index."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from momentret.encoders import Encoder, split_phrases
from momentret.files import atomic_write, write_json
from momentret.progress import Progress, silent
from momentret.search.index import Filter, SearchOptions
from momentret.search.presence.background import (
    Corpus,
    Query,
    Reference,
    clip_bank,
    mistrust,
    moved,
    phrase_bank,
    reference_clips,
    traits_of,
)
from momentret.search.presence.calibration import Calibration

__all__ = ["Found", "Presence"]

Found = Sequence[tuple[str, float]]
"""Video of each moment that a search found, and what `evidence` says of it; in any order."""
Search = Callable[[Query, SearchOptions], Found]

_SAME_SIZE = 0.02  # share of videos that may come or go before chance is measured again; below 1000 videos none
_MANY = 1000
_TOP = 10  # moments of a background query, as many as answers usually have: the one of most evidence counts
_VERSION = 4
logger = logging.getLogger(__name__)


class Presence:
    """Tells how likely it is that a found moment is what was asked for, from this corpus' own scores.

    Background queries go through the very search that is judged; see `calibration`. Trust it from about ten videos on.
    On fewer, the background queries still tell chance from more, but it cannot be seen how the query scores elsewhere,
    so a query that is vague by nature looks a little surer than it is. For pictures, whose background is the corpus'
    own clips, it takes more than a few videos that do not repeat one another; else it is not known.

    It can be no better than the encoder. What is said to be there mostly is (of photographs and the `offline` encoder
    nine in ten at 0.9); but what a weak encoder cannot tell from chance is said to be absent though it is there.

    Args:
        corpus: what is searched.
        encoder: what made its vectors.
        search: the search to be judged.
        folder: where calibrations are kept; None: they are not. Nothing is lost if it cannot be written to.
        cache: without a folder: where the vectors of background queries are kept, by encoder. None: they are not.
        progress: reports on the background queries.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        search: Search,
        folder: Path | None = None,
        progress: Progress = silent,
        cache: Path | None = None,
    ) -> None:
        self._corpus, self._encoder, self._search, self._progress = corpus, encoder, search, progress
        self._folder, self._cache = folder, cache
        self._fitted: dict[Any, Calibration | None] = {}

    @cached_property
    def reference(self) -> Reference:
        """Return a sample of the corpus."""
        return reference_clips(self._corpus)

    def confidences(self, query: Query, found: Found, options: SearchOptions) -> np.ndarray:
        """Return the probability in [0, 1] that each found moment ``(K,)`` is what was asked for; NaN: not known."""
        calibration = self._calibration(query, options) if len(found) else None
        if calibration is None:
            return np.full(len(found), np.nan)
        evidence = np.array([evidence for _, evidence in found])
        return calibration.confidence(evidence, self._traits(query, found))

    def _traits(self, query: Query, found: Found) -> np.ndarray:
        return traits_of(query, self.reference, _most(found)[0])

    def _calibration(self, query: Query, options: SearchOptions) -> Calibration | None:
        length = len(query.tokens) if query.kind == "picture" else 0
        options = replace(options, top=_TOP, per_video=1, exact=False)
        shift = query.shift
        key = length, options, None if shift is None else shift.tobytes()
        if key not in self._fitted:
            kept = self._kept(length, options) if shift is None else None
            self._fitted[key] = kept.load() if kept and kept.is_fresh else self.fit(self._bank(length, shift), options)
            if kept and not kept.is_fresh:
                kept.save(self._fitted[key])
        return self._fitted[key]

    def fit(self, bank: Sequence[Query], options: SearchOptions) -> Calibration | None:
        """Learn what chance gives, from background queries."""
        scores, traits = [], []
        for query in self._progress(bank, "what chance gives", len(bank)):
            found = self._search(query, options)
            if found:
                scores.append(_most(found)[1])
                traits.append(self._traits(query, found))
        return Calibration.fit(np.array(scores), np.array(traits), mistrust(self.reference))

    def _bank(self, length: int, shift: np.ndarray | None) -> list[Query]:
        bank = clip_bank(self.reference, length) if length else self._texts
        return bank if shift is None else [query for one in bank if len((query := moved(one, shift)).tokens)]

    @cached_property
    def _texts(self) -> list[Query]:
        texts = phrase_bank()
        weights = self._encoder.fingerprint.weights_hash
        path = self._folder / "presence-texts.npz" if self._folder else self._cached(texts)
        if path is not None and (kept := _read_tokens(path, texts, weights)) is not None:
            return kept
        every = self._progress(texts, "encode background", len(texts))
        queries = [Query(text, self._encoder.encode_query(text).tokens) for text in every]
        if path is not None:
            _quietly(_write_tokens, path, queries, weights)
        return queries

    def _cached(self, texts: Sequence[str]) -> Path | None:
        if self._cache is None:
            return None
        what = [asdict(self._encoder.fingerprint), [split_phrases(text) for text in texts]]
        return self._cache / f"presence-texts-{blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()}.npz"

    def _kept(self, length: int, options: SearchOptions) -> _Kept | None:
        """Return where the calibration of such searches is kept; those of a part of the corpus are not."""
        if self._folder is None or options.where != Filter():
            return None
        what = json.dumps([_VERSION, length, options.level, options.lengths, options.first_stage])
        digest = blake2b(what.encode(), digest_size=6).hexdigest()
        return _Kept(self._folder / f"presence-{digest}.json", _state_of(self._corpus))


def _most(found: Found) -> tuple[str, float]:
    """Return the video and the evidence of the moment that speaks most for presence."""
    return max(found, key=lambda pair: pair[1])


@dataclass
class _Kept:
    """A calibration on disk, and the corpus that it would have to be of."""

    path: Path
    state: dict[str, Any]

    @cached_property
    def _found(self) -> tuple[dict[str, Any], Calibration | None] | None:
        """Return the corpus that it is of, and the calibration; None where there is nothing sound."""
        try:
            content = json.loads(self.path.read_bytes())
            then, values = dict(content["corpus"]), content["calibration"]
            then["videos"] = int(then["videos"])
            return then, Calibration.from_dict(values) if values else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # fitted again

    @property
    def is_fresh(self) -> bool:
        """Tell whether it is of the corpus as it is now, or nearly."""
        if self._found is None:
            return False
        now, then = self.state["videos"], self._found[0]
        return then == self.state if now < _MANY else abs(now - then["videos"]) <= _SAME_SIZE * now

    def load(self) -> Calibration | None:
        """Return the calibration; `is_fresh` has said that there is one, or that there was too little to fit."""
        assert self._found is not None
        return self._found[1]

    def save(self, calibration: Calibration | None) -> None:
        values = calibration and calibration.to_dict()
        _quietly(write_json, self.path, {"corpus": self.state, "calibration": values})


def _state_of(corpus: Corpus) -> dict[str, Any]:
    """Return what a corpus is known by: its size and, where it is small, its videos."""
    count = len(corpus)
    names = sorted(video.video_id + video.content_hash for video in corpus.videos()) if count < _MANY else []
    digest = blake2b("\n".join(names).encode("utf-8", "surrogateescape"), digest_size=16)
    return {"videos": count, "content": digest.hexdigest()}


def _quietly(write: Callable[..., None], path: Path, *values: Any) -> None:
    try:
        write(path, *values)
    except OSError as error:
        logger.info("%s is not kept: %s", path, error.strerror)


def _write_tokens(path: Path, queries: Sequence[Query], weights: str) -> None:
    with atomic_write(path, "wb") as file:
        np.savez(
            file,
            weights=np.array(weights),
            names=np.array([query.name for query in queries]),
            counts=np.array([len(query.tokens) for query in queries]),
            tokens=np.concatenate([query.tokens for query in queries]),
        )


def _read_tokens(path: Path, texts: Sequence[str], weights: str) -> list[Query] | None:
    """Return the queries that were kept; None if there are none, or of other texts or another encoder."""
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            if str(file["weights"]) != weights or file["names"].tolist() != list(texts):
                return None
            parts = np.split(file["tokens"], np.cumsum(file["counts"])[:-1])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return [Query(text, rows) for text, rows in zip(texts, parts, strict=True)]
