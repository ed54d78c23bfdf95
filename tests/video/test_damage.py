"""Files as they come: damaged, disguised, hostile."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from momentret.errors import DataError
from momentret.video import DecodeReport, Sampling, probe, sample_frames
from momentret.video.pyav import to_image

from .rendering import patch, read_number, render, steady

H264 = {"preset": "ultrafast", "g": "10", "bf": "2"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("good") / "good.mp4", options=H264, stamps=steady(100))


def damaged(good: Path, folder: Path, damage: str) -> Path:
    content = bytearray(good.read_bytes())
    noise = np.random.default_rng(0)
    half = len(content) // 2
    if damage == "cut in half":
        del content[half:]
    elif damage == "zeros to the end":
        content[half:] = bytes(len(content) - half)
    elif damage == "noise in the middle":
        content[half : half + half // 5] = noise.bytes(half // 5)
    else:
        for place in noise.integers(len(content) // 4, len(content), 60):
            content[place] ^= 0xFF
    path = folder / f"{damage}.mp4"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("damage", ["cut in half", "zeros to the end", "noise in the middle", "flipped bytes"])
def test_what_is_left_of_a_damaged_file_is_used_and_right(good: Path, tmp_path: Path, damage: str) -> None:
    report = DecodeReport()
    path = damaged(good, tmp_path, damage)
    frames = list(sample_frames(path, Sampling(clip_length=0.2), "auto", report))
    assert len(frames) >= 5
    early = [frame for frame in frames if frame.wanted < 0.7]
    assert [read_number(frame.image) for frame in early] == [int(frame.wanted * 25 + 1e-3) for frame in early]
    assert damage == "flipped bytes" or report.bad_packets > 0


def test_a_matroska_file_that_ends_before_its_first_picture_is_told_plainly(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mkv", options=H264)
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(DataError, match=r"no frame could be decoded .*; get the file again"):
        list(sample_frames(path, Sampling()))


def test_a_matroska_file_with_one_keyframe_long_after_its_sound_is_read(tmp_path: Path) -> None:
    one_gop = {"preset": "ultrafast", "bf": "0", "g": "1000"}
    path = render(tmp_path / "a.mkv", options=one_gop, stamps=steady(50, start=20_000), audio=22.0)
    frames = list(sample_frames(path, Sampling(times=(0.0, 20.5, 21.5))))
    assert [read_number(frame.image) for frame in frames] == [0, 12, 37]


def test_a_ts_of_one_picture_lasts_as_long_as_one(tmp_path: Path) -> None:
    report = DecodeReport()
    path = render(tmp_path / "a.ts", options=H264, stamps=[0])
    assert len(list(sample_frames(path, Sampling(), "auto", report))) == 1
    assert report.duration == pytest.approx(0.04)


def test_a_ts_that_begins_in_the_middle_of_a_gop_is_read(tmp_path: Path) -> None:
    path = render(tmp_path / "a.ts", options=H264)
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 3 // 188 * 188 :])
    assert len(list(sample_frames(path, Sampling(clip_length=0.2)))) >= 4


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"hello world\n" * 100, "cannot be read as a video"),
        ("header.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "cannot be read as a video"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:10,\ngood.mp4\n", "cannot be read as a video"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:10,\ngood.mp4\n", "cannot be read as a video"),
        ("concat.mp4", b"ffconcat version 1.0\nfile good.mp4\n", "cannot be read as a video"),
        ("session.sdp", b"v=0\nc=IN IP4 127.0.0.1\nm=video 4 RTP/AVP 96\n", "cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_named_with_the_reason(
    good: Path, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / "good.mp4").write_bytes(good.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*{reason}"):
        probe(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    from .rendering import _silence

    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        _silence(container, 1.0)
    with pytest.raises(DataError, match="holds no video"):
        probe(tmp_path / "sound.m4a")


def test_a_title_that_is_no_text_is_no_obstacle(good: Path, tmp_path: Path) -> None:
    import av

    path = tmp_path / "title.mp4"
    with av.open(str(good)) as source, av.open(str(path), "w") as target:
        (stream,) = source.streams.video
        copy = target.add_stream_from_template(stream)
        target.metadata["title"] = "Spring"
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    content = path.read_bytes()
    assert b"Spring" in content
    path.write_bytes(content.replace(b"Spring", b"Spr\xefng"))
    assert probe(path).duration == pytest.approx(probe(good).duration, abs=0.1)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
def test_only_regular_local_files_are_opened(good: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path / "loop.mp4", tmp_path, Path("/dev/zero"), tmp_path / "absent.mp4"):
        with pytest.raises(DataError, match=r"not a regular file|cannot be opened"):
            probe(path)
    for address in ("http://localhost/a.mp4", f"concat:{good}", f"subfile,,start,0,end,0,,:{good}", "a\0b.mp4"):
        with pytest.raises(DataError, match="cannot be opened"):
            probe(Path(address))


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX")
@pytest.mark.parametrize(
    "name", [b"-dash.mp4", b"new\nline.mp4", b"\xff\xfe.mp4", "ünï 'q\" %d.mp4".encode(), b"a:b.mp4"]
)
def test_any_file_name_is_only_a_name(good: Path, tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(good.read_bytes())
    assert read_number(next(sample_frames(path, Sampling())).image) == 25


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    path = render(tmp_path / "huge.gif", "gif", pixels="rgb8", stamps=steady(3, 100))
    patch(path, b"GIF89a", 0, (16000).to_bytes(2, "little") * 2)
    with pytest.raises(DataError, match=r"huge\.gif has pictures of 256,000,000 pixels, at most"):
        probe(path)


def test_patched_sizes_in_the_sample_description_are_not_believed(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    path.write_bytes(good.read_bytes())
    patch(path, b"avc1", 24, (16384).to_bytes(2, "big") * 2)  # behind the codec's name: width and height
    try:
        frames = list(sample_frames(path, Sampling()))
    except DataError as error:
        assert "pixels" in str(error)  # noqa: PT017
    else:
        assert frames[0].image.shape == (108, 192, 3)


@pytest.mark.parametrize("size", [(16000, 2), (2, 16000)])
def test_a_strip_does_not_grow_into_a_huge_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    path = render(tmp_path / "strip.avi", "mjpeg", steady(2), pixels="yuvj420p", size=size)
    (frame,) = sample_frames(path, Sampling(times=(0.0,), size=224))  # 224 x 1.8 million to an encoder, as it is
    assert max(frame.image.shape) == 8 * min(frame.image.shape[:2]) == 16


@pytest.mark.parametrize(
    ("size", "made"),
    [
        ((1920, 1080), (398, 224)),
        ((4000, 1000), (896, 224)),
        ((8000, 1000), (1792, 224)),
        ((400, 100), (400, 100)),
        ((90, 360), (90, 360)),
        ((9000, 1000), (1792, 224)),
        ((1000, 100), (800, 100)),
    ],
)
def test_what_a_film_can_be_keeps_its_shape(size: tuple[int, int], made: tuple[int, int]) -> None:
    import av

    assert to_image(av.VideoFrame(*size, "yuv420p"), 224).shape[1::-1] == made
