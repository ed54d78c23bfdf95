"""`QdrantBackend`: the videos of a corpus on Qdrant, searched there first and scored exactly here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from momentret.errors import DataError, MismatchError
from momentret.progress import Progress, silent
from momentret.search.backend import Query
from momentret.search.index import CorpusStats, Filter, IndexSettings, SearchOptions, SearchResult, Video, best_hits
from momentret.search.index.columns import Columns, encoded_batches
from momentret.search.index.first_stage import run_scores
from momentret.search.index.hits import best_chapters, candidates_of, reach_of
from momentret.search.index.query import unit_tokens
from momentret.search.index.segment import Segment
from momentret.search.merge import merge
from momentret.search.qdrant.client import Collection, Place
from momentret.search.qdrant.layout import make_collection, settings_of
from momentret.search.qdrant.points import conditions, point_id, points_of, record, video_of
from momentret.search.qdrant.reader import Reader, pages

__all__ = ["PREFETCH", "QdrantBackend"]

PREFETCH = 1_000
"""Chapters that the server proposes. By exact MaxSim, so many held 0.975 to 1.00 of the ten best moments, one a video,
of 2,000 and 10,000 generated videos; 500 held 0.935 to 0.993. Their pooled vectors, 12 kB each, travel with a query.
"""
_BATCH_CLIPS = 1_000
"""Clips that are encoded before they are sent."""


class QdrantBackend:
    """The videos of a corpus on Qdrant; a `momentret.search.backend.Backend`. Open it with `create` or `open`.

    Every search asks the server for the chapters whose pooled vectors the tokens like best, scores these in both
    directions, fetches the clips of the best and scores all windows exactly. `SearchOptions.exact` fetches everything:
    it is for checking. Filters are checked by the server, all but `Filter.keep`. Over a slow network, give a client
    made with ``prefer_grpc=True``, which needs a fourth of the bytes, or a smaller `prefetch`.
    """

    def __init__(self, collection: Collection, settings: IndexSettings, prefetch: int = PREFETCH) -> None:
        self._collection, self._settings, self._prefetch = collection, settings, prefetch
        self._reader = Reader(collection, settings.chapter_clips)

    @classmethod
    def create(
        cls,
        place: Place,
        collection: str,
        settings: IndexSettings,
        *,
        shards: int | None = None,
        replicas: int | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> QdrantBackend:
        """Make an empty collection and open it.

        Args:
            place: URL of a server or of any node of a cluster, a folder, ``":memory:"``, or a client of your own.
            collection: its name.
            settings: as of an index folder; `IndexSettings.seal_clips` means nothing here.
            shards: into how many parts points are divided by the hash of their ids; default: one a node.
            replicas: on how many nodes each part is kept (2 survives the loss of one); default: 1.
            resume: go on with a collection of that name if there is one, as it was made.
            overwrite: delete a collection of that name first.

        Raises:
            ConfigError: qdrant-client is not installed.
            DataError: the collection is there already, or the server does not answer.
        """
        with _opened(place, collection) as server:
            if server.collection_exists():
                if resume and not overwrite:
                    return cls(server, settings_of(server))
                if not overwrite:
                    raise DataError(f"collection {collection!r} exists already; choose another name or overwrite it")
                server.delete_collection()
            make_collection(server, settings, shards, replicas)
            return cls(server, settings)

    @classmethod
    def open(
        cls, place: Place, collection: str, encoder: str | None = None, *, prefetch: int = PREFETCH
    ) -> QdrantBackend:
        """Open a collection that `create` made.

        Args:
            place: as for `create`.
            collection: its name.
            encoder: fingerprint of the encoder that the queries or new vectors come from.
            prefetch: chapters that the server proposes; at least `SearchOptions.candidates`.

        Raises:
            ConfigError: qdrant-client is not installed.
            DataError: there is no such collection, it is not one of ours, or the server does not answer.
            MismatchError: it was made with another encoder.
        """
        with _opened(place, collection) as server:
            settings = settings_of(server)
            if encoder is not None and encoder != settings.encoder:
                raise MismatchError(
                    f"collection {collection!r} holds vectors of encoder {settings.encoder!r}, not {encoder!r}; "
                    "use that encoder or build a collection with this one"
                )
            return cls(server, settings, prefetch)

    def __enter__(self) -> QdrantBackend:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, unless the client was given."""
        self._collection.close()

    @property
    def settings(self) -> IndexSettings:
        """Return what was fixed when the collection was made."""
        return self._settings

    def __len__(self) -> int:
        return self._reader.count([self._reader.first_chapter])

    def __contains__(self, video_id: str) -> bool:
        return bool(self._collection.retrieve(ids=[point_id(video_id, 0)], with_payload=False))

    # changing

    def add(self, video: Video, clips: np.ndarray, replace: bool = False) -> None:
        """Add one video; the server has it once this returns.

        Raises:
            DataError: the id is there already and `replace` is off.
            FeatureError: the clips do not fit the collection or the duration.
        """
        self.add_many([(video, clips)], replace)

    def add_many(
        self,
        videos: Iterable[tuple[Video, np.ndarray]],
        replace: bool = False,
        progress: Progress = silent,
        total: int | None = None,
    ) -> int:
        """Add videos as `add` does, in requests of some megabytes; returns how many there were.

        Replacing is not one step here: after an error in the middle of it, replace again.
        """
        known = None if replace else self.__contains__
        batches = encoded_batches(progress(videos, "index", total), self._settings, known, _BATCH_CLIPS)
        return sum(self._put(batch) for batch in batches)

    def _put(self, batch: Sequence[Columns]) -> int:
        models = self._collection.models
        videos = [Segment(columns, self._settings).video(0) for columns in batch]
        there = {point.id for point in self._reader.points([(video.video_id, 0) for video in videos], clips=False)}
        points = [point for pair in zip(videos, batch, strict=True) for point in points_of(*pair, models)]
        self._send([point for point in points if point.payload["chapter"] > 0])
        for video, columns in zip(videos, batch, strict=True):
            if point_id(video.video_id, 0) in there:  # it may have been longer
                beyond = models.Range(gte=len(columns["chapter_clips"]))
                self._delete(video.video_id, [models.FieldCondition(key="chapter", range=beyond)])
        self._send([point for point in points if point.payload["chapter"] == 0])  # last: with it a video is there
        return len(batch)

    def _send(self, points: Sequence[Any]) -> None:
        for page in pages(points, self._settings.chapter_clips):
            self._collection.upsert(points=page, wait=True)

    def _delete(self, video_id: str, more: Sequence[Any] = ()) -> None:
        models = self._collection.models
        own = conditions(Filter(video_ids=frozenset([video_id])), models)
        self._collection.delete(
            points_selector=models.FilterSelector(filter=models.Filter(must=[*own, *more])), wait=True
        )

    def remove(self, video_ids: Sequence[str]) -> None:
        """Remove videos; none if one of them is not there.

        Raises:
            DataError: an id is not in the collection.
        """
        for video_id in video_ids:
            self.video(video_id)
        for video_id in dict.fromkeys(video_ids):
            self._delete(video_id)

    def move(self, video_id: str, path: str, size: int | None = None, modified: float | None = None) -> None:
        """Note that the file of a video has another path now; the vectors stay.

        Raises:
            DataError: the id is not in the collection.
        """
        moved = self.video(video_id).moved(path, size, modified)
        server, models = self._collection, self._collection.models
        own = models.Filter(must=conditions(Filter(video_ids=frozenset([video_id])), models))
        server.set_payload(payload=record(moved), points=own, wait=True)

    # searching

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult:
        """Find the moments that a text describes.

        Args:
            tokens: ``(T, D)``: vectors of the text's words or phrases; any length, none zero.
            sentence: ``(D,)``: the vector of the whole text, which counts as one more token.
            options: how to search; its first stage is the server's, so it must be the default one.

        Raises:
            DataError: the server does not answer.
            ValueError: the query does not fit the collection.
        """
        return self.search_batch([(tokens, sentence)], options)[0]

    def search_batch(self, queries: Sequence[Query], options: SearchOptions | None = None) -> list[SearchResult]:
        """Search for several texts: the same results as one by one."""
        options = options or SearchOptions()
        if options.first_stage != "pooled":
            raise ValueError(f"first_stage {options.first_stage!r} is for index folders; a server has its own")
        rows = [unit_tokens(tokens, sentence, self._settings.dim) for tokens, sentence in queries]
        where = self._reader.conditions(options.where)
        videos = self._reader.count([*where, self._reader.first_chapter])
        if options.exact and not _proof_is_given_up(options, videos):
            return self._exact(rows, options, where)
        chapters = self._reader.count(where)
        return [self._staged(query, options, where, (videos, chapters)) for query in rows]

    def _staged(
        self, query: np.ndarray, options: SearchOptions, where: list[Any], totals: tuple[int, int]
    ) -> SearchResult:
        """Score what the server proposes: all of it by its pooled vectors, the best of that by its clips."""
        best = self._proposals(query, options, where)
        fetched, runs = self._reader.fetch([point.payload for point in best], reach_of(options))
        hits = best_hits([fetched], query, [(0, run) for run in runs], options) if runs else ()
        return SearchResult(hits, totals[0], len(fetched.videos), len(best) == totals[1])

    def _proposals(self, query: np.ndarray, options: SearchOptions, where: list[Any]) -> list[Any]:
        """Return the chapters that a folder's first stage would score best, of those that the server likes best."""
        server = self._collection
        answer = server.query_points(
            query=query.tolist(),
            using="seg",
            query_filter=server.models.Filter(must=where),
            limit=max(self._prefetch, candidates_of(options)),
            with_vectors=["seg"],
        )
        points = sorted(answer.points, key=lambda point: str(point.id))
        if not points:
            return []
        pools = [np.array(point.vector["seg"], dtype=np.float32) for point in points]
        weight = np.concatenate([point.payload["weights"] for point in points]).astype(np.float32)
        scores = run_scores(query @ np.concatenate(pools).T, np.array([len(p) for p in pools]), weight, options.level)
        videos = np.unique([point.payload["video_id"] for point in points], return_inverse=True)[1]
        return [points[i] for i in best_chapters(scores, videos, options)]

    def _exact(self, queries: Sequence[np.ndarray], options: SearchOptions, where: list[Any]) -> list[SearchResult]:
        """Score everything, some thousand clips at a time."""
        found: list[list[SearchResult]] = [[SearchResult((), 0, 0, True)] for _ in queries]
        for fetched, runs in self._reader.everything(where):
            placed = [(0, run) for run in runs]
            for results, query in zip(found, queries, strict=True):
                hits = best_hits([fetched], query, placed, options)
                results.append(SearchResult(hits, len(fetched.videos), len(fetched.videos), True))
        return [merge(results, options.top) for results in found]

    # looking

    def videos(self) -> Iterator[Video]:
        """Yield the record of every video."""
        return map(video_of, self._reader.records())

    def video(self, video_id: str) -> Video:
        """Return the record of one video.

        Raises:
            DataError: the id is not in the collection.
        """
        return video_of(self._reader.payload(video_id))

    def clips(self, video_id: str) -> np.ndarray:
        """Return the clip vectors ``(L, D)`` float32 of one video, as they are kept.

        Raises:
            DataError: the id is not in the collection.
        """
        fetched, runs = self._reader.fetch([self._reader.payload(video_id)])
        return fetched.clip_rows(runs)[0]

    def stats(self) -> CorpusStats:
        """Return how much there is; asks for the record of every video."""
        sizes = [(int(payload["video_clips"]), float(payload["duration"])) for payload in self._reader.records()]
        return CorpusStats(
            videos=len(sizes),
            clips=sum(clips for clips, _ in sizes),
            duration=sum(duration for _, duration in sizes),
            encoder=self._settings.encoder,
            dim=self._settings.dim,
        )


@contextmanager
def _opened(place: Place, name: str) -> Iterator[Collection]:
    """Connect; after an error in the block, let go of the connection."""
    server = Collection(place, name)
    try:
        yield server
    except BaseException:
        server.close()
        raise


def _proof_is_given_up(options: SearchOptions, videos: int) -> bool:
    return options.exact == "certified" and options.proof_limit is not None and videos > options.proof_limit
