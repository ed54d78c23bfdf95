"""Asking: words, sums and differences, pictures, clips; an index and videos in memory say the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momentret import SearchEngine
from momentret.encoders import FakeEncoder
from momentret.encoders.fake import COLOURS
from momentret.errors import ConfigError, DataError, MismatchError
from momentret.extract import ExtractConfig
from momentret.features import SourceManifest, StoreManifest
from momentret.inputs import InputConfig
from momentret.postprocess import PostprocessConfig
from momentret.predict import Predictor
from momentret.search.answers import Answer
from momentret.search.borders import as_scored
from momentret.search.index import CorpusIndex, Filter, Hit, IndexSettings, MemoryCorpus, SearchOptions, Video
from momentret.search.indexing import open_index, plan_update
from momentret.search.presence import Query
from momentret.search.queries import combine, picture_query, text_query
from momentret.search.recipe import Recipe
from momentret.search.refine import MomentRefiner

from ..extract.films import film
from ..predict.test_predictor import Finder
from .corpus import unit

SCENES = {
    "one": [("red", 2.0), ("blue", 2.0), ("white", 2.0)],
    "two": [("green", 3.0), ("red", 1.0)],
    "three": [("yellow", 2.0), ("cyan", 2.5)],
    "four": [("blue", 1.0), ("black", 3.0)],
}
CONFIG = ExtractConfig(clip_length=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``index`` and the films that it is of, below ``in``."""
    root = tmp_path_factory.mktemp("engine")
    for name, scenes in SCENES.items():
        film(root / "in" / f"{name}.mp4", scenes)
    encoder = FakeEncoder()
    with open_index(root / "index", encoder, CONFIG) as index:
        list(plan_update(index, [root / "in"]).run(encoder))
    return root


@pytest.fixture
def engine(folder: Path):  # type: ignore[no-untyped-def]
    with SearchEngine.open(folder / "index") as opened:
        yield opened


def places(answer: Answer) -> list[tuple[str, float, float]]:
    return [(moment.video_id, moment.start, moment.end) for moment in answer.moments]


def test_the_moment_is_found_with_its_curve(engine: SearchEngine) -> None:
    answer = engine.search("yellow", SearchOptions(top=1))
    (moment,) = answer.moments
    assert (moment.video_id, moment.path[-8:]) == ("three", "hree.mp4")
    assert moment.end <= 2.0
    assert answer.present
    curve = answer.curves["three"]
    assert (curve.start, curve.clip_length, len(curve.values)) == (0.0, 0.5, 9)
    assert np.argmax(curve.values) < 4
    assert max(curve.values) == pytest.approx(moment.score, abs=1e-3), "the same products made both"


def test_a_moment_says_which_file_was_looked_at(folder: Path, engine: SearchEngine) -> None:
    assert engine.recipe is not None
    path = folder / "in" / "one.mp4"
    alone = SearchEngine.of_videos([path], FakeEncoder(), engine.recipe)
    for found in (engine.search("red").moments, alone.search("red").moments):
        seen = {(moment.size, moment.modified) for moment in found if moment.path == str(path)}
        assert seen == {(path.stat().st_size, path.stat().st_mtime)}


@pytest.mark.parametrize("query", ["magenta", "orange", "a dog", "grey"])
def test_what_is_not_there_is_said_not_to_be(engine: SearchEngine, query: str) -> None:
    answer = engine.search(query)
    assert not answer.present
    assert answer.presence < 0.3
    assert answer.moments, "the nearest ones are shown all the same"


@pytest.mark.parametrize("query", ["red", "a blue thing", "something green", "cyan"])
def test_what_is_there_is_said_to_be(engine: SearchEngine, query: str) -> None:
    assert engine.search(query).presence > 0.9


def test_an_index_is_opened_by_the_name_of_its_folder(folder: Path, engine: SearchEngine) -> None:
    with SearchEngine.open(str(folder / "index")) as same:
        assert same.search(same.text("red")).moments == engine.search(engine.text("red")).moments


def test_min_confidence_decides(engine: SearchEngine) -> None:
    sure = engine.search("red").presence
    assert not engine.search("red", min_confidence=1.0).present
    assert engine.search("red", min_confidence=sure).present


def test_confidences_fall_with_the_rank(engine: SearchEngine) -> None:
    sure = [moment.confidence for moment in engine.search("red").moments]
    assert sure == sorted(sure, reverse=True)
    assert sure[-1] < 0.3, "not everything shown is red"


