"""Biases per video of a corpus index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from momentret.errors import ConfigError, DataError, MismatchError, OutputExistsError
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.corpus import CorpusHubness, clip_gallery, hubness_folder, score_bank
from momentret.search.hubness.index import HubCorrectedIndex
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.rows import ProductRows
from momentret.search.index import CorpusIndex, IndexSettings, SearchOptions, Video
from tests.search.corpus import DIM, build, unit, video_of

EXACT = SearchOptions(exact=True, top=5)
METHODS = ["is", "dis", "gis", "dualis", "dualdis", "nnn", "csls", "bank-sinkhorn"]


def texts(count: int, seed: int = 5) -> list[tuple[np.ndarray, None]]:
    """Return queries of 3 tokens that all lean towards one direction, so that some videos are hubs."""
    rng = np.random.default_rng(seed)
    lean = 0.6 * np.sqrt(DIM) * unit(np.random.default_rng(0).normal(size=DIM))
    return [(unit(rng.normal(size=(3, DIM)) + lean), None) for _ in range(count)]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> CorpusIndex:
    made = build(tmp_path_factory.mktemp("corpus") / "index", range(40), clip_dtype="float32")
    made.remove(["v3", "v20"])
    return made


def fit(index: CorpusIndex, method: str = "is", exact: bool = True) -> CorpusHubness:
    config = HubnessConfig(method=method, shrink=1.0)
    bank = [video_of(number)[1] for number in range(100, 140)]
    return CorpusHubness.fit(index, texts(60), bank, config=config, options=SearchOptions(exact=exact))


@pytest.mark.parametrize("level", ["moment", "video"])
def test_scores_of_videos_are_those_of_the_search(level, index: CorpusIndex) -> None:
    (tokens, _), names = texts(1)[0], [video.video_id for video in index.videos()]
    scores = index.score_videos([(tokens, None)], SearchOptions(exact=True, level=level))[0]
    hits = index.search(tokens, None, SearchOptions(exact=True, level=level, top=38, per_video=1)).hits
    assert len(hits) == len(names) == 38
    for hit in hits:
        assert scores[names.index(hit.video.video_id)] == pytest.approx(hit.score, abs=1e-6)


def test_pooled_scores_are_near_the_exact_ones(index: CorpusIndex) -> None:
    pooled, exact = (score_bank(index, texts(20), SearchOptions(exact=e)) for e in (False, True))
    assert pooled.shape == (20, 38)
    assert np.corrcoef(pooled.ravel(), exact.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_a_certified_search_equals_correcting_everything(method: str, index: CorpusIndex) -> None:
    state = fit(index, method)
    everything = SearchOptions(exact=True, top=10_000, per_video=3)
    for tokens, _ in texts(10, seed=9):
        found = state.search(index, tokens, options=EXACT)
        expected = state.correct(index.search(tokens, None, everything), 5, complete=True)
        assert found.certified
        assert [hit.hit for hit in found.hits] == [hit.hit for hit in expected.hits]


def test_the_first_hit_of_a_video_scores_as_the_normaliser_says(index: CorpusIndex) -> None:
    state, names = fit(index, "dualdis"), [video.video_id for video in index.videos()]
    for tokens, _ in texts(5, seed=9):
        raw = index.score_videos([(tokens, None)], SearchOptions(exact=True))
        dense = state.normaliser.transform(raw)[0]
        np.testing.assert_allclose(state.correct_scores(names, raw[0]), dense, atol=1e-6)
        best = state.search(index, tokens, options=EXACT).hits[0]
        assert best.hit.video.video_id == names[int(dense.argmax())]
        assert best.score == pytest.approx(float(dense.max()), abs=1e-5)


def test_hubs_come_less_often(index: CorpusIndex) -> None:
    state, counts = fit(index), [np.zeros(38), np.zeros(38)]
    for tokens, _ in texts(60, seed=11):
        raw = index.score_videos([(tokens, None)], SearchOptions(exact=True))
        for count, scores in zip(counts, (raw, state.normaliser.transform(raw)), strict=True):
            count[int(scores[0].argmax())] += 1
    assert counts[1].max() < counts[0].max() / 2


def test_a_short_list_is_not_certified_and_a_wrong_one_never(index: CorpusIndex) -> None:
    state, short = fit(index), 0
    for tokens, _ in texts(30, seed=13):
        right = state.search(index, tokens, options=EXACT)
        some = state.correct(index.search(tokens, None, SearchOptions(exact=True, top=8)), 5)
        short += not some.certified
        assert not some.certified or [hit.hit for hit in some.hits] == [hit.hit for hit in right.hits]
    assert short > 0


def test_videos_added_since_are_left_alone_and_counted(tmp_path: Path) -> None:
    made = build(tmp_path / "index", range(20))
    state = fit(made)
    made.add(*video_of(30))
    assert state.unknown(made) == ["v30"]
    np.testing.assert_array_equal(state.correct_scores(["v30"], np.array([0.5])), [0.5])
    tokens = video_of(30)[1][:2]
    found = state.search(made, tokens)
    assert found.unknown >= 1
    assert next(hit for hit in found.hits if hit.hit.video.video_id == "v30").bias == 0


def test_a_video_with_other_content_is_not_known(tmp_path: Path) -> None:
    made = build(tmp_path / "index", range(20))
    state = fit(made)
    video, clips = video_of(7)
    made.add(replace(video, content_hash="another"), clips, replace=True)
    for known in (state, _saved(state, tmp_path / "state")):
        assert known.unknown(made) == ["v7"]
        found = known.search(made, clips[:2])
        assert found.unknown >= 1
        assert next(hit for hit in found.hits if hit.hit.video.video_id == "v7").bias == 0


def _saved(state: CorpusHubness, folder: Path) -> CorpusHubness:
    state.save(folder)
    return CorpusHubness.load(folder)


def test_a_state_without_hashes_knows_videos_by_id(tmp_path: Path) -> None:
    made = build(tmp_path / "index", range(20))
    fit(made).save(tmp_path / "state")
    path = tmp_path / "state" / "videos.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in facts.items() if name != "content_hashes"}))
    assert CorpusHubness.load(tmp_path / "state", made).unknown(made) == []
    path.write_text(json.dumps(facts | {"content_hashes": ["x"]}))
    with pytest.raises(DataError, match="1 hashes of 20 videos"):
        CorpusHubness.load(tmp_path / "state", made)


def test_saved_beside_the_index_and_loaded(tmp_path: Path) -> None:
    made = build(tmp_path / "index", range(20))
    state, folder = fit(made, "dis"), hubness_folder(made)
    state.save(folder)
    made.compact()
    again = CorpusHubness.load(folder, made)
    scores = np.linspace(1, 0, 20)
    np.testing.assert_array_equal(
        again.correct_scores(again.video_ids, scores), state.correct_scores(state.video_ids, scores)
    )
    with pytest.raises(OutputExistsError):
        state.save(folder)


def test_a_state_of_another_index_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    made = build(tmp_path / "index", range(10))
    folder = hubness_folder(made)
    with pytest.raises(DataError, match="holds no hubness state"):
        CorpusHubness.load(folder)
    with pytest.raises(DataError, match="holds no hubness state"):
        CorpusHubness.load(made.folder / "manifest.json")
    fit(made).save(folder)
    with pytest.raises(MismatchError, match="knows no video"):
        CorpusHubness.load(folder, build(tmp_path / "other", range(50, 60)))
    with pytest.raises(MismatchError, match="encoder"):
        CorpusHubness.load(folder, build(tmp_path / "coded", range(10), encoder="x"))
    facts = json.loads((folder / "videos.json").read_text())
    (folder / "videos.json").write_text(json.dumps({**facts, "video_ids": facts["video_ids"][1:]}))
    with pytest.raises(MismatchError, match="another gallery"):
        CorpusHubness.load(folder)
    (folder / "videos.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        CorpusHubness.load(folder)


@pytest.mark.parametrize("options", [{"method": "gc"}, {"method": "sn"}, {"method": "dualdis", "rule": "product"}])
def test_methods_without_a_bias_are_refused(options: dict[str, str], index: CorpusIndex) -> None:
    with pytest.raises(ConfigError, match="no bias per video"):
        CorpusHubness.fit(index, texts(3), config=HubnessConfig(**options))


def test_nothing_to_fit_on_is_refused(index: CorpusIndex, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no queries"):
        CorpusHubness.fit(index, [])
    with (
        CorpusIndex.create(tmp_path / "empty", IndexSettings(dim=DIM)) as empty,
        pytest.raises(DataError, match="holds no videos"),
    ):
        CorpusHubness.fit(empty, texts(3))
    with pytest.raises(ConfigError, match="level"):
        fit(index).search(index, texts(1)[0][0], options=SearchOptions(level="video"))


def test_clips_are_a_gallery_for_faiss(index: CorpusIndex) -> None:
    pytest.importorskip("faiss")
    ids, clips = clip_gallery(index)
    assert (ids[0].rsplit(":", 1)[1], len(ids)) == ("0", len(clips))
    sentences = np.stack([unit(tokens.mean(0)) for tokens, _ in texts(200)])
    hub = HubnessNormaliser(method="dis").fit(ProductRows(sentences[:150], clips))
    places, _ = HubCorrectedIndex(clips, hub).search(sentences[150:], 10)
    expected, _ = hub.search(ProductRows(sentences[150:], clips), 10)
    np.testing.assert_array_equal(places, expected)


def test_a_video_of_one_clip_has_a_score(tmp_path: Path) -> None:
    made = CorpusIndex.create(tmp_path / "index", IndexSettings(dim=2))
    made.add(Video("a", "a.mp4", "h", 2.0, 2.0), np.eye(2, dtype=np.float32)[:1])
    assert made.score_videos([(np.eye(2)[:1], None)], SearchOptions(exact=True))[0, 0] == pytest.approx(2, abs=1e-4)
