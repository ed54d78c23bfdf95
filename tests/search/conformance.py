"""What every `momentret.search.backend.Backend` must do, once; `test_backends` runs it over each of them.

Wherever it says "as the folder", an index folder with the same videos is the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from momentret.errors import DataError, FeatureError, MismatchError
from momentret.search.backend import Backend, copy_videos
from momentret.search.index import CorpusIndex, Filter, Hit, IndexSettings, SearchOptions, Video
from momentret.search.merge import Several
from tests.search.corpus import DIM, clips_of, contents, unit, video_of

LENGTHS = (1, 2, 3, 5, 8, 30)
SETTINGS = IndexSettings(dim=DIM, encoder="toy", chapter_clips=12)
FEW = SearchOptions(lengths=LENGTHS, candidates=20, top=5)
ALL = SearchOptions(lengths=LENGTHS, candidates=1000, top=20, overlap=0.5)


class Maker(Protocol):
    """Makes, and opens again, one kind of backend."""

    def create(self, settings: IndexSettings) -> AbstractContextManager[Any]: ...

    def open(self, encoder: str | None = None) -> AbstractContextManager[Any]: ...


def query_of(video: int, tokens: int = 5) -> np.ndarray:
    """Return tokens that are noisy copies of some clips of a video."""
    rng = np.random.default_rng(900 + video)
    clips = clips_of(video)
    near = clips[int(rng.integers(len(clips))) :][:4]
    return unit(near[rng.integers(len(near), size=tokens)] + 0.3 * rng.normal(size=(tokens, DIM)) / np.sqrt(DIM))


def same_moments(found: tuple[Hit, ...], expected: tuple[Hit, ...]) -> None:
    """Compare two answers up to the rounding of scores, and the order of what scores alike."""
    assert len(found) == len(expected)
    np.testing.assert_allclose([h.score for h in found], [h.score for h in expected], atol=1e-5)
    places = [
        {(h.video, h.start, h.end) for h in hits if h.score > hits[-1].score + 1e-5} for hits in (found, expected)
    ]
    assert places[0] == places[1]
    parts = [sorted((h.to_video, h.to_language) for h in hits) for hits in (found, expected)]
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-4)


class Conformance:
    """The tests; a subclass gives the fixture `maker`."""

    @pytest.fixture
    def reference(self, tmp_path: Path) -> Iterator[CorpusIndex]:
        with CorpusIndex.create(tmp_path / "reference", SETTINGS) as index:
            index.add_many(video_of(number) for number in range(25))
            yield index

    @pytest.fixture
    def backend(self, maker: Maker) -> Iterator[Backend]:
        with maker.create(SETTINGS) as made:
            assert made.add_many(video_of(number) for number in range(25)) == 25
            yield made

    def test_what_was_added_is_there(self, backend: Backend, reference: CorpusIndex) -> None:
        assert len(backend) == 25
        assert "v3" in backend
        assert "v99" not in backend
        assert {video.video_id: video for video in backend.videos()} == {v.video_id: v for v in reference.videos()}
        for name in ("v3", "v24"):
            assert backend.video(name) == reference.video(name)
            np.testing.assert_allclose(backend.clips(name), reference.clips(name), atol=1e-6)
        mine, theirs = backend.stats(), reference.stats()
        for field in ("videos", "clips", "duration", "encoder", "dim"):
            assert getattr(mine, field) == getattr(theirs, field)

    def test_it_is_there_after_reopening(self, maker: Maker) -> None:
        with maker.create(SETTINGS) as made:
            made.add(*video_of(1))
        with maker.open("toy") as again:
            assert (again.settings, [v.video_id for v in again.videos()]) == (SETTINGS, ["v1"])
        with pytest.raises(MismatchError, match="holds vectors of encoder 'toy', not 'other'"):
            maker.open("other")

    @pytest.mark.parametrize("exact", [False, True, "certified"])
    @pytest.mark.parametrize("level", ["moment", "video"])
    def test_moments_are_those_of_the_folder(
        self, backend: Backend, reference: CorpusIndex, exact: Any, level: Any
    ) -> None:
        options = SearchOptions(lengths=LENGTHS, candidates=1000, top=20, overlap=0.5, exact=exact, level=level)
        for number in range(5):
            found, expected = (b.search(query_of(number), options=options) for b in (backend, reference))
            same_moments(found.hits, expected.hits)
            assert (found.videos, found.scored, found.certified) == (25, 25, True)

    def test_a_few_candidates_find_the_moment(self, backend: Backend) -> None:
        for number in (2, 5, 9):
            result = backend.search(query_of(number), options=FEW)
            assert result.hits[0].video.video_id == f"v{number}"
            assert (result.videos, result.certified) == (25, False)

    def test_a_batch_gives_what_single_searches_give(self, backend: Backend) -> None:
        queries = [(query_of(number, tokens=3 + number), None) for number in range(4)]
        for options in (FEW, SearchOptions(exact=True)):
            assert backend.search_batch(queries, options) == [backend.search(*query, options) for query in queries]
        assert backend.search_batch([]) == []

    def test_a_sentence_is_one_more_token(self, backend: Backend) -> None:
        query = query_of(1)
        assert backend.search(query[:-1], query[-1]) == backend.search(query)

    def test_an_empty_corpus_finds_nothing(self, maker: Maker) -> None:
        with maker.create(SETTINGS) as made:
            assert (len(made), list(made.videos()), made.stats().clips) == (0, [], 0)
            for exact in (False, True, "certified"):
                result = made.search(np.ones(DIM), options=SearchOptions(exact=exact))
                assert (result.hits, result.videos, result.scored, result.certified) == ((), 0, 0, True)

    def test_one_video_is_found(self, maker: Maker) -> None:
        with maker.create(SETTINGS) as made:
            made.add(*video_of(3))
            assert {hit.video.video_id for hit in made.search(query_of(3)).hits} == {"v3"}

    def test_a_moment_across_chapters_of_a_long_video_is_found_whole(self, backend: Backend) -> None:
        rng = np.random.default_rng(0)
        clips = unit(rng.normal(size=(200, DIM)))
        clips[92:104] = unit(clips[92] + 0.1 * rng.normal(size=(12, DIM)))
        backend.add(Video("long", "/long", "h", duration=400.0, clip_length=2.0, start=10.0), clips)
        options = SearchOptions(candidates=10, per_video=1)
        (hit, *_) = backend.search(clips[92:104], options=options).hits
        assert (hit.video.video_id, hit.start, hit.end) == ("long", 194.0, 218.0)
        np.testing.assert_allclose(backend.clips("long"), clips, atol=1e-4)

    @pytest.mark.parametrize("level", ["moment", "video"])
    def test_a_long_video_that_fits_everywhere_leaves_room_for_others(self, backend: Backend, level: Any) -> None:
        clips = unit(clips_of(1)[0] + 0.02 * np.random.default_rng(0).normal(size=(400, DIM)))
        backend.add(Video("long", "/long", "h", duration=800.0, clip_length=2.0), clips)
        options = SearchOptions(lengths=LENGTHS, candidates=12, top=6, per_video=1, level=level)
        hits = backend.search(clips[:3], options=options).hits
        assert hits[0].video.video_id == "long"
        assert len({hit.video.video_id for hit in hits}) == 6

    def test_a_long_video_scored_in_part_is_not_proven(self, maker: Maker) -> None:
        with maker.create(SETTINGS) as made:
            clips = unit(np.random.default_rng(0).normal(size=(200, DIM)))
            made.add(Video("long", "/long", "h", duration=400.0, clip_length=2.0), clips)
            results = [
                made.search(clips[:2], options=SearchOptions(candidates=n, top=1, lengths=(2,))) for n in (1, 99)
            ]
        assert [(result.scored, result.certified) for result in results] == [(1, False), (1, True)]

    def test_an_id_twice_is_refused(self, backend: Backend) -> None:
        for videos in ([video_of(1)], [video_of(70), video_of(70)]):
            with pytest.raises(DataError, match="is in the index already"):
                backend.add_many(videos)
        assert len(backend) == 25

    def test_a_replaced_video_is_there_once(self, backend: Backend) -> None:
        long, short = unit(np.random.default_rng(1).normal(size=(40, DIM))), clips_of(3)[:2]
        video = Video("v3", "/new", "new", duration=80.0, clip_length=2.0)
        for clips in (long, short):
            backend.add(video, clips, replace=True)
            assert len(backend) == 25
            assert backend.video("v3") == video
            np.testing.assert_allclose(backend.clips("v3"), clips, atol=1e-4)
        assert backend.search(short, options=SearchOptions(exact=True)).videos == 25

    def test_removed_videos_are_gone(self, backend: Backend) -> None:
        backend.remove(["v3", "v4", "v3"])
        assert (len(backend), "v3" in backend) == (23, False)
        found = backend.search(query_of(3), options=ALL)
        assert found.videos == 23
        assert not {hit.video.video_id for hit in found.hits} & {"v3", "v4"}

    def test_what_is_not_there_is_named_and_nothing_changes(self, backend: Backend) -> None:
        for call in (backend.video, backend.clips, lambda name: backend.move(name, "/x")):
            with pytest.raises(DataError, match="video 'v99' is not in"):
                call("v99")
        with pytest.raises(DataError, match="video 'v99' is not in"):
            backend.remove(["v1", "v99"])
        assert "v1" in backend

    def test_a_moved_video_has_its_new_path(self, backend: Backend) -> None:
        before = backend.clips("v3")
        backend.move("v3", "/elsewhere/new.mp4", modified=5.0)
        video = backend.video("v3")
        assert (video.path, video.size, video.modified) == ("/elsewhere/new.mp4", 1003, 5.0)
        np.testing.assert_array_equal(backend.clips("v3"), before)
        found = backend.search(query_of(3), options=SearchOptions(where=Filter(folder="/elsewhere")))
        assert {hit.video for hit in found.hits} == {video}

    @pytest.mark.parametrize(
        "where",
        [
            Filter(folder="/films/1"),
            Filter(folder="/films/1/"),
            Filter(folder="/film"),
            Filter(folder="/"),
            Filter(shortest=30.0),
            Filter(longest=30.0),
            Filter(after=5.0, before=9.0),
            Filter(video_ids=frozenset({"v1", "v2", "none"})),
            Filter(video_ids=frozenset()),
            Filter(keep=lambda video: video.size % 2 == 0),
            Filter(folder="/films/2", keep=lambda video: video.size % 2 == 0, longest=60.0),
        ],
    )
    @pytest.mark.parametrize("exact", [False, True])
    def test_filters_let_through_what_they_do_in_the_folder(
        self, backend: Backend, reference: CorpusIndex, where: Filter, exact: bool
    ) -> None:
        options = SearchOptions(lengths=LENGTHS, candidates=1000, top=1000, per_video=1, where=where, exact=exact)
        found, expected = (b.search(query_of(2), options=options) for b in (backend, reference))
        same_moments(found.hits, expected.hits)
        assert (found.videos, found.scored, found.certified) == (expected.videos, expected.videos, True)

    def test_any_name_survives(self, backend: Backend) -> None:
        video = Video("100%/ü\udcff\n'\"", "/fil\udcfems/ä%41/x", "%", duration=4.0, clip_length=2.0, size=2**40)
        backend.add(video, clips_of(5)[:2])
        assert backend.video(video.video_id) == video
        found = backend.search(clips_of(5)[:2], options=SearchOptions(where=Filter(folder="/fil\udcfems/ä%41")))
        assert {hit.video for hit in found.hits} == {video}
        backend.remove([video.video_id])
        assert len(backend) == 25

    def test_wrong_vectors_are_refused(self, backend: Backend) -> None:
        video = Video("new", "/new", "h", duration=4.0, clip_length=2.0)
        for clips in (np.ones((2, DIM)), np.ones((2, 3)), np.zeros((0, DIM)), np.full((2, DIM), np.nan)):
            with pytest.raises(FeatureError, match="features of video 'new'"):
                backend.add(video, clips.astype(np.float32))
        for query in (np.ones((2, DIM + 1)), np.zeros(DIM), np.full(DIM, np.nan)):
            with pytest.raises(ValueError, match=r"the query has shape|a token of the query"):
                backend.search(query)
        assert len(backend) == 25

    def test_a_folder_is_copied_and_what_is_there_is_left(self, maker: Maker, reference: CorpusIndex) -> None:
        with maker.create(SETTINGS) as made:
            made.add_many([video_of(1), video_of(70)])
            made.add(Video("v2", "/old", "old", duration=4.0, clip_length=2.0), clips_of(2)[:2])
            copied = copy_videos(reference, made)
            assert (copied.added, copied.replaced, copied.unchanged, copied.other) == (23, 1, 1, 1)
            again = copy_videos(reference, made)
            assert (again.added, again.replaced, again.unchanged, again.other) == (0, 0, 25, 1)
            made.remove(["v70"])
            same_moments(made.search(query_of(4), options=ALL).hits, reference.search(query_of(4), options=ALL).hits)

    def test_a_copy_back_holds_the_same(self, backend: Backend, reference: CorpusIndex, tmp_path: Path) -> None:
        with CorpusIndex.create(tmp_path / "back", SETTINGS) as back:
            copy_videos(backend, back)
            mine, theirs = contents(back), contents(reference)
            assert mine.keys() == theirs.keys()
            for name in mine:
                np.testing.assert_allclose(back.clips(name), reference.clips(name), atol=4e-5)  # rounded once more

    def test_vectors_of_another_encoder_are_not_copied(self, maker: Maker, reference: CorpusIndex) -> None:
        with (
            maker.create(IndexSettings(dim=DIM, encoder="other", chapter_clips=12)) as made,
            pytest.raises(MismatchError, match="the source has encoder 'toy', the target 'other'"),
        ):
            copy_videos(reference, made)

    def test_two_halves_searched_together_are_the_whole(
        self, maker: Maker, reference: CorpusIndex, tmp_path: Path
    ) -> None:
        with maker.create(SETTINGS) as half, CorpusIndex.create(tmp_path / "other", SETTINGS) as other:
            half.add_many(video_of(number) for number in range(0, 25, 2))
            other.add_many(video_of(number) for number in range(1, 25, 2))
            queries = [(query_of(number), None) for number in range(4)]
            for options in (ALL, SearchOptions(exact=True, lengths=LENGTHS, top=7)):
                whole = reference.search_batch(queries, options)
                for found, expected in zip(Several([half, other]).search_batch(queries, options), whole, strict=True):
                    same_moments(found.hits, expected.hits)
                    assert (found.videos, found.scored, found.certified) == (25, 25, True)
