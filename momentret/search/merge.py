"""Several corpora searched as one: a score depends on its moment alone, so the best of the bests are the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from momentret.errors import ConfigError, DataError, MismatchError
from momentret.search.backend import Backend, Query
from momentret.search.index import (
    CorpusIndex,
    Filter,
    IndexSettings,
    SearchOptions,
    SearchResult,
    Video,
    by_rank,
    is_index,
)

__all__ = ["Several", "merge", "open_corpora", "open_corpus"]


def merge(results: Sequence[SearchResult], top: int) -> SearchResult:
    """Return the `top` best moments of results for one query, each with at least its own `top` best.

    Exact: it is what one search over all the videos together returns, but for candidates, of which each corpus has its
    own.
    """
    hits = sorted((hit for result in results for hit in result.hits), key=by_rank)
    return SearchResult(
        hits=tuple(hits[:top]),
        videos=sum(result.videos for result in results),
        scored=sum(result.scored for result in results),
        certified=all(result.certified for result in results),
    )


class Several:
    """Corpora that are searched as if they were one: indexes of several disks, or folders beside a server.

    A video that several hold counts, and is found, as often. Where an earlier corpus has a video of the same id, as
    names of files of different disks often are the same, that of the second is called ``2/ID`` here, and so on.

    Args:
        corpora: at least one; closed with this one.

    Raises:
        ConfigError: there is none.
        MismatchError: their vectors come from different encoders.
    """

    def __init__(self, corpora: Sequence[Backend]) -> None:
        if not corpora:
            raise ConfigError("there is nothing to search; give at least one index")
        self._corpora = corpora
        for other in corpora[1:]:
            for name in ("dim", "encoder"):
                mine, its = getattr(self.settings, name), getattr(other.settings, name)
                if mine != its:
                    raise MismatchError(
                        f"one index has {name} {mine!r}, another {its!r}; search together what one encoder made"
                    )

    def __enter__(self) -> Several:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all of them."""
        for corpus in self._corpora:
            corpus.close()

    @property
    def settings(self) -> IndexSettings:
        """Return the settings of the first."""
        return self._corpora[0].settings

    def __len__(self) -> int:
        return sum(map(len, self._corpora))

    def __contains__(self, video_id: str) -> bool:
        return self._find(video_id) is not None

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult:
        """Find the moments that a text describes; see `Backend.search`."""
        return self.search_batch([(tokens, sentence)], options)[0]

    def search_batch(self, queries: Sequence[Query], options: SearchOptions | None = None) -> list[SearchResult]:
        """Search for several texts: the same results as one by one."""
        options = options or SearchOptions()
        found = [
            [self._named(number, result) for result in corpus.search_batch(queries, replace(options, where=where))]
            for number, (corpus, where) in enumerate(zip(self._corpora, self._filters(options.where), strict=True))
        ]
        return [merge(results, options.top) for results in zip(*found, strict=True)]

    def videos(self) -> Iterator[Video]:
        """Yield the record of every video."""
        before: set[str] = set()
        for number, corpus in enumerate(self._corpora):
            own = list(corpus.videos())
            yield from (_renamed(video, number) if video.video_id in before else video for video in own)
            before |= {video.video_id for video in own}

    def video(self, video_id: str) -> Video:
        """Return the record of one video.

        Raises:
            DataError: none has it.
        """
        number, own = self._place(video_id)
        video = self._corpora[number].video(own)
        return video if own == video_id else replace(video, video_id=video_id)

    def clips(self, video_id: str) -> np.ndarray:
        """Return the clip vectors ``(L, D)`` float32 of one video, as they are kept.

        Raises:
            DataError: none has it.
        """
        number, own = self._place(video_id)
        return self._corpora[number].clips(own)

    def _place(self, video_id: str) -> tuple[int, str]:
        found = self._find(video_id)
        if found is None:
            raise DataError(f"video {video_id!r} is not in any of the {len(self._corpora)} indexes")
        return found

    def _find(self, video_id: str) -> tuple[int, str] | None:
        """Return which corpus has a video, and the id that it has there."""
        for number, corpus in enumerate(self._corpora):
            own = video_id.removeprefix(_prefix(number))
            if own != video_id and own in corpus and self._is_taken(own, number):
                return number, own
        return next(((number, video_id) for number, corpus in enumerate(self._corpora) if video_id in corpus), None)

    def _is_taken(self, video_id: str, number: int) -> bool:
        """Tell whether a corpus before that of a number has a video of this id."""
        return any(video_id in corpus for corpus in self._corpora[:number])

    def _named(self, number: int, result: SearchResult) -> SearchResult:
        """Return the result of one corpus with the ids that its videos have here."""
        hits = [
            replace(hit, video=_renamed(hit.video, number)) if self._is_taken(hit.video.video_id, number) else hit
            for hit in result.hits
        ]
        return replace(result, hits=tuple(hits))

    def _filters(self, where: Filter) -> list[Filter]:
        """Return a filter for each corpus, with the ids that its videos have there."""
        if where.video_ids is None:
            return [where] * len(self._corpora)
        places = [place for name in where.video_ids if (place := self._find(name)) is not None]
        own = [frozenset(name for at, name in places if at == number) for number in range(len(self._corpora))]
        return [replace(where, video_ids=names) for names in own]


def _prefix(number: int) -> str:
    return f"{number + 1}/"


def _renamed(video: Video, number: int) -> Video:
    return replace(video, video_id=_prefix(number) + video.video_id)


def open_corpus(place: str | Path, encoder: str | None = None) -> Backend:
    """Open an index folder, or a collection of Qdrant, for searching.

    Args:
        place: the folder, or ``http(s)://HOST:PORT/COLLECTION``, or ``FOLDER/COLLECTION`` of a Qdrant without a server.
        encoder: fingerprint of the encoder that the queries come from.

    Raises:
        ConfigError: the URL names no collection, or qdrant-client is not installed.
        DataError: it is damaged, or not there.
        MismatchError: it was made with another encoder.
    """
    url, folder = urlsplit(str(place)), Path(place)
    if url.scheme in ("http", "https"):
        prefix, _, collection = url.path.rstrip("/").rpartition("/")
        if not collection:
            raise ConfigError(f"{str(place)!r} names no collection; give http(s)://HOST:PORT/COLLECTION")
        server = urlunsplit((url.scheme, url.netloc, prefix, "", ""))
    elif (folder.parent / "collection" / folder.name).is_dir() and not is_index(folder):
        server, collection = str(folder.parent), folder.name
    else:
        return CorpusIndex.open(folder, encoder=encoder)
    from momentret.search.qdrant import QdrantBackend

    return QdrantBackend.open(server, collection, encoder)


@contextmanager
def open_corpora(places: Sequence[str | Path]) -> Iterator[Backend | Several]:
    """Open one index, or several as one, and close them at the end.

    Args:
        places: as `open_corpus` takes them; at least one.

    Raises:
        MismatchError: their vectors come from different encoders.
    """
    with ExitStack() as stack:
        corpora = [stack.enter_context(closing(open_corpus(place))) for place in places]
        yield corpora[0] if len(corpora) == 1 else Several(corpora)
