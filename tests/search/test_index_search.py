"""Searching against a plain loop over every window of every video; two stages, exact, and with proof."""

from __future__ import annotations

import os
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from momentret.errors import ConfigError, MomentretError
from momentret.search.chamfer import alignment, chamfer_cost
from momentret.search.index import CorpusIndex, Filter, Hit, SearchOptions, Video, basis, proposals
from momentret.search.index.codes import decode
from momentret.search.index.columns import HEAD, decode_pools
from momentret.search.index.device import device_scores
from momentret.search.index.disk import RowFile
from momentret.search.index.errors import DamagedIndexError
from momentret.search.index.first_stage import pooled_scores, sieve, video_bounds
from momentret.search.index.hits import best_chapters, candidates_of
from momentret.search.index.segment import POOL_COLUMNS
from tests.search.corpus import DIM, build, clips_of, unit

LENGTHS = (1, 2, 3, 5, 8)


def query_of(number: int, video: int, noise: float = 0.3, tokens: int = 5) -> np.ndarray:
    """Return tokens that are noisy copies of some neighbouring clips of a video."""
    rng = np.random.default_rng(1000 + number)
    clips = clips_of(video)
    begin = int(rng.integers(len(clips)))
    near = clips[begin : begin + 4]
    return unit(near[rng.integers(len(near), size=tokens)] + noise * rng.normal(size=(tokens, DIM)) / np.sqrt(DIM))


def overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    inner = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return inner / ((a[1] - a[0]) + (b[1] - b[0]) - inner)


def plain_search(index: CorpusIndex, query: np.ndarray, options: SearchOptions) -> list[tuple[str, int, int, float]]:
    """Return ``(video id, first clip, end clip, score)`` by loops alone."""
    found = []
    for video in index.videos():
        similarities = query @ index.clips(video.video_id).T
        clips = similarities.shape[1]
        windows = [(b, b + n) for n in options.lengths for b in range(clips - n + 1)] or [(0, clips)]
        scored = sorted(((sum(alignment(similarities[:, b:e])), (b, e)) for b, e in windows), reverse=True)
        kept: list[tuple[int, int]] = []
        for score, window in scored:
            if len(kept) < options.per_video and all(overlap(window, other) <= options.overlap for other in kept):
                kept.append(window)
                found.append((video.video_id, *window, score))
    return sorted(found, key=lambda hit: -hit[3])[: options.top]


def as_rows(hits: tuple[Hit, ...]) -> list[tuple[str, int, int]]:
    return [(hit.video.video_id, round(hit.start / 2), round(hit.end / 2)) for hit in hits]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CorpusIndex:
    """Sixty videos in several segments and the log, some removed."""
    index = build(tmp_path_factory.mktemp("corpus") / "i", range(60), seal_clips=400, chapter_clips=12)
    index.remove(["v7", "v59"])
    assert index.stats().segments > 1
    assert index.stats().unsealed > 0
    return index


@pytest.mark.parametrize("per_video", [1, 3])
@pytest.mark.parametrize("number", range(6))
def test_exact_search_equals_a_plain_loop(index: CorpusIndex, number: int, per_video: int) -> None:
    query = query_of(number, video=number * 5)
    options = SearchOptions(exact=True, lengths=LENGTHS, per_video=per_video, overlap=0.4)
    expected = plain_search(index, query, options)
    found = index.search(query, options=options)
    assert as_rows(found.hits) == [row[:3] for row in expected]
    np.testing.assert_allclose([hit.score for hit in found.hits], [row[3] for row in expected], atol=1e-5)
    assert (found.videos, found.scored, found.certified) == (58, 58, True)


@pytest.mark.parametrize("number", range(6))
def test_certified_search_equals_exact_search_and_says_so(index: CorpusIndex, number: int) -> None:
    query = query_of(number, video=number * 5, noise=0.0)
    exact, proven = (index.search(query, options=SearchOptions(exact=e, lengths=LENGTHS)) for e in (True, "certified"))
    assert proven.hits == exact.hits
    assert proven.certified


