"""Background queries, which tell what scores chance gives, and the traits of a query that chance depends on.

For a text the background is a bank of sentences put together at random: their parts are things that are filmed, the
whole hardly ever is, and that is what a query for something absent is like. For a picture it is clips of the corpus
itself, each searched in all videos but its own. For a query that words moved they are moved as it was: else they would
not show what the words find by themselves, nor how far they lead away from everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import numpy as np

from momentret.search.index import IndexSettings, SearchOptions, SearchResult, Video

__all__ = [
    "Corpus",
    "Query",
    "Reference",
    "clip_bank",
    "evidence",
    "mistrust",
    "moved",
    "phrase_bank",
    "reference_clips",
    "traits_of",
]

Kind = Literal["text", "picture"]
Array = TypeVar("Array", float, np.ndarray)


def _items(text: str) -> list[str]:
    return text.split(",")


_SUBJECTS = _items("a man,a woman,a child,a dog,a horse,two people,a crowd,a chef,a nurse,a cat,a drummer,a farmer")
_VERBS = _items("repairs,carries,paints,throws,washes,lifts,opens,films,eats,builds,kicks,cuts,hides,measures,sells")
_THINGS = _items(
    "a piano,a tent,a lobster,a wheelchair,a chandelier,a canoe,a telescope,a cactus,a drill,a wedding cake,a kite,"
    "a violin,a tractor,a penguin,a chessboard,a ladder,a microscope,an anchor,a snowman,a parachute"
)
_LOOKS = _items(  # no plain colours: those are in every film
    "wooden,tiny,broken,striped,inflatable,frozen,transparent,antique,wet,rusty,knitted,plastic,ticking,muddy"
)
_PLACES = _items(
    "in a cave,on a roof,inside a submarine,at a petrol station,in a library,on a glacier,under a bridge,"
    "in a courtroom,on a trampoline,in an operating theatre,at the top of a lighthouse,in a cornfield"
)

_SPENT = 1e-3  # length below which a sum of unit vectors says nothing

BANK = 64
"""Background queries: enough to know the law of chance within a tenth, few enough to encode in seconds."""
REFERENCE_VIDEOS = 256
REFERENCE_CLIPS = 2048
LEAN = 0.5
"""How far evidence leans from `to_language` to `to_video`: 0 is the score itself, 1 is twice `to_video`.

