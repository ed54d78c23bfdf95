"""Several indexes searched as one; `conformance` holds the halves against the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from momentret.errors import ConfigError, DataError, MismatchError
from momentret.search.index import Filter, Hit, SearchOptions, SearchResult
from momentret.search.merge import Several, merge, open_corpus
from tests.search.corpus import build, clips_of, video_of


def hit(name: int, score: float, start: float = 0.0) -> Hit:
    return Hit(video_of(name)[0], start, start + 2.0, score, 0.0, 0.0)


def test_the_best_of_the_bests_are_the_best() -> None:
    one = SearchResult((hit(1, 1.5), hit(1, 0.5, 4.0)), 10, 4, True)
    other = SearchResult((hit(0, 1.5), hit(3, 1.0)), 20, 5, False)
    assert merge([one, other], 3) == SearchResult((hit(0, 1.5), hit(1, 1.5), hit(3, 1.0)), 30, 9, False)


def test_no_hits_are_no_hits() -> None:
    assert merge([SearchResult((), 0, 0, True)] * 2, 3) == SearchResult((), 0, 0, True)


def test_two_folders_look_like_one(tmp_path: Path) -> None:
    build(tmp_path / "a", range(3)).close()
    build(tmp_path / "b", range(3, 7)).close()
    with Several([open_corpus(tmp_path / "a"), open_corpus(str(tmp_path / "b"))]) as both:
        assert (len(both), "v5" in both, "v9" in both) == (7, True, False)
        assert {video.video_id for video in both.videos()} == {f"v{i}" for i in range(7)}
        assert both.video("v5") == video_of(5)[0]
        np.testing.assert_allclose(both.clips("v5"), clips_of(5), atol=1e-4)
        assert both.search(clips_of(5)[:3]).hits[0].video.video_id == "v5"
        with pytest.raises(DataError, match="'v9' is not in any of the 2 indexes"):
            both.clips("v9")


def test_videos_of_one_id_are_told_apart(tmp_path: Path) -> None:
    """Ids are names of files, and cameras call the first film of every card the same."""
    with build(tmp_path / "a", range(3)) as a, build(tmp_path / "b", range(0)) as b:
        other = clips_of(9)
        b.add(replace(video_of(1)[0], path="/b/v1.mp4", duration=2.0 * len(other)), other)
        b.add(*video_of(5))
        both = Several([a, b])
        assert [video.video_id for video in both.videos()] == ["v0", "v1", "v2", "2/v1", "v5"]
        assert ("2/v1" in both, "2/v5" in both, "1/v1" in both) == (True, False, False)
        assert both.video("2/v1").path == "/b/v1.mp4"
        assert both.video("v1").path == video_of(1)[0].path
        np.testing.assert_allclose(both.clips("2/v1"), other, atol=1e-4)
        np.testing.assert_allclose(both.clips("v1"), clips_of(1), atol=1e-4)
        assert both.search(other[:3]).hits[0].video == both.video("2/v1")
        for name in ("v1", "2/v1", "v5"):
            only = SearchOptions(where=Filter(video_ids=frozenset([name, "v77"])))
            assert {hit.video.video_id for hit in both.search(other[:3], options=only).hits} == {name}


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with (
        build(tmp_path / "a", range(1)) as a,
        build(tmp_path / "b", range(1), encoder="x") as b,
        pytest.raises(MismatchError, match="one index has encoder '', another 'x'"),
    ):
        Several([a, b])
    with pytest.raises(ConfigError, match="nothing to search"):
        Several([])


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "https://127.0.0.1:9/"])
def test_a_url_names_a_collection(place: str) -> None:
    with pytest.raises(ConfigError, match="names no collection; give http"):
        open_corpus(place)


def test_a_url_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    with pytest.raises(DataError, match=r"Qdrant at 'http://127.0.0.1:9', collection 'films'"):
        open_corpus("http://127.0.0.1:9/films")
