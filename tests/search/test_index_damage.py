"""Crashes, full disks and damaged files: nothing acknowledged is lost, and damage is said, not served."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from momentret.errors import MomentretError
from momentret.search.index import CorpusIndex, DamagedIndexError, disk, log, store
from tests.search.corpus import build, contents, video_of

Contents = dict[str, tuple[str, str, bytes]]
ROOT = Path(__file__).parents[2]


def run_script(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the house and return what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "scripts" / name, *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_damage_is_told_the_same_from_another_process() -> None:
    error = DamagedIndexError(Path("index/lock"), "is missing", "make another")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "index file 'index/lock' is missing; make another"


def test_fifty_kills_lose_nothing() -> None:
    done = run_script("crash_campaign.py", "--kills", "50", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    count = json.loads(done.stdout)
    assert count["kills"] == 50
    assert count["acknowledged"] > 50
    assert count["under_way"] > 10
    assert (count["lost"], count["ghosts"], count["errors"]) == (0, 0, [])
    assert count["slowest_reopen_s"] < 2


def sample(folder: Path) -> Contents:
    """Make an index with sealed segments, removed videos and a log."""
    with build(folder, range(25)) as index:
        index.remove(["v2"])
        index.flush()
        index.add_many([video_of(100), video_of(101)])
        index.remove(["v3"])
        return contents(index)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    return data[:i] + bytes([data[i] ^ rng.randint(1, 255)]) + data[i + 1 :]


def assert_damage_is_told(folder: Path, count: int, damage: Callable[[bytes, random.Random], bytes]) -> None:
    """Damage one file at a time: reading either fails with our error or gives what was there."""
    expected = sample(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != "lock")
    rng, told = random.Random(0), 0
    for number in range(count):
        path = files[number % len(files)]
        sound = path.read_bytes()
        path.write_bytes(damage(sound, rng))
        found, message = read(folder)
        path.write_bytes(sound)
        told += found is None
        torn_log = path.suffix == ".wal" and damage is cut and found is not None
        assert path.name in message or found == expected or (torn_log and is_earlier_state(found)), path
    with CorpusIndex.open(folder) as index:
        assert contents(index) == expected
    assert told > 0.9 * count


def read(folder: Path) -> tuple[Contents | None, str]:
    """Return what an index holds, or the message that it is damaged."""
    try:
        with CorpusIndex.open(folder) as index:
            found = contents(index)
            index.verify()
            return found, ""
    except MomentretError as error:
        return None, str(error)


def is_earlier_state(found: Contents) -> bool:
    """The log of `sample` ended earlier: 100, 101 and the removal of 3 come in this order."""
    late = [name in found for name in ("v100", "v101")] + ["v3" not in found]
    return late == sorted(late, reverse=True) and len(found.keys() - {"v100", "v101", "v3"}) == 23


@pytest.mark.parametrize("damage", [flip, cut])
def test_damage_is_told(tmp_path: Path, damage: Callable[[bytes, random.Random], bytes]) -> None:
    assert_damage_is_told(tmp_path / "i", 300, damage)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, cut])
def test_five_thousand_damages_are_told(tmp_path: Path, damage: Callable[[bytes, random.Random], bytes]) -> None:
    assert_damage_is_told(tmp_path / "i", 5000, damage)


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    sample(tmp_path / "i")
    files = [path for path in (tmp_path / "i").rglob("*") if path.is_file() and path.name != "lock"]
    assert len(files) > 40
    for path in files:
        path.rename(tmp_path / "away")
        with pytest.raises(DamagedIndexError, match=f"{path.name}' is missing"), CorpusIndex.open(tmp_path / "i") as i:
            i.verify()
        (tmp_path / "away").rename(path)


@pytest.mark.parametrize("name", ["log", "clip_codes"])
def test_what_the_disk_does_not_give_back_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def failing(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sample(tmp_path / "i")
    with CorpusIndex.open(tmp_path / "i") as index:
        monkeypatch.setattr(*((Path, "read_bytes") if name == "log" else (disk.RowFile, "_read_into")), failing)
        with pytest.raises(DamagedIndexError, match=rf"{name}.* cannot be read \(Input/output error\)"):
            index.verify() if name == "clip_codes" else log.read_log(tmp_path / "log")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    sample(tmp_path / "i")
    path = tmp_path / "i" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3', 1))
    with pytest.raises(DamagedIndexError, match="has format 3, newer than 2; upgrade momentret"):
        CorpusIndex.open(tmp_path / "i")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"format": 1}', b"\xff", b"[" * 100_000, b'{"format": 1, "crc32": 0, "index": 1}']
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DamagedIndexError, match=r"manifest\.json"):
        CorpusIndex.open(tmp_path)


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_file_is_no_index(tmp_path: Path, mode: Literal["r", "rw"]) -> None:
    (tmp_path / "film.mp4").write_text("a film")
    with pytest.raises(DamagedIndexError, match="is missing; give the folder of an index, or make one"):
        CorpusIndex.open(tmp_path / "film.mp4", mode)


def test_a_folder_without_an_index_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DamagedIndexError, match="is missing; give the folder of an index, or make one"):
        CorpusIndex.open(tmp_path, "rw")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["add", "remove", "flush", "compact"])
def test_a_full_disk_leaves_the_index_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    sample(tmp_path / "sample")
    write, left = os.write, [0]

    def limited(handle: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        return write(handle, bytes(data)[: max(1, len(data) // 2)])  # and every write is cut short

    errors = []
    for calls in range(0, 60, 7):
        shutil.copytree(tmp_path / "sample", tmp_path / str(calls))
        with CorpusIndex.open(tmp_path / str(calls), "rw") as index:
            before = contents(index)
            left[0] = calls
            monkeypatch.setattr(os, "write", limited)
            error = attempt(index, step)
            monkeypatch.undo()
            if error is not None:
                errors.append((error.errno, error.filename.startswith(str(tmp_path))))
                assert contents(index) == before
            index.add(*video_of(200))  # there is room again: the same writer goes on
            after = contents(index)
        with CorpusIndex.open(tmp_path / str(calls), "rw") as index:
            index.verify()
            assert contents(index) == after
            assert "v200" in after
    assert set(errors) == {(errno.ENOSPC, True)}


def attempt(index: CorpusIndex, step: str) -> OSError | None:
    try:
        change(index, step)
    except OSError as error:
        return error
    return None


def change(index: CorpusIndex, step: str) -> None:
    if step == "add":
        index.add(*video_of(50))
    elif step == "remove":
        index.remove(["v5"])
    else:
        getattr(index, step)()


def test_what_cannot_be_sealed_stays_safe_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with build(tmp_path / "i", range(0), seal_clips=100) as index:
        monkeypatch.setattr(store, "write_segment", full)
        assert index.add_many(video_of(number) for number in range(20)) == 20
        assert "could not be sealed: [Errno 28] No space left" in caplog.text
        with pytest.raises(OSError, match="No space left"):
            index.flush()
        monkeypatch.undo()
        index.add(*video_of(31))
        expected = contents(index)
    with CorpusIndex.open(tmp_path / "i") as index:
        assert contents(index) == expected
        assert len(expected) == 21


def test_segments_are_not_joined_while_the_disk_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with build(tmp_path / "i", range(0)) as index:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000))
        for number in range(20):
            index.add(*video_of(number))
            index.flush()
        expected = contents(index)
        assert len(index._store.sealed) == 20
        monkeypatch.undo()
        index.add(*video_of(20))
        index.flush()
        assert len(index._store.sealed) == 1
        assert contents(index).items() > expected.items()


def test_a_campaign_of_damages_finds_no_wrong_answer() -> None:
    done = run_script("damage_campaign.py", "--damages", "100", "--repairs", "0", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    count = json.loads(done.stdout)["damages"]
    assert count["damages"] == 100
    assert count["told"] > 90
    assert count["slowest_s"] < 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file size limit")
def test_a_file_size_limit_of_the_system_is_reported_with_the_path(tmp_path: Path) -> None:
    with build(tmp_path / "i", range(3)) as index:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            with pytest.raises(OSError, match="log-0") as caught:
                index.add_many(video_of(number) for number in range(10, 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EFBIG
        index.add(*video_of(30))
    with CorpusIndex.open(tmp_path / "i") as index:
        assert {video.video_id for video in index.videos()} == {"v0", "v1", "v2", "v30"}


def test_leftovers_of_a_dead_writer_are_removed(tmp_path: Path) -> None:
    expected = sample(tmp_path / "i")
    stale = tmp_path / "i" / "segments" / "00009999"
    stale.mkdir()
    (stale / "clip_codes.bin").write_bytes(b"half")
    (tmp_path / "i" / "log-00009999.wal").write_bytes(b"")
    (tmp_path / "i" / ".manifest.json.abc.tmp").write_bytes(b"{")
    with CorpusIndex.open(tmp_path / "i", "rw") as index:
        assert contents(index) == expected
    assert not stale.exists()
    assert not list((tmp_path / "i").glob("*9999*"))
    assert not list((tmp_path / "i").glob(".manifest*"))