def test_one_file_without_an_index_gives_the_same(folder: Path, engine: SearchEngine) -> None:
    assert engine.recipe is not None
    alone = SearchEngine.of_videos([folder / "in" / "one.mp4"], FakeEncoder(), engine.recipe)
    options = SearchOptions(where=Filter(video_ids=frozenset({"one"})))
    for query in ("blue", "white and red", "a dog"):
        found, there = alone.search(query), engine.search(query, options)
        assert places(found) == places(there)
        assert [m.score for m in found.moments] == [m.score for m in there.moments]
        assert found.curves == there.curves
        assert (found.index, there.index) == (None, str(folder / "index"))


def test_pieces_of_one_moment_do_not_crowd_out_other_videos(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    for name in "abcd":
        film(tmp_path / "in" / f"{name}.mp4", [("red", 8.0), ("blue", 2.0)])
    with open_index(tmp_path / "index", encoder, ExtractConfig(clip_length=0.25)) as index:
        list(plan_update(index, [tmp_path / "in"]).run(encoder))
        answer = SearchEngine(index, encoder).search("red", SearchOptions(top=4))
    assert places(answer) == [(name, 0.0, 8.0) for name in "abcd"]


def test_exact_certified_and_two_stages_agree(engine: SearchEngine) -> None:
    answers = [engine.search("blue", SearchOptions(exact=exact)) for exact in (False, True, "certified")]
    assert places(answers[0]) == places(answers[1]) == places(answers[2])


def test_whole_videos(engine: SearchEngine) -> None:
    answer = engine.search("black", SearchOptions(level="video"))
    assert places(answer)[0] == ("four", 0.0, 4.0)
    assert len(answer.moments) == 4


def test_words_can_be_taken_away_and_added(engine: SearchEngine) -> None:
    both = engine.search(engine.text("red and blue"))
    assert both.moments[0].video_id == "one", "a window of both"
    less = engine.search(engine.text("red and blue", minus=["blue"]), SearchOptions(top=2, per_video=1))
    assert {moment.video_id for moment in less.moments} == {"one", "two"}
    assert less.query == "red and blue - blue"
    more = engine.search(engine.text("a thing", plus=["black"]), SearchOptions(top=1))
    assert more.moments[0].video_id == "four"


def test_a_query_minus_itself_is_refused() -> None:
    red = text_query(FakeEncoder(), "red")
    with pytest.raises(DataError, match="nothing is left of the query 'red - red'"):
        combine(red, minus=[red])


def test_a_picture_is_a_query(engine: SearchEngine, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), COLOURS["cyan"]).save(tmp_path / "picture.png")
    answer = engine.search(engine.picture(tmp_path / "picture.png"), SearchOptions(top=1))
    assert answer.moments[0].video_id == "three"
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"cannot be read as a picture \(it is of no known kind\); give a"):
        engine.picture(tmp_path / "text.png")


def test_sixteen_bits_of_grey_are_asked_like_eight(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 40), 60, np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray(np.full((30, 40), 60 * 256, np.uint16)).save(tmp_path / "sixteen.png")
    eight, sixteen = (picture_query(FakeEncoder(), tmp_path / name) for name in ("eight.png", "sixteen.png"))
    np.testing.assert_array_equal(sixteen.tokens, eight.tokens)


def test_a_clip_begins_with_the_row_at_its_start() -> None:
    video = Video("film", "", "", 2.0, 0.1)
    rows = np.eye(24, dtype=np.float32)[:20]
    engine = SearchEngine(MemoryCorpus(IndexSettings(dim=24), [(video, rows)]), FakeEncoder(24))
    assert engine.clip("film@0.3-0.5").tokens.argmax(axis=1).tolist() == [3, 4]
    assert engine.clip("film@0.2999999-0.3").tokens.argmax(axis=1).tolist() == [3]


def test_a_clip_is_a_query_and_no_answer_to_itself(engine: SearchEngine, folder: Path) -> None:
    for name in ("one", str(folder / "in" / "one.mp4")):
        query = engine.clip(f"{name}@0:02-4")
        assert len(query.tokens) == 4
        found = engine.search(query, SearchOptions(top=3))
        assert found.moments[0].video_id == "four", "the other blue one"
        assert not any(m.video_id == "one" and m.start < 4 and m.end > 2 for m in found.moments)


