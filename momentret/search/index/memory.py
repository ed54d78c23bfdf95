"""Videos in memory that are searched as an index is: for one file, or for trying something out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from momentret.errors import DataError
from momentret.search.index.codes import decode
from momentret.search.index.columns import encode_video
from momentret.search.index.query import SearchOptions, SearchResult, unit_tokens
from momentret.search.index.search import search_segments
from momentret.search.index.segment import Segment
from momentret.search.index.settings import IndexSettings, Video

__all__ = ["MemoryCorpus"]


class MemoryCorpus:
    """Videos that are encoded, kept and scored as `CorpusIndex` does, so that both find the same.

    Args:
        settings: as of an index.
        videos: records and their clips ``(L, D)``, unit rows.

    Raises:
        FeatureError: the clips do not fit the settings or the duration.
    """

    def __init__(self, settings: IndexSettings, videos: Iterable[tuple[Video, np.ndarray]]) -> None:
        self.settings = settings
        self._segments = {
            video.video_id: Segment(encode_video(video, clips, settings), settings) for video, clips in videos
        }

    def __len__(self) -> int:
        return len(self._segments)

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._segments

    def search(
        self, tokens: np.ndarray, sentence: np.ndarray | None = None, options: SearchOptions | None = None
    ) -> SearchResult:
        """Find the moments that a text describes; see `CorpusIndex.search`."""
        rows = unit_tokens(tokens, sentence, self.settings.dim)
        return search_segments(list(self._segments.values()), [rows], options or SearchOptions())[0]

    def videos(self) -> Iterator[Video]:
        """Yield the record of every video."""
        return (segment.video(0) for segment in self._segments.values())

    def video(self, video_id: str) -> Video:
        """Return the record of one video; see `CorpusIndex.video`."""
        return self._segment(video_id).video(0)

    def clips(self, video_id: str) -> np.ndarray:
        """Return the clip vectors of one video; see `CorpusIndex.clips`."""
        columns = self._segment(video_id).columns
        return decode(columns["clip_codes"], columns["clip_peak"])

    def _segment(self, video_id: str) -> Segment:
        if video_id not in self._segments:
            raise DataError(f"there is no video {video_id!r}")
        return self._segments[video_id]
