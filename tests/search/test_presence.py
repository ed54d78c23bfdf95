"""How sure: calibrations on made-up scores, and on a planted corpus where half the queries are absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from momentret.encoders import FakeEncoder
from momentret.search.answers import Answer
from momentret.search.borders import as_scored
from momentret.search.engine import SearchEngine
from momentret.search.index import CorpusIndex, Filter, IndexSettings, SearchOptions, Video
from momentret.search.presence import Calibration, Query, phrase_bank
from momentret.search.presence.background import clip_bank, evidence, reference_clips, traits_of
from momentret.search.presence.calibration import MIN_QUERIES
from momentret.search.queries import combine

from .corpus import DIM, build, clips_of, unit, video_of


def chance(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores that follow a Gumbel law whose place is 0.5 + 0.2 trait, and the traits ``(B, 2)``."""
    rng = np.random.default_rng(seed)
    traits = np.stack([rng.normal(size=count), np.full(count, 3.0)], axis=1)
    return 0.5 + 0.2 * traits[:, 0] + 0.05 * rng.gumbel(size=count), traits


def test_the_law_of_chance_is_found() -> None:
    calibration = Calibration.fit(*chance(4000))
    assert calibration is not None
    assert calibration.place == pytest.approx(0.5, abs=0.01)
    assert calibration.width == pytest.approx(0.05, rel=0.1)
    assert calibration.slopes == pytest.approx([0.2, 0.0], abs=0.01)


def test_true_matches_among_the_background_do_little_harm() -> None:
    scores, traits = chance(200)
    scores[:30] += 0.8
    calibration = Calibration.fit(scores, traits)
    assert calibration is not None
    assert calibration.place == pytest.approx(0.5, abs=0.03)
    assert calibration.width == pytest.approx(0.05, rel=0.4)


def test_confidence_grows_with_the_score_and_is_a_probability() -> None:
    calibration = Calibration.fit(*chance(100))
    assert calibration is not None
    sure = calibration.confidence(np.linspace(-2, 2, 5000), np.zeros(2))
    assert (np.diff(sure) >= 0).all()
    assert 0 < sure[0] < 0.15
    assert 0.97 < sure[-1] < 1


@pytest.mark.parametrize("reach", [0.5, 1.4, 2.9, 3.1, 5.0, 40.0])
def test_a_higher_score_is_never_less_sure_or_nothing_is_known(reach: float) -> None:
    none = np.zeros(1)
    calibration = Calibration(none, none, none, place=2.0 - 0.5, width=0.5 / reach, queries=64)
    sure = calibration.confidence(np.linspace(0, 2, 5000), none)
    assert np.isnan(sure).all() if reach < 3 else (np.diff(sure) >= 0).all()


def test_nothing_is_known_of_a_query_that_chance_fits_perfectly() -> None:
    one = np.ones(1)
    calibration = Calibration(0 * one, one, 0.5 * one, place=0.6, width=0.1, queries=64)
    assert np.isfinite(calibration.confidence(2 * one, 0 * one)).all()
    assert np.isnan(calibration.confidence(2 * one, 3 * one)).all()


@pytest.mark.parametrize("score", [2.0, 2.0000002])
def test_nothing_is_known_where_chance_always_finds_a_perfect_match(score: float) -> None:
    calibration = Calibration.fit(np.full(60, score), np.zeros((60, 4)))
    assert calibration is not None
    assert np.isnan(calibration.confidence(np.array([score]), np.zeros(4))).all()


def test_a_trait_that_is_not_known_counts_as_average() -> None:
    calibration = Calibration.fit(*chance(100))
    assert calibration is not None
    unknown, average = np.full(2, np.nan), calibration.centre
    score = np.array([0.7])
    np.testing.assert_allclose(calibration.confidence(score, unknown), calibration.confidence(score, average))


def test_scores_that_never_differ_make_no_certainty_of_a_hair() -> None:
    calibration = Calibration.fit(np.zeros(60), np.zeros((60, 4)))
    assert calibration is not None
    assert calibration.confidence(np.array([0.02]), np.zeros(4))[0] < 0.3
    assert calibration.confidence(np.array([1.0]), np.zeros(4))[0] > 0.97


def test_few_background_queries_say_nothing() -> None:
    scores, traits = chance(MIN_QUERIES - 1)
    assert Calibration.fit(scores, traits) is None


def test_a_calibration_survives_json() -> None:
    calibration = Calibration.fit(*chance(50))
    assert calibration is not None
    again = Calibration.from_dict(calibration.to_dict())
    assert again.to_dict() == calibration.to_dict()


def test_the_phrases_are_many_and_always_the_same() -> None:
    assert phrase_bank() == phrase_bank()
    assert len(set(phrase_bank())) > 0.9 * len(phrase_bank())
    assert phrase_bank(seed=1) != phrase_bank()


