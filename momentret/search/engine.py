"""`SearchEngine`: ask an index, or videos in memory, and get an `Answer`: moments, how sure, curves.

engine = SearchEngine.open(Path("films.index"))
answer = engine.search("a dog catches a frisbee")

One path for `momentret search` and `momentret find`: the same windows, the same scores, the same calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from momentret.encoders import Encoder
from momentret.errors import DataError
from momentret.files import absolute
from momentret.progress import Progress, silent
from momentret.search.answers import Answer, Curve, FoundMoment
from momentret.search.borders import CurveBorders
from momentret.search.chamfer import window_scores
from momentret.search.extraction import extract_videos
from momentret.search.index import CorpusIndex, Hit, MemoryCorpus, SearchOptions, Video
from momentret.search.indexing import content_hash
from momentret.search.presence import Presence, Query
from momentret.search.presence.background import Corpus, evidence
from momentret.search.presence.fitting import Found
from momentret.search.queries import combine, parse_clip, picture_query, text_query
from momentret.search.recipe import Recipe
from momentret.spans import hull_iou

__all__ = ["MIN_CONFIDENCE", "Correction", "Refiner", "SearchEngine"]

MIN_CONFIDENCE = 0.5
"""Presence from which an answer says that what was asked for is there: more likely than not."""
Scored = tuple[Hit, float]
"""A hit and the score that it is ranked by."""
Sure = tuple[Hit, float, float | None]
"""A hit, the score that it is ranked by, and its confidence, if it is known."""
_ROUNDING = 1e-6  # s, of what a clip asked for and a row begin at
_PIECES = 3  # of one moment among the hits, that grow into it


class Correction(Protocol):
    """What changes scores, such as `momentret.search.hubness.CorpusHubness`."""

    def search(
        self,
        index: Any,
        tokens: np.ndarray,
        sentence: np.ndarray | None = None,
        options: SearchOptions | None = None,
    ) -> Any:
        """Return ``hits``, each with a ``hit`` and a ``score``."""
        ...


class Refiner(Protocol):
    """What finds the borders of moments anew: `CurveBorders`, `as_scored`, `momentret.search.refine.MomentRefiner`."""

    def __call__(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """Return the same hits in the same order, with other borders where there are better ones."""
        ...


class SearchEngine:
    """Answers queries about a corpus.

    Args:
        corpus: an index, or `MemoryCorpus`, open while the engine is used.
        encoder: what made its vectors.
        recipe: how they were made; None: clips of videos outside the corpus cannot be asked for.
        correction: applied to the scores.
        refine: applied to the best moments; None: `momentret.search.borders.CurveBorders`.
        folder: of the index, where calibrations are kept; None: they are not.
        cache: a folder for what depends on the encoder only, where there is no index to keep it; None: it is not kept.
        progress: reports on what takes long the first time.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        recipe: Recipe | None = None,
        *,
        correction: Correction | None = None,
        refine: Refiner | None = None,
        folder: Path | None = None,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        self.corpus, self.encoder, self.recipe = corpus, encoder, recipe
        self.refine, self.folder, self.cache, self._progress = refine, folder, cache, progress
        self.correct_with(correction)

    @classmethod
    def open(
        cls, folder: Path | str, encoder: str | None = None, *, progress: Progress = silent, **options: Any
    ) -> SearchEngine:
        """Open an index and load the encoder that it was made with.

        Args:
            folder: of the index.
            encoder: where the weights are now, if they were moved.
            progress: reports on what takes long the first time.
            options: of `momentret.encoders.load_encoder`.

        Raises:
            DamagedIndexError: it is no index, or damaged.
            MismatchError: the encoder has other weights.
        """
        index = CorpusIndex.open(folder)
        try:
            recipe = Recipe.of(index)
            return cls(index, recipe.load_encoder(encoder, **options), recipe, folder=index.folder, progress=progress)
        except BaseException:
            index.close()
            raise

    @classmethod
    def of_videos(
        cls,
        paths: Sequence[Path | str],
        encoder: Encoder,
        recipe: Recipe,
        *,
        cache: Path | None = None,
        progress: Progress = silent,
        **options: Any,
    ) -> SearchEngine:
        """Extract videos into memory, without an index.

        Args:
            paths: the files.
            encoder: what makes the vectors.
            recipe: of that encoder.
            cache: as above.
            progress: reports on what takes long.
            options: `finished`, and `workers`, `limits`, `watch` of `momentret.extract.extract`.

        Raises:
            DataError: none of them can be decoded.
        """
        corpus = MemoryCorpus(
            recipe.settings(), extract_videos([Path(path) for path in paths], encoder, recipe.config, **options)
        )
        return cls(corpus, encoder, recipe, cache=cache, progress=progress)

    def correct_with(self, correction: Correction | None) -> None:
        """Correct all scores from now on, those of background queries too."""
        self.correction = correction
        kept = self.folder if correction is None else None
        self.presence = Presence(self.corpus, self.encoder, self._find_evidence, kept, self._progress, self.cache)

    def close(self) -> None:
        """Close the index."""
        close = getattr(self.corpus, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> SearchEngine:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    # asking

    def text(self, text: str, plus: Sequence[str] = (), minus: Sequence[str] = ()) -> Query:
        """Return a query in words, moved towards `plus` and away from `minus`."""
        return self.moved(text_query(self.encoder, text), plus, minus)

    def picture(self, path: Path | str) -> Query:
        """Return a query by a picture."""
        return picture_query(self.encoder, Path(path))

    def moved(self, query: Query, plus: Sequence[str] = (), minus: Sequence[str] = ()) -> Query:
        """Return any query moved towards texts and away from others."""
        towards, away = ([text_query(self.encoder, text) for text in texts] for texts in (plus, minus))
        return combine(query, towards, away)

    def clip(self, text: str) -> Query:
        """Return a query by ``VIDEO@START-END``: the id or the file of an indexed video, or any other video file.

        A link to or a copy of an indexed file stands for that one.

        Raises:
            DataError: there is no such video, it cannot be decoded, or is shorter.
        """
        name, start, end = parse_clip(text)
        video, source = self._indexed(name), None
        if video is not None:
            rows, source = self.corpus.clips(video.video_id), (video.video_id, start, end)
        else:
            if self.recipe is None or not Path(name).is_file():
                raise DataError(f"{name!r} is neither a video of the index nor a file; check the name")
            ((video, rows),) = extract_videos([Path(name)], self.encoder, self.recipe.config)
        if start >= video.start + video.duration or end <= video.start:
            where = f"from {video.start:.1f} to {video.start + video.duration:.1f} s"
            raise DataError(f"{name!r} is there {where}; the clip {text!r} is not in it")
        first = int((max(start - video.start, 0.0) + _ROUNDING) / video.clip_length)
        last = max(int((end - video.start - _ROUNDING) / video.clip_length), first)
        chosen = rows[min(first, len(rows) - 1) : last + 1]
        return Query(text, chosen, "picture", source)

    def _indexed(self, name: str) -> Video | None:
        if name in self.corpus:
            return self.corpus.video(name)
        if not Path(name).is_file():
            return None
        path = absolute(name)
        found = next((video for video in self.corpus.videos() if video.path == path), None)
        if found is not None:
            return found
        digest = content_hash(name)
        return next((video for video in self.corpus.videos() if video.content_hash == digest), None)

    def search(
        self, query: Query | str, options: SearchOptions | None = None, min_confidence: float = MIN_CONFIDENCE
    ) -> Answer:
        """Find the moments that fit a query, and say how likely it is that they are what was asked for.

        Args:
            query: words, or what `text`, `picture` or `clip` made.
            options: how to search.
            min_confidence: presence in [0, 1] from which the answer is that it is there.
        """
        query = self.text(query) if isinstance(query, str) else query
        options = options or SearchOptions()
        return self._answer(query, self._moments(query, options), min_confidence)

    def _moments(self, query: Query, options: SearchOptions) -> list[Sure]:
        """Return the best moments; where several hits become one, search for more of them."""
        grow = self.refine is None and options.level == "moment"
        refine = CurveBorders(self.curve) if grow else self.refine
        asked = replace(options, per_video=_PIECES * options.per_video) if grow else options
        while True:
            asked = replace(asked, top=_PIECES * asked.top) if grow else asked
            hits = self._find(query, asked)
            known = self.presence.confidences(query, _evidence(query, hits), options).tolist()
            sure = [None if math.isnan(confidence) else confidence for confidence in known]
            found = [hit for hit, _ in hits]
            if refine is not None and found:
                found = [_beside(hit, one, query) for hit, one in zip(found, refine(query, found), strict=True)]
            moments = _apart([(h, s, c) for h, (_, s), c in zip(found, hits, sure, strict=True)], options)
            if not grow or len(moments) == options.top or len(hits) < asked.top:
                return moments

    def _answer(self, query: Query, found: Sequence[Sure], min_confidence: float) -> Answer:
        known = [confidence for _, _, confidence in found if confidence is not None]
        presence = max(known, default=None)
        moments = tuple(_found_moment(rank, hit, score, sure) for rank, (hit, score, sure) in enumerate(found, start=1))
        return Answer(
            query=query.name,
            index=None if self.folder is None else str(self.folder),
            encoder=self.encoder.fingerprint.name,
            presence=presence,
            present=bool(moments) and (presence is None or presence >= min_confidence),
            min_confidence=min_confidence,
            moments=moments,
            curves={hit.video.video_id: self.curve(query, hit.video) for hit, _, _ in found},
        )

    def curve(self, query: Query, video: Video) -> Curve:
        """Return how well each clip of a video fits a query: its score as a window of its own, in [-2, 2]."""
        product = query.tokens @ self.corpus.clips(video.video_id).T  # (T, L)
        scores = window_scores(product, np.array([product.shape[1]]), (1,))[0]
        return Curve(video.start, video.clip_length, tuple(scores.tolist()))

    def _find_evidence(self, query: Query, options: SearchOptions) -> Found:
        return _evidence(query, self._find(query, options))

    def _find(self, query: Query, options: SearchOptions) -> list[Scored]:
        """Return hits and scores, best first; what the query was taken from is no answer."""
        if query.source is None:
            return self._score(query, options)
        wide = self._score(query, replace(options, top=options.top + options.per_video))
        hits = [pair for pair in wide if pair[0].video.video_id != query.source[0]]
        return sorted([*hits, *self._beside_source(query, options)], key=lambda pair: -pair[1])[: options.top]

    def _beside_source(self, query: Query, options: SearchOptions) -> list[Scored]:
        """Return the hits in the video that the query was taken from; the source itself would use up its share.

        Windows apart from one another, of which no more than it has clips can reach into the source.
        """
        assert query.source is not None
        name, start, end = query.source
        where, only = options.where, frozenset({name})
        if options.level == "video" or math.isinf(end) or (where.video_ids is not None and name not in where.video_ids):
            return []
        video = self.corpus.video(name)
        inside = math.ceil(min(end - start, video.duration) / video.clip_length) + 1
        count = inside + options.per_video
        alone = replace(
            options, top=count, per_video=count, overlap=0.0, exact=True, where=replace(where, video_ids=only)
        )
        return [pair for pair in self._score(query, alone) if not _is_source(pair[0], query)][: options.per_video]

    def _score(self, query: Query, options: SearchOptions) -> list[Scored]:
        if self.correction is None:
            return [(hit, hit.score) for hit in self.corpus.search(query.tokens, None, options).hits]
        found = self.correction.search(self.corpus, query.tokens, None, options).hits
        return [(one.hit, float(one.score)) for one in found]


def _found_moment(rank: int, hit: Hit, score: float, confidence: float | None) -> FoundMoment:
    return FoundMoment(
        rank=rank,
        video_id=hit.video.video_id,
        path=hit.video.path,
        duration=hit.video.duration,
        start=hit.start,
        end=hit.end,
        score=score,
        confidence=confidence,
        size=hit.video.size or None,
        modified=hit.video.modified or None,
    )


def _evidence(query: Query, hits: Sequence[Scored]) -> Found:
    return [(hit.video.video_id, evidence(score, hit.to_video, hit.to_language, query.kind)) for hit, score in hits]


def _apart(found: Sequence[Sure], options: SearchOptions) -> list[Sure]:
    """Return the best moments as the options count them: with new borders, two may have become one."""
    kept: list[Sure] = []
    for one in found:
        windows = np.array([(hit.start, hit.end) for hit, _, _ in kept if hit.video.video_id == one[0].video.video_id])
        overlaps = hull_iou(np.array([[one[0].start, one[0].end]]), windows.reshape(-1, 2))
        if len(windows) < options.per_video and not (overlaps > options.overlap).any():
            kept.append(one)
    return kept[: options.top]


def _is_source(hit: Hit, query: Query) -> bool:
    if query.source is None:
        return False
    name, start, end = query.source
    return hit.video.video_id == name and hit.start < end and start < hit.end


def _beside(hit: Hit, refined: Hit, query: Query) -> Hit:
    """Return a refined hit that ends where the query was taken from, on the side where it was found."""
    if query.source is None or not _is_source(refined, query):
        return refined
    _, start, end = query.source
    if hit.start >= end:
        return replace(refined, start=end)
    return replace(refined, end=start)