@pytest.mark.parametrize("clip", ["one@2.5-3", "one@2.2-3.3", "one@2-2.5", "two@0-0.7", "two@1-1.5"])
def test_what_grows_ends_where_the_clip_asked_with_begins(engine: SearchEngine, clip: str) -> None:
    for query in (engine.clip(clip), engine.moved(engine.clip(clip), minus=["white"])):
        assert query.source is not None
        name, start, end = query.source
        found = [window for window in places(engine.search(query)) if window[0] == name]
        assert any(begin == end or stop == start for _, begin, stop in found), "the rest of the scene"
        assert all(stop <= start or begin >= end for _, begin, stop in found)


def test_what_the_clip_shows_is_found_again_later_in_its_own_video() -> None:
    rng = np.random.default_rng(0)
    rows = [unit(rng.normal(size=(60, 24))) for _ in range(12)]
    for begin, end in ((5, 25), (45, 50)):
        rows[0][begin:end] = unit(rows[0][5] + 0.04 * rng.normal(size=(end - begin, 24)))
    videos = [(Video(f"v{number}", "", "", 120.0, 2.0), clips) for number, clips in enumerate(rows)]
    engine = SearchEngine(MemoryCorpus(IndexSettings(dim=24), videos), FakeEncoder(24))
    query = Query("", rows[0][5:25], "picture", ("v0", 10.0, 50.0))
    assert places(engine.search(query))[0] == ("v0", 90.0, 100.0)
    elsewhere = SearchOptions(where=Filter(video_ids=frozenset({"v3"})))
    assert {name for name, _, _ in places(engine.search(query, elsewhere))} == {"v3"}


def test_the_clip_asked_with_is_known_by_its_file_however_it_is_named(
    engine: SearchEngine, folder: Path, tmp_path: Path
) -> None:
    path = folder / "in" / "one.mp4"
    (tmp_path / "link.mp4").symlink_to(path)
    shutil.copy(path, tmp_path / "copy.mp4")
    for way in (folder / ".." / folder.name / "in" / "one.mp4", tmp_path / "link.mp4", tmp_path / "copy.mp4"):
        assert engine.clip(f"{way}@2-4").source == ("one", 2.0, 4.0)


def test_a_clip_of_another_film_of_the_same_name_leaves_nothing_out(engine: SearchEngine, tmp_path: Path) -> None:
    film(tmp_path / "one.mp4", [("red", 2.0), ("green", 1.0)])
    query = engine.clip(f"{tmp_path / 'one.mp4'}@0-2")
    assert query.source is None
    assert places(engine.search(query))[0] == ("one", 0.0, 2.0)


