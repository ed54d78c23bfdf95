"""Repairing a damaged index: what is whole stays, what is not is named, and nothing is said that is not so."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from momentret.search.index import (
    CorpusIndex,
    DamagedIndexError,
    Hit,
    IndexLockedError,
    LostVideo,
    Repair,
    SearchOptions,
    basis,
    log,
    manifest,
    repair_index,
    store,
)
from tests.search.corpus import DIM, build, contents, log_records, to_format_1, unit, video_of
from tests.search.test_index_damage import run_script

QUERY = unit(np.random.default_rng(1).normal(size=(3, DIM)))
MOVED = replace(video_of(0)[0], path="/elsewhere/v0.mp4")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of v0 to v13 and v31 to v33 without v5 and v6: sealed, removed, moved, and in the log."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nobody pulls the plug here, and it takes most of the time
    with build(tmp_path / "i", range(14)) as index:
        index.remove(["v5"])
        index.flush()
        index.add_many([video_of(31), video_of(32)])
        index.move("v0", MOVED.path)
        index.remove(["v6"])
        index.add(*video_of(33))
        assert index.stats().segments > 1
    return tmp_path / "i"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != "lock")


def flip(path: Path, i: int, by: int = 255) -> None:
    data = bytearray(path.read_bytes())
    data[i] ^= by
    path.write_bytes(data)


def hits(index: CorpusIndex) -> list[Hit]:
    return list(index.search(QUERY, options=SearchOptions(top=100, per_video=3)).hits)


def everything(folder: Path) -> tuple[dict[str, tuple[str, str, bytes]], list[Hit]]:
    with CorpusIndex.open(folder) as index:
        index.verify()
        return contents(index), hits(index)


def lost_from(done: Repair) -> set[str | None]:
    return {video.video_id for video in done.lost}


def record(name: str | None) -> tuple[Any, np.ndarray]:
    assert name is not None
    video, clips = video_of(int(name[1:]))
    return (MOVED if name == "v0" else video), clips


def assert_repaired(folder: Path, before: tuple[dict[str, tuple[str, str, bytes]], list[Hit]]) -> Repair:
    """Repair; what is not lost is as before, with the same scores, and so is all of it once the rest is added again."""
    done = repair_index(folder)
    lost, (kept, found) = lost_from(done), everything(folder)
    assert kept == {name: value for name, value in before[0].items() if name not in lost}
    assert found == [hit for hit in before[1] if hit.video.video_id not in lost]
    assert lost <= before[0].keys()
    with CorpusIndex.open(folder, "rw") as index:
        index.add_many(record(name) for name in lost)
    assert everything(folder) == before
    return done


def test_a_flipped_byte_costs_the_video_whose_clips_it_is_in_and_no_other(folder: Path, tmp_path: Path) -> None:
    before, rng, counts = everything(folder), random.Random(0), []
    for file in (path.relative_to(folder) for path in files_of(folder)):
        shutil.copytree(folder, tmp_path / "work")
        flip(tmp_path / "work" / file, rng.randrange((folder / file).stat().st_size), rng.randint(1, 255))
        lost = assert_repaired(tmp_path / "work", before).lost
        assert len(lost) == (file.name == "clip_codes.bin") or file.suffix == ".wal"
        assert len(lost) <= 1
        counts.append(len(lost))
        shutil.rmtree(tmp_path / "work")
    assert len(counts) > 50
    assert sum(counts) >= 2


def test_of_files_that_are_gone_only_clips_cost_videos(folder: Path, tmp_path: Path) -> None:
    before = everything(folder)
    for file in (path.relative_to(folder) for path in files_of(folder) if path.suffix != ".wal"):
        shutil.copytree(folder, tmp_path / "work")
        (tmp_path / "work" / file).unlink()
        done = assert_repaired(tmp_path / "work", before)
        assert bool(done.lost) == (file.name == "clip_codes.bin")
        assert done.damaged == (file,)
        shutil.rmtree(tmp_path / "work")


def test_a_sound_index_stays_as_it_is(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"}
    assert repair_index(folder) == Repair((), None, ())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"} == before


def test_damaged_files_are_kept_with_a_list_of_what_was_lost(folder: Path) -> None:
    codes = files_of(folder / "segments")[0].with_name("clip_codes.bin")
    flip(codes, 0)
    content = codes.read_bytes()
    done = repair_index(folder)
    assert done.damaged == (codes.relative_to(folder),)
    assert done.aside == folder / "damaged" / "1"
    assert (done.aside / done.damaged[0]).read_bytes() == content
    rows = [json.loads(line) for line in (done.aside / "taken_out.jsonl").read_text().splitlines()]
    assert [LostVideo(**row) for row in rows] == list(done.lost)
    assert not codes.exists()


def test_files_are_kept_where_a_file_has_one_name_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    path = next(folder.glob("log-*.wal"))
    flip(path, 3)
    content = path.read_bytes()
    monkeypatch.setattr(os, "link", no_link)
    done = repair_index(folder)
    assert done.aside is not None
    assert (done.aside / path.name).read_bytes() == content


def test_damage_everywhere_but_in_the_copies_costs_nothing(folder: Path) -> None:
    before = everything(folder)
    for path in files_of(folder / "segments"):
        if "copy" not in path.name and path.name != "clip_codes.bin":
            flip(path, 0)
    flip(folder / "manifest.json", 40)
    assert not assert_repaired(folder, before).lost


def test_a_column_damaged_twice_costs_its_segment(folder: Path) -> None:
    before = everything(folder)
    first = min((folder / "segments").iterdir())
    flip(first / "video_size.bin", 0)
    for i in range(0, (first / "copy.bin").stat().st_size):
        flip(first / "copy.bin", i)
    lost = lost_from(assert_repaired(folder, before))
    assert len(lost) > 1
    assert lost.isdisjoint({"v0", "v5", "v6"}), "v0 was moved since; the others were removed"


def test_names_that_cannot_be_read_are_not_made_up(folder: Path) -> None:
    first = min((folder / "segments").iterdir())
    flip(first / "id_text.bin", 1)
    (first / "copy.bin").unlink()
    done = repair_index(folder)
    assert {video.video_id for video in done.lost} == {None}
    assert "/films/1/v1.mp4" in {video.path for video in done.lost}


def test_axes_and_pooled_vectors_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "BASIS_POOLS", 40)
    with build(tmp_path / "i", range(23)) as index:
        index.compact()
    before = everything(tmp_path / "i")
    for name in ("basis_rotation", "pool_head", "chapter_pools"):
        flip(next((tmp_path / "i" / "segments").glob(f"*/{name}.bin")), 2)
        assert not assert_repaired(tmp_path / "i", before).lost


def test_every_byte_of_heads_and_notes_of_the_log_may_be_damaged(folder: Path) -> None:
    before, path = everything(folder), next(folder.glob("log-*.wal"))
    places = [
        i for kind, begin, end in log_records(folder) for i in range(begin, end if kind != b"PUT " else begin + 20)
    ]
    assert len(places) > 400
    sound, describe = path.read_bytes(), partial(store.described, settings=manifest.read_manifest(folder).settings)
    for i in [*range(log.EMPTY), *places]:
        flip(path, i)
        found = list(log.salvage_log(path, True, describe))
        path.write_bytes(sound)
        assert [change for change in found if not change.sound and change.kind == log.PUT] == []
        assert [change.names for change in found] == [["v31"], ["v32"], ["v0"], ["v6"], ["v33"]]
    flip(path, places[0])
    assert not assert_repaired(folder, before).lost


def test_of_a_video_whose_last_change_is_damaged_no_older_state_stays(folder: Path) -> None:
    before, path = everything(folder), next(folder.glob("log-*.wal"))
    _, begin, _ = [record for record in log_records(folder) if record[0] == log.PUT][2]
    flip(path, begin + 500)
    assert assert_repaired(folder, before).lost == (LostVideo("v0", MOVED.path),)


def test_what_was_put_in_place_of_a_lost_video_is_not_lost(folder: Path) -> None:
    before = everything(folder)
    codes = min((folder / "segments").iterdir()) / "clip_codes.bin"
    flip(codes, 0)
    assert not assert_repaired(folder, before).lost, "the first clips are v0's as it was before"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (["manifest.json", "manifest.json.copy"], "manifest.json' is not JSON, and its copy is not JSON"),
        (["log"], "is missing"),
    ],
)
def test_what_cannot_be_told_is_refused_and_left_alone(folder: Path, damage: list[str], message: str) -> None:
    for name in damage:
        next(folder.glob("log-*.wal")).unlink() if name == "log" else flip(folder / name, 0)
    before = {path: path.read_bytes() for path in files_of(folder)}
    with pytest.raises(DamagedIndexError, match=f"{message}; restore it from a backup or build the index again"):
        repair_index(folder)
    assert {path: path.read_bytes() for path in files_of(folder)} == before


def test_two_damages_side_by_side_in_the_log_are_refused(folder: Path) -> None:
    (_, note, _), (_, change, _), *_ = log_records(folder)
    flip(next(folder.glob("log-*.wal")), note)
    flip(next(folder.glob("log-*.wal")), change + 30)
    with pytest.raises(DamagedIndexError, match=r"log-.* byte 16, and nothing else says which videos were changed"):
        repair_index(folder)


def test_a_copy_of_the_manifest_that_is_older_than_changes_is_refused(folder: Path) -> None:
    older = (folder / "manifest.json").read_bytes()
    with CorpusIndex.open(folder, "rw") as index:
        index.flush()
        index.add(*video_of(40))
    (folder / "manifest.json.copy").write_bytes(older)
    flip(folder / "manifest.json", 0)
    with pytest.raises(DamagedIndexError, match="its copy is older than log-"):
        repair_index(folder)


def test_a_copy_that_a_dead_writer_left_behind_is_brought_up_to_date(folder: Path) -> None:
    older, before = (folder / "manifest.json").read_bytes(), everything(folder)
    CorpusIndex.open(folder, "rw").close()
    (folder / "manifest.json.copy").write_bytes(older.replace(b'"generation"', b'"generation" '))
    CorpusIndex.open(folder, "rw").close()
    assert (folder / "manifest.json.copy").read_bytes() == (folder / "manifest.json").read_bytes()
    assert everything(folder) == before


def test_no_index_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(DamagedIndexError, match="is missing; give the folder of an index"):
        repair_index(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_repair_waits_for_no_writer(folder: Path) -> None:
    flip(folder / "manifest.json.copy", 0)
    with CorpusIndex.open(folder, "rw"):
        flip(folder / "manifest.json.copy", 0)
        with pytest.raises(IndexLockedError, match="is being written by process"):
            repair_index(folder)


def test_read_only_media_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(folder / "manifest.json.copy", 0)
    true = os.open

    def read_only(path: Any, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return true(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match=f"Read-only file system: '{folder}'"):
        repair_index(folder)


def test_what_the_disk_does_not_give_back_is_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = everything(folder), Path.read_bytes
    bad = (folder / "manifest.json").stat().st_ino

    def failing(path: Path) -> bytes:
        if path.stat().st_ino == bad:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(DamagedIndexError, match=r"cannot be read \(Input/output error\); momentret index verify INDEX"):
        CorpusIndex.open(folder)
    assert assert_repaired(folder, before).damaged == (Path("manifest.json"),)


def test_format_1_once_written_to_is_repaired_as_any(folder: Path) -> None:
    before = everything(folder)
    to_format_1(folder)
    CorpusIndex.open(folder, "rw").close()
    for path in files_of(folder / "segments"):
        if "copy" not in path.name and path.name != "clip_codes.bin":
            flip(path, 0)
    assert not assert_repaired(folder, before).lost


def test_format_1_is_repaired_by_the_segment(folder: Path) -> None:
    before = everything(folder)
    to_format_1(folder)
    first, *others = sorted((folder / "segments").iterdir())
    flip(first / "video_start.bin", 3)
    flip(others[0] / "pool_head.bin", 3)
    lost = lost_from(assert_repaired(folder, before))
    assert {"v1", "v2"} <= lost < before[0].keys()


def test_a_damaged_log_of_format_1_is_refused(folder: Path) -> None:
    to_format_1(folder)
    flip(next(folder.glob("log-*.wal")), 500)
    with pytest.raises(DamagedIndexError, match="nothing else says which videos were changed"):
        repair_index(folder)


def test_a_campaign_of_repairs_and_kills_finds_no_wrong_answer() -> None:
    done = run_script("damage_campaign.py", "--damages", "0", "--repairs", "60", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    count = json.loads(done.stdout)["repairs"]
    assert count["repaired"] == 60
    assert count["killed"] > 15
    assert 0 < count["lost_videos"] <= count["of_clips_or_log"]
