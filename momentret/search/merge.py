"""One answer from several corpora: a score depends on its moment alone, so the best of the bests are the best."""

from __future__ import annotations

from collections.abc import Sequence

from momentret.search.backend import Backend, Query
from momentret.search.index import SearchOptions, SearchResult, by_rank

__all__ = ["merge", "search_several"]


def merge(results: Sequence[SearchResult], top: int) -> SearchResult:
    """Return the `top` best moments of results for one query, each with at least its own `top` best.

    Exact: it is what one search over all the videos together returns, up to candidates (each corpus has its own). A
    video that several corpora hold is found as often.
    """
    hits = sorted((hit for result in results for hit in result.hits), key=by_rank)
    return SearchResult(
        hits=tuple(hits[:top]),
        videos=sum(result.videos for result in results),
        scored=sum(result.scored for result in results),
        certified=all(result.certified for result in results),
    )


def search_several(
    backends: Sequence[Backend], queries: Sequence[Query], options: SearchOptions | None = None
) -> list[SearchResult]:
    """Search several corpora for each query and merge what they find."""
    options = options or SearchOptions()
    found = [backend.search_batch(queries, options) for backend in backends]
    return [merge(results, options.top) for results in zip(*found, strict=True)]