def test_a_proof_that_would_cost_too_much_is_given_up_openly(index: CorpusIndex) -> None:
    options = SearchOptions(exact="certified", lengths=LENGTHS, proof_limit=1)
    result = index.search(query_of(0, 0, noise=3.0), options=options)
    assert (result.certified, result.scored) == (result.scored == 58, min(58, 64))


def test_no_window_scores_above_the_bound_of_its_video(index: CorpusIndex) -> None:
    options = SearchOptions(exact=True, lengths=LENGTHS, per_video=1, top=100)
    for number in range(5):
        query = query_of(number, number)
        best = {hit.video.video_id: hit.score for hit in index.search(query, options=options).hits}
        for segment in index._store.segments():
            bounds = dict(zip(segment.ids, video_bounds(query, segment), strict=True))
            assert all(bounds[name] >= best[name] for name in bounds.keys() & best.keys())


def test_two_stages_over_all_candidates_are_exact(index: CorpusIndex) -> None:
    for number in range(6):
        query = query_of(number, number * 5)
        exact, staged = (
            index.search(query, options=SearchOptions(exact=e, lengths=LENGTHS, candidates=1000)) for e in (True, False)
        )
        assert staged.hits == exact.hits
        assert staged.certified


def test_two_stages_find_nearly_all_with_few_candidates(index: CorpusIndex) -> None:
    found = 0
    for number in range(20):
        query = query_of(number, number * 2)
        options = [SearchOptions(exact=e, lengths=LENGTHS, candidates=30, top=5, per_video=1) for e in (True, False)]
        exact, staged = (as_rows(index.search(query, options=o).hits) for o in options)
        found += len(set(exact) & set(staged))
    assert found >= 0.95 * 5 * 20


def test_no_video_has_more_than_its_share_of_the_candidates() -> None:
    scores, videos = np.arange(100.0, 0, -1), np.array([0] * 95 + [1, 1, 2, 2, 2])
    for level, expected in (("moment", [0, 1, 95, 96, 97, 98]), ("video", [0, 95, 97])):
        options = SearchOptions(top=3, candidates=len(expected), per_video=1, level=level)  # type: ignore[arg-type]
        assert best_chapters(scores, videos, options).tolist() == expected
        assert len(best_chapters(scores[:3], videos[:3], options)) == 3  # nothing to choose from


def test_more_moments_take_more_candidates() -> None:
    asked = [{}, {"top": 40}, {"candidates": 20}, {"candidates": 20, "top": 30}]
    assert [candidates_of(SearchOptions(**options)) for options in asked] == [100, 120, 20, 30]  # type: ignore[arg-type]


def test_a_moment_across_chapters_is_found_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = unit(rng.normal(size=(60, DIM)))
    clips[17:23] = unit(clips[17] + 0.1 * rng.normal(size=(6, DIM)))
    with build(tmp_path / "i", range(30), chapter_clips=20) as index:
        index.add(Video("long", "/long", "h", duration=120.0, clip_length=2.0), clips)
        options = SearchOptions(candidates=10, per_video=1)
        (hit, *_) = index.search(clips[17:23], options=options).hits
    assert (hit.video.video_id, hit.start, hit.end) == ("long", 34.0, 46.0)


def test_videos_as_wholes_cost_what_the_definition_says(index: CorpusIndex) -> None:
    query = query_of(3, 3)
    for exact in (True, False):
        hits = index.search(query, options=SearchOptions(level="video", exact=exact, candidates=200, top=58)).hits
        assert len(hits) == 58
        for hit in hits[:10]:
            expected = chamfer_cost(index.clips(hit.video.video_id)[None], query[None])
            assert hit.cost == pytest.approx(expected[0], abs=1e-3)
            assert (hit.start, hit.end) == (0, hit.video.duration)


def test_a_batch_gives_the_bits_of_single_searches(index: CorpusIndex) -> None:
    queries = [(query_of(i, i, tokens=3 + i), None) for i in range(5)]
    for options in (SearchOptions(candidates=12), SearchOptions(exact=True), SearchOptions(exact="certified")):
        assert index.search_batch(queries, options) == [index.search(*query, options) for query in queries]


