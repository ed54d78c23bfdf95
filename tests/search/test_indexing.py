"""Folders of videos and the index that follows them, with the fake encoder and small rendered films."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from momentret.encoders import FakeEncoder
from momentret.errors import DataError, MismatchError
from momentret.extract import ExtractConfig
from momentret.search.index import CorpusIndex, DamagedIndexError, IndexSettings
from momentret.search.indexing import Summary, content_hash, open_index, plan_update, remove_videos

from ..extract.films import film, films
from ..helpers import make_unlistable
from .corpus import contents

CONFIG = ExtractConfig(clip_length=0.5)


def bring(folder: Path, *paths: Path, remove: bool = False, retry: bool = False) -> Summary:
    """Bring the index of a folder up to date and return what was done."""
    encoder = FakeEncoder()
    with open_index(folder, encoder, CONFIG) as index:
        update = plan_update(index, paths, remove_missing=remove, retry=retry)
        list(update.run(encoder))
        return update.summary


def test_only_what_is_new_or_changed_is_extracted(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 3)
    assert bring(tmp_path / "index", folder).added == ("film 0", "film 1", "film 2")
    film(folder / "more" / "film 9.mp4", [("red", 1.0)])
    film(folder / "film 1.mp4", [("cyan", 2.0)])
    again = bring(tmp_path / "index", folder)
    assert (again.added, again.changed, again.unchanged) == (("film 9",), ("film 1",), 2)
    with CorpusIndex.open(tmp_path / "index") as index:
        assert index.video("film 1").duration == pytest.approx(2.0)
        assert len(index) == 4


def test_a_file_that_was_only_touched_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = films(tmp_path / "in", 1)
    bring(tmp_path / "index", folder)
    os.utime(folder / "film 0.mp4", (5, 5))
    assert bring(tmp_path / "index", folder).unchanged == 1
    monkeypatch.setattr("momentret.search.indexing.content_hash", lambda path: pytest.fail(f"{path} was read"))
    assert bring(tmp_path / "index", folder).unchanged == 1


def test_a_moved_file_keeps_its_vectors(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 2)
    bring(tmp_path / "index", folder)
    with CorpusIndex.open(tmp_path / "index") as index:
        before = index.clips("film 1")
    (folder / "film 1.mp4").rename(tmp_path / "elsewhere.mp4")
    summary = bring(tmp_path / "index", tmp_path / "elsewhere.mp4")
    assert (summary.moved, summary.added) == (("film 1",), ())
    with CorpusIndex.open(tmp_path / "index") as index:
        assert index.video("film 1").path == str(tmp_path / "elsewhere.mp4")
        np.testing.assert_array_equal(index.clips("film 1"), before)


def test_a_copy_elsewhere_is_another_video(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 1)
    bring(tmp_path / "index", folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "film 0.mp4").write_bytes((folder / "film 0.mp4").read_bytes())
    summary = bring(tmp_path / "index", tmp_path / "other")
    assert summary.moved == ()
    assert len(summary.added) == 1
    assert summary.added[0].startswith("film 0-"), "the name is taken"


def test_deleted_files_go_only_with_update_and_only_below_the_paths(tmp_path: Path) -> None:
    folder, other = films(tmp_path / "in", 2), films(tmp_path / "other", 1)
    bring(tmp_path / "index", folder, other)
    names = {Path(video.path).parent.name: video.video_id for video in opened_videos(tmp_path / "index")}
    (other / "film 0.mp4").unlink()
    (folder / "film 1.mp4").unlink()
    assert bring(tmp_path / "index", folder).missing == ("film 1",)
    assert bring(tmp_path / "index", folder, remove=True).removed == ("film 1",)
    left = {video.video_id for video in opened_videos(tmp_path / "index")}
    assert names["other"] in left
    assert len(left) == 2


def test_a_folder_that_cannot_be_listed_keeps_its_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = films(tmp_path / "in", 2)
    kept, gone = film(folder / "b" / "kept.mp4", [("red", 1.0)]), film(folder / "gone.mp4", [("cyan", 1.0)])
    (folder / "b" / "bad.mp4").write_text("no film")
    bring(tmp_path / "index", folder)
    gone.unlink()
    (folder / "copy.mp4").write_bytes(kept.read_bytes())
    with monkeypatch.context() as patch:
        make_unlistable(patch, folder / "b")
        summary = bring(tmp_path / "index", folder, kept.with_name("bad.mp4"), remove=True)
    assert (summary.removed, summary.moved, summary.added) == (("gone",), (), ("copy",))
    assert f"'{folder / 'b'}' cannot be read (Input/output error)" in caplog.text
    assert [row.path for row in summary.quarantined] == [str(folder / "b" / "bad.mp4")]
    again = bring(tmp_path / "index", folder, remove=True)
    assert (again.unchanged, again.added, again.removed) == (4, (), ())


def test_a_file_named_below_a_folder_that_cannot_be_listed_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(films(tmp_path / "in", 1) / "b" / "named.mp4", [("red", 1.0)])
    bring(tmp_path / "index", tmp_path / "in")
    make_unlistable(monkeypatch, path.parent)
    assert bring(tmp_path / "index", tmp_path / "in", path, remove=True).unchanged == 2


def test_a_file_elsewhere_that_cannot_be_looked_at_is_not_taken_for_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = films(tmp_path / "in", 1)
    bring(tmp_path / "index", folder)
    (tmp_path / "copy.mp4").write_bytes((folder / "film 0.mp4").read_bytes())
    look = os.lstat

    def lstat(path: str, **options: int) -> os.stat_result:
        if str(path).startswith(str(folder)):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    assert bring(tmp_path / "index", tmp_path / "copy.mp4").moved == ()


def opened_videos(folder: Path) -> list:
    with CorpusIndex.open(folder) as index:
        return list(index.videos())


def test_an_emptied_folder_empties_no_index(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 1)
    bring(tmp_path / "index", folder)
    (folder / "film 0.mp4").unlink()
    with pytest.raises(DataError, match="no videos in"):
        bring(tmp_path / "index", folder, remove=True)
    assert len(opened_videos(tmp_path / "index")) == 1


def test_a_file_in_quarantine_is_tried_again_when_it_changes_or_on_request(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 1)
    bad = folder / "bad.mp4"
    bad.write_text("no film")
    index = tmp_path / "index"
    assert len(bring(index, folder).quarantined) == 1
    encoder = FakeEncoder()
    with open_index(index, encoder, CONFIG) as opened:
        assert plan_update(opened, [folder]).videos == ()
        assert [video.path for video in plan_update(opened, [folder], retry=True).videos] == [bad]
    film(bad, [("red", 1.0)])
    summary = bring(index, folder)
    assert (summary.added, summary.quarantined) == (("bad",), ())


@pytest.mark.parametrize("added", [0, 1, 2])
def test_a_video_that_breaks_is_kept_by_add_and_taken_out_by_update(tmp_path: Path, added: int) -> None:
    folder = films(tmp_path / "in", 2)
    bring(tmp_path / "index", folder)
    (folder / "film 0.mp4").write_text("broken now")
    for _ in range(added):
        summary = bring(tmp_path / "index", folder)
        assert (len(summary.quarantined), summary.missing) == (1, ("film 0",))
        assert len(opened_videos(tmp_path / "index")) == 2
    assert bring(tmp_path / "index", folder, remove=True).removed == ("film 0",)


def test_a_recorder_that_reuses_a_name_overwrites_no_take(tmp_path: Path) -> None:
    latest = tmp_path / "in" / "latest.mp4"
    for take, colour in enumerate(("red", "green", "blue", "white")):
        film(latest, [(colour, 1.0)])
        bring(tmp_path / "index", latest.parent)
        latest.rename(latest.with_name(f"take {take}.mp4"))
        assert len(bring(tmp_path / "index", latest.parent).moved) == 1
    assert len({video.video_id for video in opened_videos(tmp_path / "index")}) == 4


def test_files_in_quarantine_can_be_forgotten(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 1)
    (folder / "bad.mp4").write_text("broken")
    bring(tmp_path / "index", folder)
    folder.rename(tmp_path / "elsewhere")
    assert len(bring(tmp_path / "index", tmp_path / "elsewhere").quarantined) == 2
    with CorpusIndex.open(tmp_path / "index", "rw") as index:
        assert remove_videos(index, [str(folder)]) == []
        with pytest.raises(DataError, match="no video"):
            remove_videos(index, [str(folder)])
    assert len(bring(tmp_path / "index", tmp_path / "elsewhere").quarantined) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from momentret.encoders import FakeEncoder
from momentret.extract import ExtractConfig
from momentret.search.indexing import open_index, plan_update
encoder = FakeEncoder()
with open_index(Path(sys.argv[1]), encoder, ExtractConfig(clip_length=0.5)) as index:
    for number, outcome in enumerate(plan_update(index, [Path(sys.argv[2])]).run(encoder, workers=2), start=1):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_killed_run_goes_on_with_what_is_left(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 6)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "index"), str(folder)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    with CorpusIndex.open(tmp_path / "index") as index:
        assert 3 <= len(index) < 6
        kept = len(index)
    summary = bring(tmp_path / "index", folder)
    assert (summary.unchanged, len(summary.added)) == (kept, 6 - kept)
    bring(tmp_path / "whole", folder)
    with CorpusIndex.open(tmp_path / "index") as index, CorpusIndex.open(tmp_path / "whole") as whole:
        assert contents(index) == contents(whole)


def test_an_index_whose_making_was_cut_short_is_made(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 1)
    (tmp_path / "index" / "segments").mkdir(parents=True)
    (tmp_path / "index" / "log-00000000.wal").write_bytes(b"mom")
    assert bring(tmp_path / "index", folder).added == ("film 0",)


def test_an_index_that_lost_its_manifest_is_said_to_be_damaged(tmp_path: Path) -> None:
    bring(tmp_path / "index", films(tmp_path / "in", 1))
    (tmp_path / "index" / "manifest.json").unlink()
    with pytest.raises(DamagedIndexError, match="--repair"):
        open_index(tmp_path / "index", FakeEncoder(), CONFIG)


def test_another_encoder_or_setting_is_refused_by_name(tmp_path: Path) -> None:
    bring(tmp_path / "index", films(tmp_path / "in", 1))
    with pytest.raises(MismatchError, match="encoder 'fake' of dimension 32, not 'fake' of dimension 64"):
        open_index(tmp_path / "index", FakeEncoder(64), CONFIG)
    with pytest.raises(MismatchError, match=r"clip_length 0\.5, not 1\.0"):
        open_index(tmp_path / "index", FakeEncoder(), ExtractConfig(clip_length=1.0))
    with open_index(tmp_path / "index", FakeEncoder(), CONFIG):
        pass  # the lock is free again


def test_an_index_filled_by_other_means_is_refused(tmp_path: Path) -> None:
    CorpusIndex.create(tmp_path / "index", IndexSettings(dim=4)).close()
    with pytest.raises(MismatchError, match="does not say which encoder"):
        open_index(tmp_path / "index", FakeEncoder(), CONFIG)


def test_videos_are_removed_by_id_path_or_folder(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 3)
    films(folder / "sub", 1)
    bring(tmp_path / "index", folder)
    with CorpusIndex.open(tmp_path / "index", "rw") as index:
        with pytest.raises(DataError, match="no video 'nothing'"):
            remove_videos(index, ["film 1", "nothing"])
        assert len(index) == 4, "all of them or none"
        assert remove_videos(index, ["film 1", str(folder / "film 2.mp4")]) == ["film 1", "film 2"]
        assert len(remove_videos(index, [str(folder / "sub")])) == 1
        assert len(index) == 1


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
    a, b, c = (content_hash(str(tmp_path / name)) for name in "abc")
    assert a == b != c
    assert content_hash(str(tmp_path / "none")) != content_hash(str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="needs sparse files")
def test_a_sparse_terabyte_is_hashed_at_once(tmp_path: Path) -> None:
    hashes = set()
    for name, size, last in (("a", 1 << 40, b"x"), ("b", 1 << 40, b"y"), ("c", (1 << 40) + 1, b"x")):
        with open(tmp_path / name, "wb") as file:
            file.seek(size - 1)
            file.write(last)
        began = time.process_time()
        hashes.add(content_hash(str(tmp_path / name)))
        assert time.process_time() - began < 5.0  # 0.2 s measured; all of it would take many minutes
    assert len(hashes) == 3
