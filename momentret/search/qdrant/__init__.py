"""A corpus on Qdrant: a server, a cluster, or, to try it out, a folder or memory.

    with QdrantBackend.open("https://qdrant.example:6333", "films") as corpus:
        corpus.search(tokens)

One point is one chapter (at most `IndexSettings.chapter_clips` clips; most videos are one), with two multivectors:
``seg``, the pooled vectors, int8 in memory, by which the server proposes chapters, and ``clips``, on disk and without a
graph, which are fetched. What was proposed is scored here, with the functions that score an index folder. The layout is
described in index/README.md.
"""

from __future__ import annotations

from momentret.search.qdrant.backend import QdrantBackend
from momentret.search.qdrant.client import Place

__all__ = ["Place", "QdrantBackend"]