def test_a_sentence_counts_as_one_more_token(index: CorpusIndex) -> None:
    query = query_of(1, 1)
    assert index.search(query[:-1], query[-1]) == index.search(query)


def test_scale_of_the_tokens_does_not_matter(index: CorpusIndex) -> None:
    query = query_of(1, 1)
    assert as_rows(index.search(query * 5).hits) == as_rows(index.search(query).hits)


@pytest.mark.parametrize("exact", [False, True, "certified"])
def test_a_filter_holds_in_every_mode(index: CorpusIndex, exact: bool) -> None:
    options = SearchOptions(exact=exact, where=Filter(folder="/films/1"), top=30, candidates=30)
    result = index.search(query_of(0, 0), options=options)
    assert {hit.video.path.split("/")[2] for hit in result.hits} == {"1"}
    assert result.videos == 19  # 1, 4, ... 58 without the removed 7
    nothing = index.search(query_of(0, 0), options=SearchOptions(exact=exact, where=Filter(folder="/nowhere")))
    assert (nothing.hits, nothing.videos) == ((), 0)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(0)) as index:
        for exact in (False, True, "certified"):
            assert index.search(np.ones(DIM), options=SearchOptions(exact=exact)).hits == ()


def test_sealing_and_compacting_change_no_result(tmp_path: Path) -> None:
    queries = [query_of(i, i) for i in range(4)]
    with build(tmp_path / "i", range(30), seal_clips=10_000) as index:
        index.remove(["v4"])
        before = [index.search(query).hits for query in queries]
        for step in (index.flush, index.compact):
            step()
            assert [as_rows(index.search(query).hits) for query in queries] == list(map(as_rows, before))
    with CorpusIndex.open(tmp_path / "i") as reader:
        assert [as_rows(reader.search(query).hits) for query in queries] == list(map(as_rows, before))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.ones((2, DIM + 1)), "holds vectors of 24 numbers"),
        (np.ones((0, DIM)), "holds vectors of 24 numbers"),
        (np.zeros((1, DIM)), "zero or not finite"),
        (np.full((1, DIM), np.nan), "zero or not finite"),
    ],
)
def test_wrong_queries_are_refused(index: CorpusIndex, query: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        index.search(query)


@pytest.mark.parametrize(
    "bad",
    [{"top": 0}, {"lengths": ()}, {"lengths": (2, 1)}, {"overlap": 2}, {"level": "clip"}, {"first_stage": "magic"}],
)
def test_wrong_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SearchOptions(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["shortest", "longest", "after", "before"])
def test_a_filter_by_no_number_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not a number"):
        Filter(**{name: float("nan")})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> CorpusIndex:
    """An index of one segment with principal axes, wider than the head, with 400 videos."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(basis, "BASIS_POOLS", 500)
        index = build(tmp_path_factory.mktemp("rotated") / "i", range(400), dim=160, seal_clips=3000)
        index.compact()
    assert index._store.segments()[0].basis_names
    return index


def wide_query(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    clips = clips_of(number, 160)
    return unit(clips[rng.integers(len(clips), size=6)] + 1.5 * rng.normal(size=(6, 160)) / np.sqrt(160))


def test_principal_axes_change_no_score_of_the_first_stage(rotated: CorpusIndex, tmp_path: Path) -> None:
    with build(tmp_path / "i", range(400), dim=160, seal_clips=20_000) as plain:
        plain.compact()
        (turned,), (segment,) = rotated._store.segments(), plain._store.segments()
        assert not segment.basis_names
        for number in range(5):
            scores = [pooled_scores([wide_query(number)], part, None, "moment")[0] for part in (turned, segment)]
            np.testing.assert_allclose(scores[0], scores[1], atol=5e-3)


def test_principal_axes_keep_the_proof(rotated: CorpusIndex) -> None:
    for number in range(5):
        exact, proven = (
            rotated.search(wide_query(number), options=SearchOptions(exact=e, top=5)) for e in (True, "certified")
        )
        assert proven.hits == exact.hits
        assert proven.certified


@pytest.mark.parametrize("outlined", [False, True])
def test_the_sieve_lets_the_best_video_through(rotated: CorpusIndex, outlined: bool) -> None:
    (segment,) = rotated._store.segments()
    everything = np.ones(len(segment.chapters.clips), dtype=bool)
    for number in range(15):
        best = rotated.search(wide_query(number), options=SearchOptions(exact=True, top=1)).hits[0].video.video_id
        (kept,) = sieve([wide_query(number)], segment, 40, everything, outlined)
        assert len(kept) == 40
        assert best in {segment.ids[segment.chapters.video[chapter]] for chapter in kept}


@pytest.mark.parametrize("outlined", [False, True])
def test_the_sieve_keeps_what_is_allowed_and_no_query_minds_the_others(rotated: CorpusIndex, outlined: bool) -> None:
    (segment,) = rotated._store.segments()
    allowed = np.arange(len(segment.chapters.clips)) % 3 > 0
    queries = [wide_query(1), wide_query(2)[:1], wide_query(3)]
    together = sieve(queries, segment, 40, allowed, outlined)
    for query, kept in zip(queries, together, strict=True):
        assert len(set(kept.tolist())) == 40
        assert allowed[kept].all()
        np.testing.assert_array_equal(sieve([query], segment, 40, allowed, outlined)[0], kept)


@pytest.mark.parametrize("asked", [False, True])
def test_a_very_large_index_is_searched_by_outlines_and_any_that_is_asked_so(
    rotated: CorpusIndex, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    (segment,) = rotated._store.segments()
    monkeypatch.setattr("momentret.search.index.search._SIEVE_LEAST", 30)
    options, before = SearchOptions(top=1, candidates=3), rotated.stats().first_stage_bytes
    segment.__dict__.pop("outlines", None)
    plain = [rotated.search(wide_query(number), options=options).hits for number in range(10)]
    assert "outlines" not in segment.__dict__
    if asked:
        options = replace(options, first_stage="outlined")
    else:
        monkeypatch.setattr("momentret.search.index.segment.MANY_CHAPTERS", 100)
        outlines, tails = sum(array.nbytes for array in segment.outlines), segment.pools["pool_tail"].nbytes
        assert rotated.stats().first_stage_bytes - before == outlines - tails
    assert [rotated.search(wide_query(number), options=options).hits for number in range(10)] == plain
    assert "outlines" in segment.__dict__


@pytest.fixture
def outlined(rotated: CorpusIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of that index, which is searched as very large ones are."""
    monkeypatch.setattr("momentret.search.index.search._SIEVE_LEAST", 30)
    monkeypatch.setattr("momentret.search.index.segment.MANY_CHAPTERS", 100)
    return shutil.copytree(rotated.folder, tmp_path / "i")


def test_an_outlined_search_leaves_the_tails_on_disk(outlined: Path) -> None:
    with CorpusIndex.open(outlined) as index:
        (segment,) = index._store.segments()
        (segment.folder / "pool_tail.bin").unlink()  # as when another process joins segments meanwhile
        for number in range(5):
            index.search(wide_query(number), options=SearchOptions(candidates=3))
        assert "pool_tail" not in segment.pools
        kept = [array for name, array in segment.pools.items() if name in POOL_COLUMNS]
        assert index.stats().first_stage_bytes == sum(array.nbytes for array in (*kept, *segment.outlines))
        chapters = np.array([0, 1, 2, 50, 399])
        read, held = (
            pooled_scores([wide_query(1)], segment, chapters, "moment", on_disk=on_disk) for on_disk in (True, False)
        )
        np.testing.assert_array_equal(read, held)
        assert "pool_tail" in segment.pools


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_damaged_tails_are_told(outlined: Path, when: str) -> None:
    with CorpusIndex.open(outlined) as index:
        (segment,) = index._store.segments()
        path = segment.folder / "pool_tail.bin"
        if when == "before":
            path.write_bytes(bytes(path.stat().st_size))
            expected = "does not match its checksum"
        else:
            index.search(wide_query(1), options=SearchOptions(candidates=3))
            os.truncate(path, 100)
            expected = "was truncated while in use"
        with pytest.raises(DamagedIndexError, match=rf"pool_tail\.bin.* {expected}"):
            index.search(wide_query(1), options=SearchOptions(candidates=3))


@pytest.mark.parametrize("rows", [[], [3], [0, 1, 2], [4, 0, 1, 9]])
def test_rows_are_taken_from_a_file(tmp_path: Path, rows: list[int]) -> None:
    array = np.arange(30, dtype=np.int8).reshape(10, 3)
    array.tofile(tmp_path / "f")
    np.testing.assert_array_equal(RowFile(tmp_path / "f", array.dtype, 3).take(np.array(rows, dtype=int)), array[rows])


def test_an_outline_is_the_mean_of_a_chapter(rotated: CorpusIndex) -> None:
    (segment,) = rotated._store.segments()
    codes, peaks = segment.outlines
    vectors, weight = decode_pools(segment.pools)[:, :HEAD], segment.pools["pool_weight"]
    for chapter in (0, 7, len(codes) - 1):
        rows = slice(*segment.chapters.pool_begins[chapter : chapter + 2])
        mean = np.average(vectors[rows], axis=0, weights=weight[rows])
        np.testing.assert_allclose(decode(codes, peaks)[chapter], mean, atol=float(peaks[chapter]) / 250)


@pytest.mark.parametrize("level", ["moment", "video"])
@pytest.mark.parametrize("corpus", ["rotated", "index"])
def test_a_gpu_scores_chapters_as_the_processor_does(
    request: pytest.FixtureRequest, corpus: str, level: Literal["moment", "video"], gpu: str
) -> None:
    index = request.getfixturevalue(corpus)
    segment, query = index._store.segments()[0], wide_query(3)[:, : index.settings.dim]
    (found,) = device_scores([query], segment, level, gpu)
    (expected,) = pooled_scores([query], segment, None, level)
    np.testing.assert_allclose(found, expected, atol=5e-3)  # tokens of one byte there, float16 on a GPU


def test_a_search_on_a_gpu_finds_the_same(index: CorpusIndex, gpu: str) -> None:
    for number in range(6):
        query, where = query_of(number, number * 5), Filter(folder="/films/1")
        options = [SearchOptions(candidates=20, top=3, where=where, device=place) for place in ("cpu", gpu)]
        there, here = (index.search(query, options=o).hits for o in options)
        assert there == here


def test_a_device_that_is_not_there_is_named(index: CorpusIndex) -> None:
    with pytest.raises(ConfigError, match=r"'cuda:77' cannot be used .*; search with device 'cpu'"):
        index.search(query_of(1, 1), options=SearchOptions(device="cuda:77"))


def test_principal_axes_survive_another_compaction_and_a_move(rotated: CorpusIndex) -> None:
    query = wide_query(3)
    before = rotated.search(query, options=SearchOptions(exact="certified"))
    rotated.move("v3", "/moved")
    rotated.compact()
    after = rotated.search(query, options=SearchOptions(exact="certified"))
    assert as_rows(after.hits) == as_rows(before.hits)
    assert after.certified


@pytest.mark.parametrize("first_stage", proposals.PROPOSERS)
def test_faiss_proposes_the_chapters_that_matter(
    rotated: CorpusIndex, monkeypatch: pytest.MonkeyPatch, first_stage: str
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(proposals, "_SMALL", 100)
    looked_at = []
    for number in range(10):
        options = SearchOptions(first_stage=first_stage, candidates=10, top=1)  # type: ignore[arg-type]
        found = rotated.search(wide_query(number), options=options)
        exact = rotated.search(wide_query(number), options=SearchOptions(exact=True, top=1))
        looked_at.append(as_rows(found.hits) == as_rows(exact.hits))
    assert sum(looked_at) >= 9
    assert any(first_stage in segment.neighbours for segment in rotated._store.segments())


@pytest.fixture
def unproposed(rotated: CorpusIndex, monkeypatch: pytest.MonkeyPatch) -> CorpusIndex:
    """An index whose lists of neighbours are to be made."""
    monkeypatch.setattr(proposals, "_SMALL", 100)
    for segment in rotated._store.segments():
        monkeypatch.setattr(segment, "neighbours", {})
    return rotated


def test_faiss_on_a_gpu_is_asked_for_no_more_than_it_finds(
    unproposed: CorpusIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss, asked = pytest.importorskip("faiss"), list[int]()

    class OnGPU:
        def __init__(self, index: faiss.Index) -> None:
            self.index = index

        def search(self, tokens: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            asked.append(count)
            found: tuple[np.ndarray, np.ndarray] = self.index.search(tokens, count)
            return found

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", OnGPU, raising=False)
    unproposed.search(wide_query(1), options=SearchOptions(first_stage="clip_ivf", candidates=200))
    assert max(asked) == 512


@pytest.mark.gpu
@pytest.mark.parametrize("first_stage", ["clip_ivf", "pool_ivf"])
def test_faiss_finds_the_chapters_that_matter_on_a_gpu(
    unproposed: CorpusIndex, monkeypatch: pytest.MonkeyPatch, first_stage: str
) -> None:
    faiss = pytest.importorskip("faiss")
    if not getattr(faiss, "get_num_gpus", int)():
        pytest.skip("this FAISS sees no GPU")
    test_faiss_proposes_the_chapters_that_matter(unproposed, monkeypatch, first_stage)
    for segment in unproposed._store.segments():
        assert not isinstance(segment.neighbours[first_stage][0], faiss.IndexIVF)  # but its like on a GPU


@pytest.mark.parametrize("first_stage", proposals.PROPOSERS)
def test_a_filter_leaves_something_to_propose(
    rotated: CorpusIndex, monkeypatch: pytest.MonkeyPatch, first_stage: str
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(proposals, "_SMALL", 100)
    rare = rotated.search(wide_query(0), options=SearchOptions(exact=True, top=len(rotated), per_video=1)).hits[-1]
    where = Filter(video_ids=frozenset([rare.video.video_id]))
    options = SearchOptions(first_stage=first_stage, candidates=1, top=1, where=where)  # type: ignore[arg-type]
    assert as_rows(rotated.search(wide_query(0), options=options).hits) == as_rows((rare,))


def test_no_queries_have_no_results(rotated: CorpusIndex, index: CorpusIndex) -> None:
    assert rotated.search_batch([]) == index.search_batch([]) == []


def test_without_faiss_every_chapter_is_looked_at(
    rotated: CorpusIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(proposals, "_SMALL", 100)
    monkeypatch.setitem(sys.modules, "faiss", None)
    options = SearchOptions(first_stage="clip_ivf", candidates=10)
    assert as_rows(rotated.search(wide_query(1), options=options).hits)
    assert "pip install 'momentret[cpu]'" in caplog.text


def test_damage_never_changes_an_answer(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(40)) as index:
        index.compact()
    query, rng, told = query_of(2, 2), random.Random(1), 0
    options = SearchOptions(candidates=10)
    with CorpusIndex.open(tmp_path / "i") as index:
        expected = index.search(query, options=options)
    files = sorted(path for path in (tmp_path / "i").rglob("*.bin") if path.stat().st_size)
    assert len(files) > 15
    for number in range(150):
        path = files[number % len(files)]
        sound = path.read_bytes()
        i = rng.randrange(len(sound))
        path.write_bytes(sound[:i] + bytes([sound[i] ^ rng.randint(1, 255)]) + sound[i + 1 :])
        try:
            with CorpusIndex.open(tmp_path / "i") as index:
                assert index.search(query, options=options) == expected
        except MomentretError:
            told += 1
        path.write_bytes(sound)
    assert told > 100


def test_videos_of_one_clip_and_records_come_back(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(10)) as index:
        index.add(Video("one", "/one", "h", duration=1.5, clip_length=2.0, start=10.0), clips_of(77)[:1])
        hit = index.search(clips_of(77)[:1], options=SearchOptions(lengths=(2, 3))).hits[0]
    assert (hit.video.video_id, hit.start, hit.end) == ("one", 10.0, 11.5)
    assert hit.score == pytest.approx(2.0, abs=1e-3)
    assert (hit.to_video, hit.to_language) == pytest.approx((1.0, 1.0), abs=1e-3)
