"""Adding, removing and finding videos again, across closing, sealing and compacting."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from momentret.errors import ConfigError, DataError, FeatureError, MismatchError, OutputExistsError
from momentret.search.index import CorpusIndex, Filter, IndexLockedError, IndexSettings, SeenFile, Video, changes, store
from tests.search.corpus import DIM, build, clips_of, contents, to_format_1, unit, video_of


def test_what_is_added_is_there_after_reopening(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(30)) as index:
        index.add(*video_of(99))
        before = contents(index)
        assert index.stats().segments > 1
        assert index.stats().unsealed > 0
    with CorpusIndex.open(tmp_path / "i") as index:
        assert contents(index) == before
        assert len(index) == 31
        np.testing.assert_allclose(index.clips("v99"), clips_of(99), atol=1e-4)
        assert index.video("v99") == video_of(99)[0]


def test_opening_and_searching_do_not_ask_where_every_video_is(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(30)) as index:
        index.add(video_of(3)[0], clips_of(3)[:1], replace=True)
        index.add(*video_of(40))
        index.remove(["v40", "v7"])
        expected, sealed = contents(index), index.stats().segments
    with CorpusIndex.open(tmp_path / "i") as index:
        assert index.search(clips_of(5)[:2]).hits
        assert (len(index), index.stats().segments) == (29, sealed)
        assert index._store._place is None
        assert contents(index) == expected


@pytest.mark.parametrize("step", ["nothing", "flush", "compact"])
def test_removed_videos_stay_away(tmp_path: Path, step: str) -> None:
    with build(tmp_path / "i", range(30)) as index:
        index.remove(["v3", "v29", "v3"])
        if step != "nothing":
            getattr(index, step)()
        expected = contents(index)
    with CorpusIndex.open(tmp_path / "i", "rw") as index:
        assert contents(index) == expected
        assert set(expected) == {f"v{i}" for i in range(29)} - {"v3"}
        assert index.stats().removed == (0 if step == "compact" else 1)  # v29 was in the log only


def test_a_replaced_video_is_there_once(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(30)) as index:
        index.add(video_of(3)[0], clips_of(3)[:1], replace=True)
        index.add(video_of(29)[0], clips_of(29)[:1], replace=True)
        index.compact()
        assert len(index) == 30
        assert len(index.clips("v3")) == len(index.clips("v29")) == 1


def test_an_id_twice_is_an_error(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(3)) as index:
        with pytest.raises(DataError, match="'v1' is in the index already; give it another id or replace it"):
            index.add(*video_of(1))
        with pytest.raises(DataError, match="'v7' is in the index already"):
            index.add_many([video_of(7), video_of(7)])


def test_removing_what_is_not_there_removes_nothing(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(3)) as index:
        with pytest.raises(DataError, match="'nope' is not in index"):
            index.remove(["v1", "nope"])
        assert len(index) == 3


@pytest.mark.parametrize("sealed", [True, False])
def test_a_moved_video_keeps_its_vectors(tmp_path: Path, sealed: bool) -> None:
    with build(tmp_path / "i", range(5)) as index:
        clips = index.clips("v2")
        if sealed:
            index.compact()
        index.move("v2", "/elsewhere/ä\udcff\n-.mp4")
    with CorpusIndex.open(tmp_path / "i") as index:
        assert index.video("v2") == replace(video_of(2)[0], path="/elsewhere/ä\udcff\n-.mp4")
        np.testing.assert_array_equal(index.clips("v2"), clips)


@pytest.mark.parametrize(("dtype", "tolerance"), [("int8", 6e-3), ("int16", 3e-5), ("float32", 0)])
def test_clips_come_back_as_precisely_as_they_are_kept(tmp_path: Path, dtype: str, tolerance: float) -> None:
    with build(tmp_path / "i", range(5), clip_dtype=dtype) as index:
        index.compact()
        np.testing.assert_allclose(index.clips("v4"), clips_of(4), atol=tolerance, rtol=0)


def test_many_small_segments_are_joined(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(0)) as index:
        for number in range(40):
            index.add(*video_of(number))
            index.flush()
        assert index.stats().segments < 16
        assert len(index) == 40


def test_compacting_twice_changes_nothing(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(30)) as index:
        index.compact()
        generation = index.stats().generation
        index.compact()
        assert index.stats().generation == generation


def test_everything_may_be_removed(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(20)) as index:
        index.remove([f"v{i}" for i in range(20)])
        index.compact()
        assert len(index) == 0
        assert index.stats().clip_bytes == 0
        index.add(*video_of(1))
    with CorpusIndex.open(tmp_path / "i") as index:
        assert len(index) == 1


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (np.zeros((0, DIM)), "expected .clips, 24."),
        (np.ones((3, DIM + 1)), "expected .clips, 24."),
        (np.ones((3, DIM)), "row 0 has length 4.899, expected unit length"),
        (np.full((3, DIM), np.nan), "row 0 has length nan"),
        (unit(np.ones((7, DIM))), "have 7 clips, but 6.0 s at clip_length 1.0 s makes 6"),
    ],
)
def test_wrong_clips_are_refused(tmp_path: Path, clips: np.ndarray, message: str) -> None:
    with build(tmp_path / "i", range(1)) as index:
        with pytest.raises(FeatureError, match=message):
            index.add(Video("x", "/x", "h", duration=6.0, clip_length=1.0), clips)
        assert len(index) == 1


@pytest.mark.parametrize("bad", [{"video_id": ""}, {"duration": 0.0}, {"clip_length": float("nan")}, {"start": 1e999}])
def test_wrong_records_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(FeatureError):
        replace(video_of(1)[0], **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"dim": 0}, {"clip_dtype": "int4"}, {"seal_clips": 1.5}])
def test_wrong_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        IndexSettings(**({"dim": 4} | bad))  # type: ignore[arg-type]


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "i", range(1), encoder="ViT-B-32/openai").close()
    with pytest.raises(MismatchError, match="encoder 'ViT-B-32/openai', not 'RN50'"):
        CorpusIndex.open(tmp_path / "i", encoder="RN50")
    CorpusIndex.open(tmp_path / "i", "rw", encoder="ViT-B-32/openai").close()


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputExistsError):
        CorpusIndex.create(tmp_path, IndexSettings(dim=4))


def test_the_name_of_a_new_index_is_as_durable_as_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(store, "sync_folder", synced.append)
    build(tmp_path / "new" / "index", range(1)).close()
    assert {tmp_path, tmp_path / "new", tmp_path / "new" / "index"} <= set(synced)


def test_one_writes_and_many_read(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(10)) as writer, CorpusIndex.open(tmp_path / "i") as reader:
        with pytest.raises(IndexLockedError, match=f"being written by process {os.getpid()}"):
            CorpusIndex.open(tmp_path / "i", "rw")
        with pytest.raises(ConfigError, match="opened for reading"):
            reader.remove(["v1"])
        expected = contents(reader)
        writer.remove(["v1", "v2"])
        writer.compact()
        assert contents(reader) == expected  # its files are gone from the folder, not from under it
        assert reader.refresh()
        assert contents(reader) == contents(writer)
        assert not reader.refresh()


def test_format_1_is_read_and_brought_up_to_date_by_the_next_writer(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(20)) as index:
        index.remove(["v1"])
        index.flush()
        index.add(*video_of(30))
        index.remove(["v2"])
        expected = contents(index)
    to_format_1(tmp_path / "i")
    for mode, written in (("r", 1), ("rw", 2), ("r", 2)):
        with CorpusIndex.open(tmp_path / "i", mode) as index:  # type: ignore[arg-type]
            index.verify()
            assert contents(index) == expected
            assert index._store.manifest.format == written
    assert {path.name for path in (tmp_path / "i").rglob("*copy*")} > {"manifest.json.copy", "copy.bin"}


def test_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    build(tmp_path / "i", range(1)).close()
    CorpusIndex.open(tmp_path / "i", "rw").close()


def test_a_reader_changes_nothing_on_disk(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(20)) as index:
        index.remove(["v1"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with CorpusIndex.open(tmp_path / "i") as index:
        index.verify()
        contents(index)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Filter(), range(1, 9)),
        (Filter(folder="/films/1"), [1, 4, 7]),
        (Filter(folder="/films/1/"), [1, 4, 7]),
        (Filter(folder="/films/"), range(1, 9)),
        (Filter(folder="/film"), []),
        (Filter(after=3, before=6), [3, 4, 5]),
        (Filter(video_ids=frozenset({"v2", "v99"})), [2]),
        (Filter(folder="/films/1", keep=lambda video: video.size > 1003), [4, 7]),
    ],
)
def test_filters(tmp_path: Path, condition: Filter, expected: list[int]) -> None:
    with build(tmp_path / "i", range(9)) as index:
        index.remove(["v0"])
        index.compact()
        (segment,) = index._store.segments()
        found = [name for name, keep in zip(segment.ids, condition.mask(segment), strict=True) if keep]
    assert found == [f"v{i}" for i in expected]


def test_filters_by_duration(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(9)) as index:
        index.compact()
        (segment,) = index._store.segments()
        durations = segment.columns["video_duration"][Filter(shortest=20.0, longest=40.0).mask(segment)]
    assert sorted(durations) == sorted(d for i in range(9) if 20 <= (d := video_of(i)[0].duration) <= 40)


def test_changes_sort_files_and_hash_only_what_was_touched() -> None:
    videos = [video_of(i)[0] for i in range(5)]
    seen = [SeenFile(v.path, v.size, v.modified) for v in videos[:3]]
    seen[1] = replace(seen[1], modified=77.0)  # touched, same content
    seen[2] = replace(seen[2], size=5)  # rewritten
    seen += [SeenFile("/new/place.mp4", 1003, 3.0), SeenFile("/new/film.mp4", 9, 9.0)]
    hashes = {seen[1].path: "hash1", seen[2].path: "other", "/new/place.mp4": "hash3", "/new/film.mp4": "fresh"}
    asked = []

    def content_hash(path: str) -> str:
        asked.append(path)
        return hashes[path]

    found = changes(seen, videos, content_hash)
    assert [video.video_id for video in found.unchanged] == ["v0", "v1"]
    assert found.changed == [(seen[2], videos[2])]
    assert found.moved == [(seen[3], videos[3])]
    assert found.new == [seen[4]]
    assert found.missing == [videos[4]]
    assert set(asked) == set(hashes)


def test_copies_of_one_film_are_all_missed() -> None:
    videos = [replace(video_of(i)[0], content_hash="same") for i in range(3)]
    found = changes([SeenFile("/new.mp4", 1, 1.0)], videos, lambda path: "same")
    assert [video.video_id for _, video in found.moved] == ["v0"]
    assert [video.video_id for video in found.missing] == ["v1", "v2"]
