"""Several corpora searched as one: a score depends on its moment alone, so the best of the bests are the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from momentret.errors import ConfigError, DataError, MismatchError
from momentret.search.backend import Backend, Query
from momentret.search.index import CorpusIndex, IndexSettings, SearchOptions, SearchResult, Video, by_rank, is_index

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

    A video that several hold counts, and is found, as often; asked for by its id it is that of the first.

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
        return any(video_id in corpus for corpus in self._corpora)

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult:
        """Find the moments that a text describes; see `Backend.search`."""
        return self.search_batch([(tokens, sentence)], options)[0]

    def search_batch(self, queries: Sequence[Query], options: SearchOptions | None = None) -> list[SearchResult]:
        """Search for several texts: the same results as one by one."""
        options = options or SearchOptions()
        found = [corpus.search_batch(queries, options) for corpus in self._corpora]
        return [merge(results, options.top) for results in zip(*found, strict=True)]

    def videos(self) -> Iterator[Video]:
        """Yield the record of every video."""
        return (video for corpus in self._corpora for video in corpus.videos())

    def video(self, video_id: str) -> Video:
        """Return the record of one video.

        Raises:
            DataError: none has it.
        """
        return self._with(video_id).video(video_id)

    def clips(self, video_id: str) -> np.ndarray:
        """Return the clip vectors ``(L, D)`` float32 of one video, as they are kept.

        Raises:
            DataError: none has it.
        """
        return self._with(video_id).clips(video_id)

    def _with(self, video_id: str) -> Backend:
        for corpus in self._corpora:
            if video_id in corpus:
                return corpus
        raise DataError(f"video {video_id!r} is not in any of the {len(self._corpora)} indexes")


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
