"""Ctrl-C, too many open files and two processes at once: what was acknowledged stays, and is seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from momentret.errors import OutputExistsError
from momentret.search.index import CorpusIndex, IndexLockedError, IndexSettings, store
from tests.search.corpus import DIM, build, clips_of, contents, video_of


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException, after: bool) -> None:
    """Let the next call of a function end in an error, after or instead of its work."""
    real: Callable[..., Any] = getattr(owner, name)

    def failing(*arguments: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        if after:
            real(*arguments)
        raise error

    monkeypatch.setattr(owner, name, failing)


def no_handle(path: str = "segment") -> OSError:
    return OSError(errno.EMFILE, "Too many open files", path)


def test_an_interrupted_change_is_not_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with build(tmp_path / "i", range(3)) as index:
        fails_once(monkeypatch, os, "fsync", KeyboardInterrupt(), after=True)
        with pytest.raises(KeyboardInterrupt):
            index.remove(["v1"])
        index.add(*video_of(3))
        fails_once(monkeypatch, os, "fsync", OSError(errno.ENOSPC, "No space left on device"), after=False)
        with pytest.raises(OSError, match="No space left"):
            index.add(*video_of(4))
        index.remove(["v0"])
        expected = contents(index)
    with CorpusIndex.open(tmp_path / "i") as index:
        assert contents(index) == expected
        assert set(expected) == {"v1", "v2", "v3"}


def test_a_removal_that_was_interrupted_after_the_log_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build(tmp_path / "i", range(3)) as index:
        fails_once(monkeypatch, store.Store, "_apply_remove", KeyboardInterrupt(), after=False)
        with pytest.raises(KeyboardInterrupt):
            index.remove(["v1"])
        index.remove(["v1"])
        expected = contents(index)
    with CorpusIndex.open(tmp_path / "i") as index:
        assert contents(index) == expected


@pytest.mark.parametrize("error", [no_handle(), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["open_segment", "_remove_leftovers"])
def test_a_seal_that_breaks_off_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    with build(tmp_path / "i", range(6), seal_clips=10**6) as index:
        index.flush()
        index.add(*video_of(6))
        expected = contents(index)
        owner = store if hasattr(store, step) else store.Store
        fails_once(monkeypatch, owner, step, error, after=False)
        with pytest.raises(type(error)):
            index.compact()
        if step == "open_segment":  # before the new manifest is in force: go on as if nothing had been
            index.add(*video_of(7))
            index.flush()
            expected = contents(index)
    with CorpusIndex.open(tmp_path / "i", "rw") as index:
        assert contents(index) == expected
        index.add(*video_of(8))
        index.compact()
        assert set(contents(index)) == {*expected, "v8"}


def test_what_cannot_be_opened_again_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with build(tmp_path / "i", range(3), seal_clips=1) as index:
        fails_once(monkeypatch, store, "open_segment", no_handle(), after=False)
        index.add(*video_of(3))
        assert "could not be sealed: [Errno 24] Too many open files" in caplog.text
        index.add(*video_of(4))
        expected = contents(index)
        assert index.stats().unsealed == 0
    with CorpusIndex.open(tmp_path / "i") as index:
        assert contents(index) == expected
        assert len(index) == 5


def test_a_damaged_neighbour_is_not_joined_and_stops_no_adding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with build(tmp_path / "i", range(7), seal_clips=1) as index:
        assert index.stats().segments == 7
        codes = next(iter(sorted((tmp_path / "i" / "segments").glob("*/clip_codes.bin"))))
        content = bytearray(codes.read_bytes())
        content[5] ^= 1
        codes.write_bytes(content)
        index.add(*video_of(7))
        assert "are not joined" in caplog.text
        assert "v7" in index
        assert (index.stats().segments, index.stats().unsealed) == (8, 0)
    with CorpusIndex.open(tmp_path / "i") as index:
        assert len(index) == 8


def test_a_refresh_that_fails_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "i", range(3), seal_clips=1).close()
    with CorpusIndex.open(tmp_path / "i", "rw") as writer, CorpusIndex.open(tmp_path / "i") as reader:
        writer.add(*video_of(3))
        fails_once(monkeypatch, store, "open_segment", no_handle(), after=False)
        with pytest.raises(OSError, match="Too many open files"):
            reader.refresh()
        assert reader.refresh()
        assert contents(reader) == contents(writer)


def test_the_torn_end_of_a_log_is_no_news(tmp_path: Path) -> None:
    build(tmp_path / "i", range(3)).close()
    path = next((tmp_path / "i").glob("log-*.wal"))
    path.write_bytes(path.read_bytes() + b"NOTE\1\1\1")
    with CorpusIndex.open(tmp_path / "i") as reader:
        assert not reader.refresh()
        assert reader.stats().torn_bytes == 7
    with CorpusIndex.open(tmp_path / "i", "rw") as writer:
        assert writer.stats().torn_bytes == 0


@pytest.mark.parametrize("action", ["search", "verify"])
def test_files_that_a_writer_replaced_before_they_were_read_are_not_missed(tmp_path: Path, action: str) -> None:
    with build(tmp_path / "i", range(6)) as writer:
        writer.flush()
        with CorpusIndex.open(tmp_path / "i") as reader:
            writer.add(*video_of(6))
            writer.compact()
            if action == "verify":
                reader.verify()
            else:
                assert reader.search(clips_of(6)).hits[0].video.video_id == "v6"


def test_of_two_that_make_an_index_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has seen that the folder is free; before it goes on, the first makes the index and adds to it."""
    settings, free = IndexSettings(dim=DIM), store.can_begin
    made: list[CorpusIndex] = []

    def first_looks(folder: Path) -> bool:
        found = free(folder)
        monkeypatch.setattr(store, "can_begin", free)
        made.append(build(folder, range(2)))
        return found

    monkeypatch.setattr(store, "can_begin", first_looks)
    with pytest.raises(IndexLockedError, match="is being written by process"):
        CorpusIndex.create(tmp_path / "i", settings)
    with made[0] as index:
        index.add(*video_of(2))
    with pytest.raises(OutputExistsError):
        CorpusIndex.create(tmp_path / "i", settings)
    with CorpusIndex.open(tmp_path / "i") as index:
        assert len(index) == 3