def test_the_reference_is_spread_over_the_corpus(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(20)) as index:
        reference = reference_clips(index)
        assert len(reference.clips) == sum(len(clips_of(number)) for number in range(20))
        assert set(reference.owners) == {f"v{number}" for number in range(20)}
        for query in clip_bank(reference, 2):
            assert query.source is not None
            assert len(query.tokens) == 2


def test_the_video_that_was_found_does_not_speak_against_itself(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(3)) as index:
        reference = reference_clips(index)
        query = Query("", clips_of(1)[:1])
        assert traits_of(query, reference, "v1")[0] < traits_of(query, reference, None)[0]
        alone = reference_clips(index)
        only = alone.owners == "v1"
        alone = type(alone)(alone.clips[only], alone.owners[only])
        assert np.isnan(traits_of(query, alone, "v1")[:2]).all(), "one video: nothing else to compare with"


def test_evidence_is_that_all_of_the_query_is_there_not_that_nothing_else_is() -> None:
    assert evidence(2.0, 1.0, 1.0) == 2.0
    assert evidence(1.0, 0.6, 0.4) > evidence(1.0, 0.5, 0.5) > evidence(1.0, 0.4, 0.6)
    assert evidence(0.9, 0.6, 0.4) == pytest.approx(evidence(1.0, 0.6, 0.4) - 0.1), "a correction moves it as much"
    assert evidence(1.0, 0.6, 0.4, "picture") == 1.0


class Vectors(FakeEncoder):
    """Gives background texts vectors about videos that are not there: the planted corpus has no words."""

    def __init__(self, dimension: int, noise: float, tokens: int = 4) -> None:
        super().__init__(dimension)
        self.noise, self.tokens, self.asked = noise, tokens, 0

    def encode_query(self, query: str, tokens: str = "phrases"):  # type: ignore[no-untyped-def]
        self.asked += 1
        found = super().encode_query(query)
        number = phrase_bank().index(query)
        return type(found)(found.sentence, about(10_000 + number, self.noise, tokens=self.tokens), found.names)


def about(number: int, noise: float, dim: int = 64, tokens: int = 4) -> np.ndarray:
    """Return tokens about a window of video `number`."""
    rng = np.random.default_rng([5, number])
    clips = clips_of(number, dim)
    begin = int(rng.integers(len(clips)))
    window = clips[begin : begin + 4]
    source = window[rng.integers(len(window), size=tokens)]
    return unit(source + noise * rng.normal(size=source.shape) / np.sqrt(dim))


def auroc(present: np.ndarray, absent: np.ndarray) -> float:
    return float((present[:, None] > absent).mean() + 0.5 * (present[:, None] == absent).mean())


@pytest.mark.parametrize("videos", [1, 5, 100])
def test_planted_queries_are_told_from_absent_ones(tmp_path: Path, videos: int) -> None:
    with CorpusIndex.create(tmp_path / "index", IndexSettings(dim=64)) as index:
        index.add_many(video_of(number, 64) for number in range(videos))
        engine = SearchEngine(index, Vectors(64, 1.5))
        asked = [(number % videos, 20_000 + number) for number in range(60)]
        present = [engine.search(Query("", about(there, 1.5))).presence for there, _ in asked]
        absent = [engine.search(Query("", about(gone, 1.5))).presence for _, gone in asked]
    assert auroc(np.array(present), np.array(absent)) > 0.95
    assert np.mean(present) > 0.75
    assert np.mean(absent) < 0.35


def test_the_noise_of_many_tokens_does_not_hide_what_is_there(tmp_path: Path) -> None:
    with CorpusIndex.create(tmp_path / "index", IndexSettings(dim=64)) as index:
        index.add_many(video_of(number, 64) for number in range(60))
        engine = SearchEngine(index, Vectors(64, 3, tokens=8), refine=as_scored)
        present = np.array([engine.search(Query("", about(number, 3, tokens=8))).presence for number in range(60)])
        absent = np.array([engine.search(Query("", about(20_000 + n, 3, tokens=8))).presence for n in range(60)])
    assert auroc(present, absent) > 0.99
    assert (np.square(1 - present).mean() + np.square(absent).mean()) / 2 < 0.04


def test_the_order_of_the_found_moments_does_not_matter(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(8), dim=64) as index:
        presence = SearchEngine(index, Vectors(64, 1.0)).presence
        query, found = Query("", about(3, 1.0)), [("v3", 1.2), ("v5", 1.4), ("v1", 0.9)]
        sure = presence.confidences(query, found, SearchOptions())
        np.testing.assert_array_equal(presence.confidences(query, found[::-1], SearchOptions()), sure[::-1])


def test_a_calibration_is_kept_beside_the_index_until_that_changes(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(10), dim=64) as index:
        encoder = Vectors(64, 1.0)
        query = Query("", about(3, 1.0))

        def ask() -> float:
            return SearchEngine(index, encoder, folder=tmp_path / "index").search(query).presence

        first, asked = ask(), encoder.asked
        kept = {path.name: path.read_bytes() for path in (tmp_path / "index").glob("presence-*.json")}
        assert (ask(), encoder.asked) == (first, asked)
        index.add(*video_of(77, 64))
        ask()
        assert encoder.asked == asked, "the texts are kept too"
        (name,) = kept
        assert (tmp_path / "index" / name).read_bytes() != kept[name]


