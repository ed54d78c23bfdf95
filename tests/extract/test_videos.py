from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from momentret.errors import ConfigError, DataError
from momentret.extract import ExtractConfig, Video, find_videos, take_shard

from ..helpers import make_unlistable


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(*paths: Path) -> list[str]:
    return [video.video_id for video in find_videos(list(paths))]


def test_a_folder_stands_for_what_ends_or_begins_like_a_video(tmp_path: Path) -> None:
    touch(tmp_path / "b.mp4", tmp_path / "deep" / "a.MKV", tmp_path / "notes.txt", tmp_path / "cover.jpg")
    (tmp_path / "film.bin").write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 20)
    assert ids(tmp_path) == ["a", "b", "film"]


def test_a_file_is_taken_once_whatever_ways_lead_to_it(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    assert ids(tmp_path, tmp_path / "a.mp4", tmp_path / "." / "a.mp4") == ["a"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    assert ids(tmp_path / "in") == ["a"]


def test_names_that_meet_are_told_apart_for_good(tmp_path: Path) -> None:
    touch(tmp_path / "1" / "a.mp4", tmp_path / "2" / "A.mp4", tmp_path / "b.mp4")
    first, second, third = ids(tmp_path)
    assert (first[:2], second[:2], third) == ("A-", "a-", "b")
    assert ids(tmp_path) == [first, second, third]


@pytest.mark.parametrize(
    "name", [b"two\nlines.mp4", b"back\\slash.mp4", b"\xff\xfe.mp4", b"..mp4", b"x" * 250 + b".mp4"]
)
def test_any_name_becomes_an_id(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path / os.fsdecode(name))
    (video,) = find_videos([tmp_path]) if name != b"..mp4" else find_videos([tmp_path / "..mp4"])
    video.video_id.encode()
    assert not set(video.video_id) & set("/\\\n\0")
    assert len(video.video_id) < 220


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no videos in"):
        find_videos([tmp_path])


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path / "a" / "1.mp4", tmp_path / "b" / "2.mp4", tmp_path / "c" / "3.mp4")
    make_unlistable(monkeypatch, tmp_path / "b")
    assert ids(tmp_path) == ["1", "3"]
    assert [record.getMessage() for record in caplog.records] == [
        f"'{tmp_path / 'b'}' cannot be read (Input/output error): what is there is not looked at"
    ]
    told: list[tuple[Path, int | None]] = []
    find_videos([tmp_path], lambda path, error: told.append((path, error.errno)))
    assert told == [(tmp_path / "b", errno.EIO)]


@pytest.mark.parametrize("path", ["in", "in/unknown"])
def test_what_cannot_even_be_looked_at_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    touch(tmp_path / "in" / "1.mp4", tmp_path / "in" / "unknown")
    look = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        if self == tmp_path / path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return look(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    told: list[Path] = []
    find_videos([tmp_path / "in"], lambda path, error: told.append(path))
    assert told == [tmp_path / path]


def test_what_is_deleted_meanwhile_is_not_worth_a_word(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "1.mp4")
    (tmp_path / "in" / "nowhere").symlink_to(tmp_path / "nothing")
    find_videos([tmp_path / "in", tmp_path / "gone.mp4"], lambda path, error: pytest.fail(str(path)))


def test_shards_make_up_the_whole() -> None:
    videos = [Video(str(i), Path(str(i))) for i in range(11)]
    parts = [take_shard(videos, f"{i}/4") for i in range(1, 5)]
    assert sorted(video.video_id for part in parts for video in part) == sorted(video.video_id for video in videos)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_is_none_is_refused(shard: str) -> None:
    with pytest.raises(ConfigError, match="is not i/n"):
        take_shard([], shard)


def test_a_rate_gives_whole_frames_a_clip() -> None:
    assert ExtractConfig(2.0, 1.5).frames_per_clip == 3
    assert ExtractConfig(2.0).frames_per_clip == 1
    with pytest.raises(ConfigError, match=r"0\.6 frames a clip; choose an fps .* such as 0\.5"):
        ExtractConfig(2.0, 0.3)


@pytest.mark.parametrize(
    "values", [{"clip_length": 0.0}, {"clip_length": float("nan")}, {"fps": float("inf")}, {"fps": 0.0}]
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ExtractConfig(**values)  # type: ignore[arg-type]
