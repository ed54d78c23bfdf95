"""The corpus index: one vector a clip, kept safely on disk, searched in two stages."""

from momentret.search.index.corpus import CorpusIndex, IndexStats
from momentret.search.index.errors import DamagedIndexError, IndexLockedError
from momentret.search.index.filters import Changes, Filter, SeenFile, changes
from momentret.search.index.hits import best_hits, by_rank
from momentret.search.index.manifest import is_index
from momentret.search.index.memory import MemoryCorpus
from momentret.search.index.query import Hit, SearchOptions, SearchResult
from momentret.search.index.repair import Repair, repair_index
from momentret.search.index.salvage import LostVideo
from momentret.search.index.settings import CorpusStats, IndexSettings, Video
from momentret.search.index.store import can_begin

__all__ = [
    "Changes",
    "CorpusIndex",
    "CorpusStats",
    "DamagedIndexError",
    "Filter",
    "Hit",
    "IndexLockedError",
    "IndexSettings",
    "IndexStats",
    "LostVideo",
    "MemoryCorpus",
    "Repair",
    "SearchOptions",
    "SearchResult",
    "SeenFile",
    "Video",
    "best_hits",
    "by_rank",
    "can_begin",
    "changes",
    "is_index",
    "repair_index",
]