def test_a_clip_of_any_video_is_a_query(engine: SearchEngine, tmp_path: Path) -> None:
    film(tmp_path / "new.mp4", [("white", 1.0), ("yellow", 1.0)])
    answer = engine.search(engine.clip(f"{tmp_path / 'new.mp4'}@1-2"), SearchOptions(top=1))
    assert answer.moments[0].video_id == "three"


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("one", "names no clip"),
        ("one@3-2", "ends before it begins"),
        ("one@three-4", "is not START-END"),
        ("one@7-9", "is not in it"),
        ("nobody@1-2", "neither a video of the index nor a file"),
    ],
)
def test_a_clip_that_is_none_is_refused(engine: SearchEngine, clip: str, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        engine.clip(clip)


def test_a_clip_before_the_first_frame_is_refused() -> None:
    video = Video("late", "", "", 8.0, 2.0, start=10.0)
    corpus = MemoryCorpus(IndexSettings(dim=24), [(video, unit(np.random.default_rng(0).normal(size=(4, 24))))])
    engine = SearchEngine(corpus, FakeEncoder(24))
    assert len(engine.clip("late@8-13").tokens) == 2
    with pytest.raises(DataError, match=r"'late' is there from 10\.0 to 18\.0 s; the clip 'late@1-2' is not in it"):
        engine.clip("late@1-2")


def test_nothing_indexed_is_nothing_found(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with CorpusIndex.create(tmp_path / "index", Recipe(encoder.fingerprint, CONFIG).settings()) as index:
        answer = SearchEngine(index, encoder).search("red")
    assert (answer.moments, answer.present, answer.presence) == ((), False, None)
    assert Answer.from_row(answer.to_row()).searched_nothing


class Raise:
    """A correction that prefers one video."""

    def __init__(self, video_id: str) -> None:
        self.video_id = video_id

    def search(self, index: CorpusIndex, tokens: np.ndarray, sentence: object, options: SearchOptions) -> object:
        found = index.search(tokens, None, replace(options, top=100)).hits
        scored = [_Corrected(hit, hit.score + (hit.video.video_id == self.video_id)) for hit in found]
        ordered = tuple(sorted(scored, key=lambda one: -one.score)[: options.top])
        return type("Result", (), {"hits": ordered})


class _Corrected:
    def __init__(self, hit: Hit, score: float) -> None:
        self.hit, self.score = hit, score


def test_corrected_scores_rank_and_calibrate(engine: SearchEngine) -> None:
    engine.correct_with(Raise("three"))
    answer = engine.search("red")
    assert answer.moments[0].score == max(moment.score for moment in answer.moments)
    assert answer.moments[0].video_id in ("one", "two")
    assert {"three"} & {moment.video_id for moment in answer.moments}
    nothing = engine.search("a dog")
    assert nothing.moments[0].video_id == "three"
    assert not nothing.present, "chance is corrected just as well"


def manifest(**changes: object) -> StoreManifest:
    own = FakeEncoder().fingerprint
    facts = {"family": "clip", "dimension": 32, "clip_length": 0.5, "encoder": "fake", "weights_hash": own.weights_hash}
    video = SourceManifest(**{**facts, "normalisation": "l2", **changes})  # type: ignore[arg-type]
    return StoreManifest((video,), SourceManifest("clip", 32, encoder="fake", normalisation="l2"))


def refiner(engine: SearchEngine, features: StoreManifest | None, clip_length: float = 0.5) -> MomentRefiner:
    """Return a refiner whose model predicts every run of black clips."""
    inputs, config = InputConfig(max_clips=None, normalise_video=False), PostprocessConfig(round_to=None)
    predictor = Predictor(Finder(), inputs, clip_length=clip_length, postprocess=config, features=features)
    assert engine.recipe is not None
    return MomentRefiner(predictor, engine.encoder, engine.recipe, engine.corpus.clips)


def test_a_moment_is_all_that_fits_not_its_best_seconds(engine: SearchEngine) -> None:
    assert places(engine.search("green"))[0] == ("two", 0.0, 3.0)
    assert places(engine.search("blue", SearchOptions(top=2))) == [("four", 0.0, 1.0), ("one", 2.0, 4.0)]
    engine.refine = as_scored
    video, start, end = places(engine.search("green"))[0]
    assert video == "two"
    assert end - start < 3.0


def test_there_are_no_more_moments_than_asked_for(engine: SearchEngine) -> None:
    found = engine.search("red", SearchOptions(top=3, per_video=1)).moments
    assert len(found) == 3
    assert len({moment.video_id for moment in found}) == 3


def test_a_whole_video_stays_whole(engine: SearchEngine) -> None:
    assert places(engine.search("green", SearchOptions(level="video")))[0] == ("two", 0.0, 4.0)


def test_a_model_gives_moments_their_borders(engine: SearchEngine) -> None:
    engine.refine = as_scored
    found = engine.search("black", SearchOptions(top=3)).moments
    assert all(moment.video_id == "four" for moment in found)
    engine.refine = refiner(engine, manifest())
    answer = engine.search("black", SearchOptions(top=3))
    assert places(answer) == [("four", 1.0, 4.0)], "three pieces of one moment are one"
    assert answer.moments[0].score == found[0].score
    assert places(engine.search("cyan", SearchOptions(top=1)))[0][0] == "three"


def test_a_model_for_longer_clips_sees_the_video_again(engine: SearchEngine) -> None:
    engine.refine = refiner(engine, manifest(clip_length=1.0), clip_length=1.0)
    assert places(engine.search("black", SearchOptions(top=2))) == [("four", 1.0, 4.0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": 16}, "dimension is 32, but the model was trained with 16"),
        ({"encoder": "ViT-B-32/openai"}, "encoder is 'fake', but the model was trained with 'ViT-B-32/openai'"),
        ({"weights_hash": "other"}, "weights_hash"),
        ({"normalisation": "none"}, "normalisation"),
    ],
)
def test_a_model_of_other_features_is_refused_by_field(
    engine: SearchEngine, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(MismatchError, match=message):
        refiner(engine, manifest(**changes))


def test_a_model_answers_no_pictures(engine: SearchEngine) -> None:
    engine.refine = refiner(engine, None)
    with pytest.raises(ConfigError, match="words only"):
        engine.search(engine.clip("one@0-1"))
