"""`CorpusIndex`: the videos of a corpus, kept on disk, and the one place to search them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from momentret.errors import DataError, MismatchError
from momentret.progress import Progress, silent
from momentret.search.index.basis import single_video
from momentret.search.index.codes import decode
from momentret.search.index.columns import Columns, describe, encoded_batches
from momentret.search.index.manifest import check_manifests
from momentret.search.index.query import SearchOptions, SearchResult, unit_tokens
from momentret.search.index.search import score_matrix, search_segments
from momentret.search.index.segment import Segment, first_stage_bytes
from momentret.search.index.settings import CorpusStats, IndexSettings, Video
from momentret.search.index.store import Mode, Store, create_store

__all__ = ["CorpusIndex", "IndexStats"]

_BATCH_CLIPS = 8_000
"""Clips that are made durable together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats(CorpusStats):
    """The size and state of an index."""

    segments: int
    removed: int
    """Videos that are removed but still take up room; `CorpusIndex.compact` frees it."""
    unsealed: int
    """Videos that are only in the log."""
    first_stage_bytes: int
    """What a search keeps in memory."""
    clip_bytes: int
    """The clip vectors on disk."""
    generation: int
    torn_bytes: int
    """At the end of the log, of a change that is not whole: it was never acknowledged, or the log was cut short."""