Chosen with seeds from 100 on: 1,000 planted videos and strong noise (`scripts/bench_presence.py`) have AUROC / Brier
0.981 / 0.085 with 0, 1.000 / 0.014 with 0.5, 0.998 / 0.056 with 1; photos 0.71 / 0.203, 0.72 / 0.206, 0.70 / 0.214.
"""


class Corpus(Protocol):
    """What a search needs of an index, of videos in memory, or of a server."""

    @property
    def settings(self) -> IndexSettings: ...

    def __len__(self) -> int: ...

    def __contains__(self, video_id: str) -> bool: ...

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult: ...

    def videos(self) -> Iterable[Video]: ...

    def video(self, video_id: str) -> Video: ...

    def clips(self, video_id: str) -> np.ndarray: ...


@dataclass(frozen=True)
class Query:
    """What is searched, as vectors."""

    name: str
    """What it is, for people."""
    tokens: np.ndarray
    """``(T, D)`` unit rows."""
    kind: Kind = "text"
    """Pictures lie nearer to clips than texts do, so they are compared with a background of their own."""
    source: tuple[str, float, float] | None = None
    """Video id, start and end in seconds of an indexed clip that is the query: not an answer to itself."""
    shift: np.ndarray | None = None
    """What its tokens were moved by ``(D,)``, as its background then is; None: they were not."""


def moved(query: Query, shift: np.ndarray) -> Query:
    """Return a query whose tokens are moved by `shift` ``(D,)``, without those of which nothing is left."""
    tokens = query.tokens + shift
    length = np.linalg.norm(tokens, axis=1, keepdims=True)
    left = length[:, 0] > _SPENT
    shift = shift if query.shift is None else query.shift + shift
    return replace(query, tokens=(tokens[left] / length[left]).astype(np.float32), shift=shift)


def phrase_bank(count: int = BANK, seed: int = 0) -> list[str]:
    """Return sentences, from a thing to two clauses, put together at random; the same for the same seed."""
    rng = np.random.default_rng(seed)

    def one(words: list[str]) -> str:
        return words[int(rng.integers(len(words)))]

    def thing() -> str:
        article, _, noun = one(_THINGS).partition(" ")
        look = one(_LOOKS)
        return f"{article} {noun}" if rng.random() < 0.5 else f"{'an' if look[0] in 'aeiou' else 'a'} {look} {noun}"

    forms = (
        thing,
        lambda: f"{thing()} {one(_PLACES)}",
        lambda: f"{one(_SUBJECTS)} {one(_VERBS)} {thing()}",
        lambda: f"{one(_SUBJECTS)} {one(_VERBS)} {thing()} {one(_PLACES)}",
        lambda: f"{one(_SUBJECTS)} {one(_VERBS)} {thing()}, then {one(_VERBS)} {thing()}",
    )
    return [forms[i % len(forms)]() for i in range(count)]


@dataclass(frozen=True)
class Reference:
    """A sample of the corpus, which shows how a query scores where it does not belong."""

    clips: np.ndarray
    """``(R, D)``."""
    owners: np.ndarray
    """``(R,)``: the video id of each clip."""


def reference_clips(corpus: Corpus) -> Reference:
    """Return up to 2048 clips of up to 256 videos, evenly spread over the corpus; always the same."""
    ids = _ids(corpus)
    chosen = ids[:: -(-len(ids) // REFERENCE_VIDEOS)] if ids else []
    each = max(REFERENCE_CLIPS // max(len(chosen), 1), 1)
    rows: list[np.ndarray] = [np.empty((0, corpus.settings.dim), np.float32)]
    owners: list[str] = []
    for name in chosen:
        clips = corpus.clips(name)
        some = clips[:: -(-len(clips) // each)]
        rows.append(some)
        owners += [name] * len(some)
    return Reference(np.concatenate(rows), np.array(owners, dtype=object))


def _ids(corpus: Corpus) -> list[str]:
    """Return all video ids; an index names its files in a tenth of the time that their records take."""
    files = getattr(corpus, "files", None)
    return [name for name, _, _ in files()] if files else [video.video_id for video in corpus.videos()]


def clip_bank(reference: Reference, length: int, count: int = BANK) -> list[Query]:
    """Return queries of `length` neighbouring clips, evenly spread over the reference."""
    starts = range(0, max(len(reference.clips) - length + 1, 0))
    whole = [i for i in starts if reference.owners[i] == reference.owners[i + length - 1]]
    chosen = whole[:: -(-len(whole) // count)] if whole else []
    return [
        Query("", reference.clips[i : i + length], "picture", (str(reference.owners[i]), -np.inf, np.inf))
        for i in chosen
    ]


def evidence(score: Array, to_video: Array, to_language: Array, kind: Kind = "text") -> Array:
    """Return how much a window speaks for the presence of what was asked for; at most 2, as a score.

    A score is the sum of how well the window holds all of the query, `to_video`, and how little else it holds,
    `to_language`. Presence is about the first, a mean over tokens, in which their noise cancels; the other takes for
    every clip its luckiest token, so that noise adds to what a short window scores by chance. The tokens of a picture
    are clips as others are, a single one mostly: of those it is the score itself.

    Args:
        score: of the window, corrected if scores are: a correction moves the evidence as much.
        to_video: see `momentret.search.index.Hit`.
        to_language: likewise.
        kind: of the query.
    """
    return score + LEAN * (to_video - to_language) if kind == "text" else score


def mistrust(reference: Reference) -> np.ndarray:
    """Return how much each of the traits of a query is to be mistrusted ``(4,)``; see `Calibration.fit`.

    How a query scores elsewhere is seen on all videos but the one that was found. A few show little of it, and one of
    them may show what was asked for: from a hundred on this is trusted.
    """
    others = max(len(set(reference.owners)) - 1, 0.1)
    elsewhere = 1 + (100 / others) ** 2
    return np.array([elsewhere, elsewhere, 10.0, 10.0])


def traits_of(query: Query, reference: Reference, found_in: str | None) -> np.ndarray:
    """Return what chance depends on ``(4,)``: the query's mean evidence on other videos, its spread, size, unity.

    Args:
        query: that was searched.
        reference: clips of the corpus.
        found_in: the video that holds the moment of most evidence; its clips are left out, since they may show what
            was asked for.
    """
    others = reference.clips[reference.owners != found_in]
    level, spread = np.nan, np.nan
    if len(others):
        product = query.tokens @ others.T  # (T, R)
        to_video, to_language = product.mean(0), product.max(0)
        scores = evidence(to_video + to_language, to_video, to_language, query.kind)
        level, spread = float(scores.mean()), float(scores.std())
    unity = float((query.tokens @ query.tokens.T).mean())
    return np.array([level, spread, len(query.tokens) ** -0.5, unity])
