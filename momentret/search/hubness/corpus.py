"""Hubness in a corpus index: a bias per video, fitted through the index, kept beside it, applied to what it finds.

Text queries like some videos whatever they ask for. A bank of training queries, scored against every video exactly as
a search would, tells by how much; that is subtracted from every moment of the video.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from momentret.encoders import Encoder
from momentret.errors import ConfigError, DataError, MismatchError
from momentret.files import refuse_existing, write_json
from momentret.progress import Progress, silent
from momentret.search.backend import Backend
from momentret.search.hubness.arrays import Array
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.state import load_normaliser, save_normaliser
from momentret.search.index import CorpusIndex, Hit, SearchOptions, SearchResult, Video
from momentret.search.queries import text_query
from momentret.words import count_of

__all__ = [
    "CorpusHubness",
    "CorrectedHit",
    "CorrectedResult",
    "clip_gallery",
    "clips_of_videos",
    "encode_bank",
    "hubness_folder",
    "read_texts",
    "score_bank",
]

Query = tuple[np.ndarray, np.ndarray | None]
"""Tokens ``(T, D)`` and sentence ``(D,)`` or None, as `CorpusIndex.search` takes them."""
_BATCH = 8  # queries scored at once: they share the decoding of the index
_FIRST = 100  # length of the first raw list
_GROWTH = 4


def hubness_folder(index: CorpusIndex) -> Path:
    """Return where the state of an index is kept unless told otherwise."""
    return index.folder / "hubness"


def read_texts(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file that say something, each once.

    Raises:
        DataError: it is not UTF-8, or says nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save one query a line") from error
    texts = list(dict.fromkeys(line for line in lines if line))
    if not texts:
        raise DataError(f"{path} holds no queries; write one a line, better 300 or more")
    return texts


def encode_bank(encoder: Encoder, texts: Sequence[str], progress: Progress = silent) -> list[Query]:
    """Return queries as vectors: what a search for each of the texts looks for."""
    queries = [text_query(encoder, text) for text in progress(texts, "encoding the bank", len(texts))]
    return [(query.tokens, None) for query in queries]


def clips_of_videos(folder: Path, corpus: CorpusIndex) -> list[np.ndarray]:
    """Return the clips ``(L, D)`` of every video of another index: a gallery bank for `corpus`.

    Raises:
        MismatchError: it holds vectors of another encoder.
        DataError: it shares videos with `corpus`.
    """
    with CorpusIndex.open(folder, encoder=corpus.settings.encoder) as other:
        videos = [video.video_id for video in other.videos()]
        shared = [name for name in videos if name in corpus]
        if shared:
            common = count_of(len(shared), "video")
            raise DataError(f"{folder} and the index share {common} (first: {shared[0]!r}); use others")
        return [other.clips(name) for name in videos]


def score_bank(
    index: CorpusIndex,
    queries: Sequence[Query],
    options: SearchOptions | None = None,
    out: Array | None = None,
    progress: Progress = silent,
) -> Array:
    """Return the similarities of a bank and every video of an index, ``(M, N)`` float32, columns as `index.videos()`.

    Args:
        index: what is searched.
        queries: of a query bank: texts as vectors; of a gallery bank: the clips ``(L, D)`` of training videos.
        options: how the searches will be done; see `CorpusIndex.score_videos`.
        out: where the result goes, a memory map for instance; default: a new array.
        progress: wraps the loop.
    """
    starts = range(0, len(queries), _BATCH)
    for start in progress(starts, "scoring the bank", len(starts)):
        part = index.score_videos(queries[start : start + _BATCH], options)
        if out is None:
            out = np.empty((len(queries), part.shape[1]), np.float32)
        out[start : start + len(part)] = part
    if out is None:
        raise DataError("the bank has no queries; give at least one, better 300")
    return out


def clip_gallery(index: CorpusIndex) -> tuple[list[str], np.ndarray]:
    """Return the clips of an index as a gallery of their own: ids ``video:clip`` and vectors ``(N, D)`` float32.

    For biases per clip: fit on `ProductRows` of sentence vectors against it, search with `HubCorrectedIndex`.
    """
    parts = [(video.video_id, index.clips(video.video_id)) for video in index.videos()]
    ids = [f"{name}:{i}" for name, clips in parts for i in range(len(clips))]
    return ids, np.concatenate([clips for _, clips in parts]) if parts else np.empty((0, index.settings.dim), "f4")


@dataclass(frozen=True)
class CorrectedHit:
    """A found moment and what the correction made of its score."""

    hit: Hit
    score: float
    """``hit.score - bias``: what the list is sorted by."""
    bias: float
    """Of its video for this query, in units of the score; 0 for a video that the state does not know."""


@dataclass(frozen=True)
class CorrectedResult:
    """A corrected list of moments."""

    hits: tuple[CorrectedHit, ...]
    """Best first; ties by video id, then by time."""
    certified: bool
    """These are the best moments of the corrected search of the whole index, proven."""
    unknown: int
    """Moments found in videos that the state does not know: added or changed since it was fitted, not corrected."""


@dataclass(frozen=True)
class CorpusHubness:
    """A fitted normaliser and the videos that its biases belong to.

    Example: ``CorpusHubness.fit(index, bank).search(index, tokens)``.
    """

    normaliser: HubnessNormaliser
    video_ids: tuple[str, ...]
    """In the order of the biases."""
    level: str = "moment"
    """`SearchOptions.level` of the scores that it was fitted on."""
    exact: bool = False
    """Fitted on exact scores, not on those of the first stage."""
    encoder: str = ""
    """Fingerprint of the index's encoder."""
    content_hashes: tuple[str, ...] = ()
    """Of the videos: one whose file has another content by now is not known; empty in states of earlier versions."""

    @classmethod
    def fit(
        cls,
        index: CorpusIndex,
        bank: Sequence[Query],
        gallery_bank: Sequence[np.ndarray] = (),
        live: Sequence[Query] = (),
        config: HubnessConfig | None = None,
        options: SearchOptions | None = None,
        progress: Progress = silent,
    ) -> CorpusHubness:
        """Score banks against the videos of an index and fit a bias per video.

        Args:
            index: to be searched.
            bank: training queries.
            gallery_bank: clips ``(L, D)`` of training videos (gis, dualis, dualdis).
            live: unlabelled queries from production, at least 30, for the guard.
            config: method and parameters.
            options: how the searches will be done.
            progress: wraps long loops.

        Raises:
            ConfigError: the method has no bias per item, or its bank is missing.
            DataError: the index or the bank is empty.
        """
        config, options = config or HubnessConfig(), options or SearchOptions()
        if config.method == "gc" or config.traits.transductive or config.traits.cross_bank or config.rule == "product":
            raise ConfigError(f"method {config.method!r} has no bias per video that an index could keep; use is or dis")
        if not len(index):
            raise DataError(f"index {str(index.folder)!r} holds no videos; add some first")
        inner = score_bank(index, [(clips, None) for clips in gallery_bank], options) if len(gallery_bank) else None
        normaliser = HubnessNormaliser(config).fit(
            score_bank(index, bank, options, progress=progress),
            inner,
            live=score_bank(index, live, options) if len(live) else None,
        )
        ids, hashes = zip(*((video.video_id, video.content_hash) for video in index.videos()), strict=True)
        return cls(normaliser, ids, options.level, bool(options.exact), index.settings.encoder, hashes)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.video_ids)}

    def _place(self, video: Video) -> int:
        """Return which bias a video has; -1 if the state does not know it."""
        place = self._places.get(video.video_id, -1)
        known = place >= 0 and (not self.content_hashes or self.content_hashes[place] == video.content_hash)
        return place if known else -1

    @cached_property
    def _biases(self) -> np.ndarray:
        biases: np.ndarray = self.normaliser.centred_biases().numpy()
        return biases

    def save(self, folder: Path, overwrite: bool = False) -> None:
        """Write the state; `hubness_folder` is where a search looks for it.

        Raises:
            OutputExistsError: there is one already.
        """
        refuse_existing(folder / "manifest.json", overwrite)
        facts = {"level": self.level, "exact": self.exact, "encoder": self.encoder}
        write_json(folder / "videos.json", facts | {"video_ids": self.video_ids, "content_hashes": self.content_hashes})
        save_normaliser(self.normaliser, folder, self.video_ids, overwrite)

    @classmethod
    def load(cls, folder: Path, index: Backend | None = None) -> CorpusHubness:
        """Read what `save` wrote.

        Args:
            folder: of the state.
            index: that it will be applied to; videos added or changed since the fit are not corrected, see `unknown`.

        Raises:
            DataError: a file is missing or damaged, or the state is of matrices, not of an index.
            MismatchError: the index holds vectors of another encoder, or none of the state's videos.
        """
        path = folder / "videos.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            ids, hashes = tuple(facts["video_ids"]), tuple(facts.get("content_hashes", ()))
            normaliser, level, exact = load_normaliser(folder, ids), str(facts["level"]), bool(facts["exact"])
            if hashes and len(hashes) != len(ids):
                raise ValueError(f"{len(hashes)} hashes of {len(ids)} videos")
            state = cls(normaliser, ids, level, exact, facts["encoder"], hashes)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{folder} holds no hubness state of an index; `momentret hubness index` makes one"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} is damaged ({error!r}); fit again") from error
        if index is not None:
            state._require_fits(index)
        return state

    def _require_fits(self, index: Backend) -> None:
        if self.encoder != index.settings.encoder:
            raise MismatchError(
                f"the hubness state was fitted with encoder {self.encoder!r}, "
                f"the index holds vectors of {index.settings.encoder!r}; fit it for this index"
            )
        if len(index) and not any(name in index for name in self.video_ids):
            raise MismatchError("the hubness state knows no video of the index; fit it for this index")

    def unknown(self, index: CorpusIndex) -> list[str]:
        """Return the ids of videos that were added or changed since the fit: they are not corrected; fit again."""
        return [video.video_id for video in index.videos() if self._place(video) < 0]

    def correct_scores(self, video_ids: Sequence[str], scores: np.ndarray) -> np.ndarray:
        """Return corrected scores ``(K,)`` float64 of one query's candidates.

        Args:
            video_ids: the video of every candidate; a video may come several times.
            scores: raw scores ``(K,)`` of the level that was fitted. Gated methods (dis, dualdis) decide by the best of
                them, which must be the best of the whole index.
        """
        places = np.array([self._places.get(name, -1) for name in video_ids], np.int64)
        corrected: np.ndarray = np.asarray(scores, np.float64) - self._bias(places, self._weights(places, scores))
        return corrected

    def _weights(self, places: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return what every term's bias is multiplied by for this query, ``(terms,)``."""
        best = int(places[np.argmax(scores)]) if len(places) else -1
        weights = self.normaliser.weights(torch.tensor([max(best, 0)]))[0].numpy()
        gated = np.array([term.active is not None for term in self.normaliser.terms], bool)
        return np.where(gated & (best < 0), 0.0, weights)

    def _bias(self, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
        bias: np.ndarray = np.where(places < 0, 0.0, weights @ self._biases[:, places])
        return bias

    def correct(self, result: SearchResult, top: int = 10, complete: bool = False) -> CorrectedResult:
        """Correct the hits of a search and keep the best.

        A moment that is not among the hits scores at most as the last of them, and its video's bias is at least the
        smallest there is. Where the corrected list's last entry is above that, and the raw search was exhaustive or
        certified, the corrected list is **exact**; ask for many more hits than `top` (`search` does).

        Args:
            result: of a search that asked for more than `top` hits.
            top: moments kept.
            complete: the hits are all moments there are, so that nothing can be missing.
        """
        places = np.array([self._place(hit.video) for hit in result.hits], np.int64)
        weights = self._weights(places, np.array([hit.score for hit in result.hits]))
        bias = self._bias(places, weights)
        hits = [CorrectedHit(h, h.score - b, b) for h, b in zip(result.hits, bias.tolist(), strict=True)]
        hits.sort(key=lambda found: (-found.score, found.hit.video.video_id, found.hit.start, found.hit.end))
        least = float((weights @ self._biases).min(initial=0.0))  # 0: of videos that are not known
        proven = complete or (len(hits) >= top and hits[top - 1].score > result.hits[-1].score - least)
        unknown = int((places < 0).sum())
        return CorrectedResult(tuple(hits[:top]), result.certified and proven, unknown)

    def search(
        self,
        index: Backend,
        tokens: np.ndarray,
        sentence: np.ndarray | None = None,
        options: SearchOptions | None = None,
    ) -> CorrectedResult:
        """Search an index with corrected scores.

        Searches for more moments than asked, corrects them, and with ``options.exact`` goes on with longer lists until
        the result is certified. Without it the list is that of the candidates of the first stage, uncertified.

        Raises:
            ConfigError: `options` score at another level than the state was fitted on.
        """
        options = options or SearchOptions()
        if options.level != self.level:
            raise ConfigError(
                f"the hubness state was fitted at level {self.level!r}, the search is of {options.level!r}"
            )
        size = max(_FIRST, _GROWTH * options.top)
        while True:
            result = index.search(tokens, sentence, replace(options, top=size))
            complete = len(result.hits) < size
            found = self.correct(result, options.top, complete)
            if found.certified or complete or not result.certified:
                return found
            size *= _GROWTH