class CorpusIndex:
    """An index of videos in a folder: add, remove, and search, safe against crashes and damaged files.

    Open it with `create` or `open`, as a context manager. One process may write, any number read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def create(cls, folder: Path | str, settings: IndexSettings) -> CorpusIndex:
        """Make an empty index and open it for writing.

        Raises:
            OutputExistsError: the folder is there and not empty.
            IndexLockedError: another process is making an index there.
        """
        return cls(create_store(Path(folder), settings))

    @classmethod
    def open(cls, folder: Path | str, mode: Mode = "r", encoder: str | None = None) -> CorpusIndex:
        """Open an index.

        Args:
            folder: of the index.
            mode: ``"r"`` to search (works on read-only media), ``"rw"`` to change it.
            encoder: fingerprint of the encoder that the queries or new vectors come from.

        Raises:
            DamagedIndexError: a file is missing or is not what was written.
            IndexLockedError: another process is writing.
            MismatchError: the index was made with another encoder.
        """
        folder = Path(folder)
        store = Store(folder, mode)
        own = store.manifest.settings.encoder
        if encoder is not None and encoder != own:
            store.close()
            raise MismatchError(
                f"index {str(folder)!r} holds vectors of encoder {own!r}, not {encoder!r}; "
                "use that encoder or build an index with this one"
            )
        return cls(store)

    def __enter__(self) -> CorpusIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and let others write; everything acknowledged is on disk already."""
        self._store.close()

    def delete(self) -> None:
        """Close the index and delete its folder with all that is in it."""
        folder = self.folder
        gone = folder.with_name(f".{folder.name}.{os.getpid()}.deleted")
        if os.name != "posix":
            self.close()  # elsewhere a folder with open files cannot be renamed
        folder.rename(gone)  # while it is locked, so that nobody begins in what is going
        self.close()
        shutil.rmtree(gone)

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._store.place

    @property
    def settings(self) -> IndexSettings:
        """Return what was fixed when the index was made."""
        return self._store.manifest.settings

    # changing

    def add(self, video: Video, clips: np.ndarray, replace: bool = False) -> None:
        """Add one video; it survives a crash once this returns.

        Args:
            video: its record.
            clips: ``(L, D)`` float32, unit rows, one a clip.
            replace: take the place of a video with the same id, in one step.

        Raises:
            DataError: the id is there already and `replace` is off.
            FeatureError: the clips do not fit the index or the duration.
        """
        self.add_many([(video, clips)], replace)

    def add_many(
        self,
        videos: Iterable[tuple[Video, np.ndarray]],
        replace: bool = False,
        progress: Progress = silent,
        total: int | None = None,
    ) -> int:
        """Add videos as `add` does, but make them durable by the hundred; returns how many there were."""
        known = None if replace else self.__contains__
        count = 0
        for batch in encoded_batches(progress(videos, "index", total), self.settings, known, _BATCH_CLIPS):
            self._store.put(batch)
            count += len(batch)
        return count

    def remove(self, video_ids: Sequence[str]) -> None:
        """Remove videos, durably; none if one of them is not there.

        Raises:
            DataError: an id is not in the index.
        """
        self._store.remove(video_ids)

    def move(self, video_id: str, path: str, size: int | None = None, modified: float | None = None) -> None:
        """Note that the file of a video has another path now; the vectors stay.

        Raises:
            DataError: the id is not in the index.
        """
        moved, columns = self.video(video_id).moved(path, size, modified), self._columns(video_id)
        self._store.put([columns | describe(moved)])

    def flush(self) -> None:
        """Turn the log into a sealed segment; happens by itself every `IndexSettings.seal_clips` clips."""
        self._store.seal()

    def compact(self) -> None:
        """Rewrite the index as one segment: frees the room of removed videos and makes searching faster."""
        self._store.compact()

    def refresh(self) -> bool:
        """See what another process has written since; returns whether anything changed."""
        return self._store.refresh()

    # searching

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult:
        """Find the moments that a text describes.

        Args:
            tokens: ``(T, D)``: vectors of the text's words or phrases; any length, none zero.
            sentence: ``(D,)``: the vector of the whole text, which counts as one more token.
            options: how to search.

        Raises:
            DamagedIndexError: a file that is needed is not what was written.
            ValueError: the query does not fit the index.
        """
        return self.search_batch([(tokens, sentence)], options)[0]

    def search_batch(
        self, queries: Sequence[tuple[np.ndarray, np.ndarray | None]], options: SearchOptions | None = None
    ) -> list[SearchResult]:
        """Search for several texts at once: the same results as one by one, for less work."""
        rows = [unit_tokens(tokens, sentence, self.settings.dim) for tokens, sentence in queries]
        return self._store.current(lambda segments: search_segments(segments, rows, options or SearchOptions()))

    def score_videos(
        self, queries: Sequence[tuple[np.ndarray, np.ndarray | None]], options: SearchOptions | None = None
    ) -> np.ndarray:
        """Score every video against every query: its best window, ``(B, N)`` float32, columns as in `videos`.

        Args:
            queries: tokens ``(T, D)`` and sentence ``(D,)`` or None, as for `search`.
            options: ``exact`` scores the clips, otherwise the pooled vectors of the first stage, for a fraction of the
                work; ``level`` and ``lengths`` count, the others do not.

        Raises:
            ValueError: a query does not fit the index.
        """
        rows = [unit_tokens(tokens, sentence, self.settings.dim) for tokens, sentence in queries]
        return score_matrix(self._store.segments(), rows, options or SearchOptions())

    # looking

    @property
    def folder(self) -> Path:
        """Return where the index is."""
        return self._store.folder

    def videos(self) -> Iterator[Video]:
        """Yield the record of every video."""
        for segment in self._store.segments():
            for row in np.flatnonzero(~segment.removed):
                yield segment.video(int(row))

    def files(self) -> Iterator[tuple[str, str, str]]:
        """Yield id, path and content hash of every video: a tenth of the work of `videos`."""
        for segment in self._store.segments():
            for row in np.flatnonzero(~segment.removed).tolist():
                yield segment.ids[row], segment.paths[row], segment.hashes[row]

    def video(self, video_id: str) -> Video:
        """Return the record of one video.

        Raises:
            DataError: the id is not in the index.
        """
        if video_id not in self:
            raise DataError(f"video {video_id!r} is not in index {str(self._store.folder)!r}")
        number, row = self._store.place[video_id]
        if number < 0:
            return Segment(self._store.pending_columns(row), self.settings).video(0)
        return self._store.sealed[number].video(row)

    def _columns(self, video_id: str) -> Columns:
        """Return all columns of one video, as the log takes them."""
        number, row = self._store.place[video_id]
        return self._store.pending_columns(row) if number < 0 else single_video(self._store.sealed[number], row)

    def clips(self, video_id: str) -> np.ndarray:
        """Return the clip vectors ``(L, D)`` float32 of one video, as they are kept.

        Raises:
            DataError: the id is not in the index.
        """
        self.video(video_id)
        columns = self._columns(video_id)
        return decode(columns["clip_codes"], columns["clip_peak"])

    def verify(self, progress: Progress = silent) -> None:
        """Read every file and compare it with its checksum.

        Raises:
            DamagedIndexError: naming the first file that differs.
        """

        def check(segments: list[Segment]) -> None:
            for segment in progress(segments, "verify", len(segments)):
                segment.check()

        self._store.current(check)
        check_manifests(self.folder)

    def stats(self) -> IndexStats:
        """Return the size and state of the index."""
        segments = self._store.segments()
        clips = [segment.columns["clip_count"] for segment in segments]
        settings = self.settings
        row = settings.dim * np.dtype(settings.clip_dtype).itemsize + 2
        return IndexStats(
            videos=sum(int((~segment.removed).sum()) for segment in segments),
            clips=sum(int(count[~segment.removed].sum()) for segment, count in zip(segments, clips, strict=True)),
            segments=sum(segment.entry is not None for segment in segments),
            removed=sum(int(segment.removed.sum()) for segment in segments),
            unsealed=sum(segment.videos for segment in segments if segment.entry is None),
            duration=sum(float(segment.columns["video_duration"][~segment.removed].sum()) for segment in segments),
            first_stage_bytes=first_stage_bytes(segments),
            clip_bytes=sum(int(count.sum()) for count in clips) * row,
            generation=self._store.manifest.generation,
            torn_bytes=self._store.torn_bytes,
            encoder=settings.encoder,
            dim=settings.dim,
        )
