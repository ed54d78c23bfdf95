"""What an encoder is: one space for pictures and words. The rest of momentret knows nothing more about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from momentret.encoders.phrases import split_phrases
from momentret.errors import ConfigError, DataError

__all__ = ["QUERY_TOKENS", "Encoder", "Fingerprint", "QueryVectors", "query_by_phrases", "to_unit"]

QUERY_TOKENS = ("phrases", "states")


@dataclass(frozen=True)
class Fingerprint:
    """Which vectors an encoder makes; those of different fingerprints must never be compared."""

    name: str
    """Network and weights as the user named them: ``ViT-B-32/openai``."""
    weights_hash: str
    """Hash of the weights themselves, whatever file they came in."""
    dimension: int
    """Length D of a vector."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class QueryVectors:
    """A query as vectors of length 1."""

    sentence: np.ndarray
    """The whole query ``(D,)`` float32."""
    tokens: np.ndarray
    """The set that is matched with a set of clips ``(T, D)`` float32, T at least 1."""
    names: tuple[str, ...]
    """What each token is: the phrase, or the word piece."""


class Encoder(Protocol):
    """Turns frames and texts into vectors of one space, all of length 1."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    @property
    def frame_size(self) -> int:
        """Shorter side in pixels below which nothing is lost: larger frames may be scaled down to it first."""
        ...

    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return ``(N, D)`` float32 for N images ``(height, width, 3)`` uint8 RGB of any sizes."""
        ...

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``(N, D)`` float32 for N sentences."""
        ...

    def encode_query(self, query: str, tokens: str = "phrases") -> QueryVectors:
        """Return the sentence vector and a set of vectors for its parts.

        Args:
            query: what is searched.
            tokens: ``phrases``: the query, its clauses and noun phrases, each encoded as a text; ``states``: the last
                states of the text network at each word piece, projected into the space.

        Raises:
            DataError: the query is empty.
            ConfigError: the encoder has no such tokens.
        """
        ...


def query_by_phrases(encoder: Encoder, query: str, tokens: str = "phrases") -> QueryVectors:
    """Encode a query and its phrases as texts: what `Encoder.encode_query` does by default."""
    if tokens not in QUERY_TOKENS:
        raise ConfigError(f"no query tokens {tokens!r}; known: {', '.join(QUERY_TOKENS)}")
    if tokens != "phrases":
        raise ConfigError(f"{encoder.fingerprint.name} has no token states in the space of its frames; use phrases")
    phrases = split_phrases(require_text(query))
    vectors = encoder.encode_text(phrases)
    return QueryVectors(vectors[0], vectors, tuple(phrases))


def require_text(query: str) -> str:
    """Return `query`, refusing one that says nothing or is no Unicode: what a terminal of another coding sends."""
    if not query.strip():
        raise DataError("the query is empty; say in words what to look for")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the query {query!r} is not UTF-8; use a terminal, or a locale, that is") from error
    return query


def to_unit(rows: np.ndarray) -> np.ndarray:
    """Divide each row ``(N, D)`` by its length, in float32; a row of zeros stays zero."""
    rows = np.asarray(rows, np.float32)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length == 0, np.float32(1), length)


def batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Cut `items` into runs of `size`; the last may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))
