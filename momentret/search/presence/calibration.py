"""From the best score of a search to the probability that what was asked for is there.

What is called a score here is `momentret.search.presence.background.evidence`. The best of many by chance follows a
Gumbel law (Fisher and Tippett, 1928), whose place and width depend on corpus and query. Both are learnt from
*background queries*, which ask for what is hardly ever there: a ridge regression says what score a query of such
traits reaches by chance, the lower part of the residuals gives the law, so that background queries that do describe
something are harmless. A found score is then weighed, at even odds, between this law and what is known of true matches
without labels: they lie between chance and a perfect match, weak ones being likelier than strong ones (two-groups
model: Efron, 2008). How far the law can be believed is limited by the number of background queries, so nothing is ever
quite certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["MIN_QUERIES", "Calibration"]

MIN_QUERIES = 16
"""Background queries below which nothing can be said."""
PERFECT = 2.0
"""Score of a window that is the query itself."""
_OUTLIER = 4.0  # Gumbel scales above the median; a chance score is beyond that once in 75 times
_LEVELS = np.linspace(0.05, 0.6, 12)  # quantiles that the law is fitted to: the upper ones may hold true matches
_NARROWEST = 0.01  # of the way from chance to a perfect match: finer differences than that say nothing
_WEAKNESS = 1.5  # matches become rarer by e over two thirds of the way: 0 suits strong encoders, 2 weak ones, by Brier
_APART = 3.0  # scales from chance to a perfect match, below which chance reaches one in every twentieth search
_FARTHEST = 3.0  # standard deviations of the background's traits beyond which a trait says no more
_ARRAYS = ("centre", "spread", "slopes")


@dataclass(frozen=True)
class Calibration:
    """What a score is by chance, and so how likely one is more than chance."""

    centre: np.ndarray
    """Mean of the traits of the background queries ``(F,)``."""
    spread: np.ndarray
    """Their standard deviation ``(F,)``; 0 where they do not differ."""
    slopes: np.ndarray
    """What a standard deviation of each trait adds to the chance score ``(F,)``."""
    place: float
    """Mode of the chance scores of a query of mean traits."""
    width: float
    """Scale of their Gumbel law."""
    queries: int
    """Background queries this rests on: what chance did in none of them it may still do in the next."""

    @classmethod
    def fit(cls, scores: np.ndarray, traits: np.ndarray, ridge: np.ndarray | None = None) -> Calibration | None:
        """Learn what chance is; None if there are fewer than `MIN_QUERIES` background queries.

        Args:
            scores: ``(B,)``: the best score that each background query found.
            traits: ``(B, F)``: what is known of each; NaN where nothing is.
            ridge: ``(F,)``: how much each trait is mistrusted, in background queries; 1 by default.
        """
        if len(scores) < MIN_QUERIES:
            return None
        centre, spread = _moments(traits)
        rows, scores = _standard(traits, centre, spread), np.asarray(scores, np.float64)
        ridge = np.ones(traits.shape[1]) if ridge is None else ridge
        kept = np.ones(len(scores), bool)
        for _ in range(20):
            slopes, rest = _ridge(rows, scores, ridge, kept)
            place, width = _gumbel(rest[kept])
            before, kept = kept, rest <= np.median(rest[kept]) + _OUTLIER * width
            if np.array_equal(before, kept) or kept.sum() < MIN_QUERIES:
                break
        return cls(centre, spread, slopes, place, max(width, _NARROWEST * (PERFECT - place)), len(scores))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` takes them back."""
        lists = {name: getattr(self, name).tolist() for name in _ARRAYS}
        return {**lists, "place": self.place, "width": self.width, "queries": self.queries}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` wrote."""
        arrays = {name: np.array(values[name], np.float64) for name in _ARRAYS}
        place, width, queries = float(values["place"]), float(values["width"]), int(values["queries"])
        return cls(arrays["centre"], arrays["spread"], arrays["slopes"], place, width, queries)

    def excess(self, scores: np.ndarray, traits: np.ndarray) -> np.ndarray:
        """Return by how many scales scores ``(K,)`` of a query with `traits` ``(F,)`` exceed the mode of chance."""
        chance = self.place + _standard(traits, self.centre, self.spread) @ self.slopes
        excess: np.ndarray = (np.asarray(scores, np.float64) - chance) / self.width
        return excess

    def confidence(self, scores: np.ndarray, traits: np.ndarray) -> np.ndarray:
        """Return the probability in [0, 1] that each of the scores ``(K,)`` of a query is no chance.

        A higher score never has a lower one. NaN where chance comes near a perfect match: in videos that are alike
        or show everything twice, clips of the corpus are no background for one another.
        """
        reach = (PERFECT - self.place) / self.width if self.place < PERFECT else 0.0  # the width may be 0 then
        if reach < _APART or self.excess(np.array([PERFECT]), traits)[0] < _APART:
            return np.full(len(scores), np.nan)
        lowest = -np.log(1 - _WEAKNESS / reach)  # below it the odds would fall with the score: they are held level
        z = np.maximum(self.excess(scores, traits), lowest)
        match = np.exp(-_WEAKNESS * z / reach) * _WEAKNESS / reach / (1 - np.exp(-_WEAKNESS))
        confidence: np.ndarray = 1 / (1 + np.exp(-z - np.exp(-z)) / match + 1 / (self.queries + 1))
        return confidence


def _moments(traits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(traits)
    count = np.maximum(known.sum(0), 1)
    centre = np.where(known, traits, 0).sum(0) / count
    spread = np.sqrt(np.where(known, np.square(traits - centre), 0).sum(0) / count)
    return centre, np.where(spread > 1e-9, spread, 0.0)


def _standard(traits: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return traits as standard deviations from the background's mean; 0 where nothing is known."""
    usable = np.isfinite(traits) & (spread > 0)
    rows = np.where(usable, np.where(usable, traits, 0) - centre, 0) / np.where(spread > 0, spread, 1)
    return np.clip(rows, -_FARTHEST, _FARTHEST)


def _ridge(rows: np.ndarray, scores: np.ndarray, ridge: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slopes ``(F,)`` and what they leave of all scores ``(B,)``, fitted to the kept ones."""
    x, y = rows[kept] - rows[kept].mean(0), scores[kept] - scores[kept].mean()
    slopes = np.linalg.solve(x.T @ x + np.diag(ridge), x.T @ y)
    return slopes, scores - rows @ slopes


def _gumbel(rest: np.ndarray) -> tuple[float, float]:
    """Return mode and scale of the Gumbel law with the lower quantiles of `rest`."""
    expected, found = -np.log(-np.log(_LEVELS)), np.quantile(rest, _LEVELS)
    width = float(np.cov(expected, found)[0, 1] / expected.var(ddof=1))
    return float(found.mean() - width * expected.mean()), width
