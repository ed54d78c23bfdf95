"""`MomentRefiner`: a trained model finds the borders of found moments anew, through the one `Predictor`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from momentret.encoders import Encoder
from momentret.encoders.base import QUERY_TOKENS
from momentret.errors import ConfigError, DataError, FeatureError
from momentret.extract import ExtractConfig
from momentret.features import SourceManifest, StoreManifest
from momentret.features.manifest import same_fact
from momentret.predict import Predictor
from momentret.records import Moment
from momentret.search.extraction import extract_videos
from momentret.search.index import Hit, Video
from momentret.search.presence import Query
from momentret.search.recipe import Recipe

__all__ = ["MomentRefiner"]

_COVERED = 0.5
"""Share of a found moment, often the best few seconds of a longer one, that a predicted one has to cover."""


class MomentRefiner:
    """Gives found moments the borders that a model predicts; a `momentret.search.engine.Refiner`.

    The index's own vectors are what the model sees, if it was trained on such; where only the clip length differs, the
    videos are extracted again as the model wants them. A moment that the model predicts nothing near keeps its borders.

    Args:
        predictor: of a model trained with one video source.
        encoder: of the index.
        recipe: of the index.
        clips: returns the clip vectors ``(L, D)`` of a video of the index.

    Raises:
        MismatchError: the model was trained on other features; the message names the field.
    """

    def __init__(
        self, predictor: Predictor, encoder: Encoder, recipe: Recipe, clips: Callable[[str], np.ndarray]
    ) -> None:
        self.predictor, self.encoder, self._clips = predictor, encoder, clips
        trained = predictor.features
        self._tokens = _tokens_of(trained)
        self.config = recipe.config
        if not same_fact(predictor.clip_length, recipe.config.clip_length):
            self.config = _as_trained(predictor, recipe.config)
        self._again = self.config != recipe.config
        if trained is not None:
            trained.require_match(self._manifest(recipe))

    def _manifest(self, recipe: Recipe) -> StoreManifest:
        """Return what the model will be given."""
        own = recipe.fingerprint
        text = SourceManifest(
            family="text",
            dimension=own.dimension,
            encoder=own.name,
            weights_hash=own.weights_hash,
            layer=self._tokens,
            normalisation="l2",
        )
        trained = self.predictor.features
        video = self.config.manifest(own)
        if trained is not None and len(trained.video) == 1:
            video = replace(video, family=trained.video[0].family)  # one source is that source, whatever it is called
        return StoreManifest(video=(video,), text=text)

    def __call__(self, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits with other borders where the model predicts a moment near.

        Raises:
            ConfigError: the query is no text.
            FeatureError: a video has to be extracted again and cannot be.
        """
        if query.kind != "text":
            raise ConfigError("a model refines answers to words only; leave --refine out")
        text = self.encoder.encode_query(query.name, self._tokens).tokens
        predicted = {
            video.video_id: self.predictor.predict_one(
                [self._rows(video)], text, query=query.name, video_id=video.video_id
            ).moments
            for video in {hit.video.video_id: hit.video for hit in hits}.values()
        }
        return [_with_borders(hit, predicted[hit.video.video_id]) for hit in hits]

    def _rows(self, video: Video) -> np.ndarray:
        if not self._again:
            return self._clips(video.video_id)
        try:
            ((_, rows),) = extract_videos([Path(video.path)], self.encoder, self.config)
        except DataError as error:
            raise FeatureError(
                f"the model wants clips of {self.config.clip_length:g} s, but the file is no use: {error}"
            ) from error
        return rows


def _as_trained(predictor: Predictor, config: ExtractConfig) -> ExtractConfig:
    """Return how the model's training features were extracted, as far as they say."""
    sources = predictor.features.video if predictor.features else ()
    fps = sources[0].fps if len(sources) == 1 else None
    return replace(config, clip_length=predictor.clip_length, fps=fps)


def _tokens_of(trained: StoreManifest | None) -> str:
    """Return which tokens of a query the model wants: those that it was trained with, or phrases."""
    layer = trained.text.layer if trained is not None and trained.text is not None else None
    return layer if layer in QUERY_TOKENS else "phrases"


def _with_borders(hit: Hit, predicted: Sequence[Moment]) -> Hit:
    """Return the hit with the borders of the best predicted moment that covers half of it; else as it is."""
    duration, begin = hit.video.duration, hit.video.start
    for moment in sorted(predicted, key=lambda moment: -moment.score):
        start, end = min(moment.start, duration) + begin, min(moment.end, duration) + begin
        covered = min(end, hit.end) - max(start, hit.start)
        if start < end and covered >= _COVERED * (hit.end - hit.start):
            return replace(hit, start=start, end=end)
    return hit
