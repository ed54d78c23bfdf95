"""The corpus index: one vector a clip, kept safely on disk, searched in two stages."""

from momentret.search.index.corpus import CorpusIndex, IndexStats
from momentret.search.index.errors import DamagedIndexError, IndexLockedError
from momentret.search.index.filters import Changes, Filter, SeenFile, changes
from momentret.search.index.query import Hit, SearchOptions, SearchResult
from momentret.search.index.settings import IndexSettings, Video

__all__ = [
    "Changes",
    "CorpusIndex",
    "DamagedIndexError",
    "Filter",
    "Hit",
    "IndexLockedError",
    "IndexSettings",
    "IndexStats",
    "SearchOptions",
    "SearchResult",
    "SeenFile",
    "Video",
    "changes",
]