@pytest.mark.parametrize(
    "damage", [b"{damaged", b"[]", b'{"corpus": {"videos": 10}, "calibration": {"place": 0}}', b"PK\x03\x04"]
)
def test_what_was_kept_and_is_damaged_is_made_again(tmp_path: Path, damage: bytes) -> None:
    with build(tmp_path / "index", range(10), dim=64) as index:
        encoder, query = Vectors(64, 1.0), Query("", about(3, 1.0))
        first = SearchEngine(index, encoder, folder=tmp_path / "index").search(query).presence
        kept = list((tmp_path / "index").glob("presence-*"))
        assert len(kept) == 2
        for path in kept:
            path.write_bytes(damage)
        assert SearchEngine(index, encoder, folder=tmp_path / "index").search(query).presence == first


def test_without_a_folder_the_texts_of_each_encoder_are_kept_in_a_cache(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(10), dim=64) as index:
        encoder, query = Vectors(64, 1.0), Query("", about(3, 1.0))
        first = SearchEngine(index, encoder, cache=tmp_path / "cache").search(query).presence
        asked = encoder.asked
        assert SearchEngine(index, encoder, cache=tmp_path / "cache").search(query).presence == first
        assert encoder.asked == asked > 0
        other = Vectors(64, 1.0)
        other.fingerprint = replace(other.fingerprint, weights_hash="others")
        SearchEngine(index, other, cache=tmp_path / "cache").search(query)
        assert other.asked == asked
        assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_part_of_the_corpus_has_chances_of_its_own(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(60), dim=64) as index:
        engine = SearchEngine(index, Vectors(64, 1.5), folder=tmp_path / "index")
        options = SearchOptions(where=Filter(video_ids=frozenset({"v3", "v4"})))
        assert engine.search(Query("", about(3, 1.5)), options).present
        assert not engine.search(Query("", about(5, 1.5)), options).present
        assert not list((tmp_path / "index").glob("presence-*.json"))


@pytest.mark.parametrize("tokens", [1, 4])
def test_of_a_clip_the_better_moment_is_never_less_sure(tmp_path: Path, tokens: int) -> None:
    with build(tmp_path / "index", range(30), dim=64) as index:
        engine = SearchEngine(index, Vectors(64, 1.5))
        for number in range(15):
            answer = engine.search(Query("", about(number, 1.5, tokens=tokens), "picture"))
            sure = [moment.confidence for moment in answer.moments]
            assert None not in sure
            assert sure == sorted(sure, reverse=True)


def test_of_a_clip_nothing_is_known_where_every_video_shows_the_same(tmp_path: Path) -> None:
    with build(tmp_path / "index", range(0), dim=64) as index:
        for number in range(30):
            video, clips = video_of(number % 3, 64)
            index.add(replace(video, video_id=f"copy {number}"), clips)
        answer = SearchEngine(index, Vectors(64, 1.5)).search(Query("", about(1, 0.5, tokens=1), "picture"))
    assert answer.presence is None
    assert {moment.confidence for moment in answer.moments} == {None}


def test_a_lone_picture_in_one_video_is_not_known() -> None:
    from momentret.search.index import MemoryCorpus

    video = Video("a", "a.mp4", "", 8.0, 2.0)
    corpus = MemoryCorpus(IndexSettings(dim=DIM), [(video, unit(np.random.default_rng(0).normal(size=(4, DIM))))])
    answer = SearchEngine(corpus, FakeEncoder(DIM)).search(Query("", corpus.clips("a")[:1], "picture"))
    assert answer.presence is None
    assert answer.moments[0].confidence is None
    assert answer.present, "nothing says that it is not there"
    assert Answer.from_row(answer.to_row()) == answer


@pytest.mark.parametrize("kind", ["picture", "text"])
def test_what_words_moved_is_compared_with_what_they_move_the_same_way(
    tmp_path: Path, kind: Literal["picture", "text"]
) -> None:
    with CorpusIndex.create(tmp_path / "index", IndexSettings(dim=64)) as index:
        index.add_many(video_of(number, 64) for number in range(40))
        engine = SearchEngine(index, Vectors(64, 1.5), folder=tmp_path / "index")
        words = [Query("", about(7, 0.5))]  # of what is there: alone they make any query look found
        numbers = [7, *range(20_000, 20_008)]
        there, *absent = [combine(Query("", about(n, 1.5, tokens=1), kind), words) for n in numbers]
        found, *others = [engine.search(query).presence for query in [there, *absent]]
        assert found > 0.8 > 0.6 > np.mean(others)
        assert not list((tmp_path / "index").glob("presence-*.json")), "each of its own way: not kept"
        assert min(engine.search(replace(query, shift=None)).presence for query in absent) > 0.8
