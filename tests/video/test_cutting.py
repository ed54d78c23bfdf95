"""Windows as files: every frame is told by the number drawn into it, the sound by a beep."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from momentret.errors import ConfigError, DataError
from momentret.video import Cut, CutReport, Sampling, cut_video, probe, sample_frames, suffix_for_copy
from momentret.video.pyav import to_image

from .cases import CASES, H264, starts_of
from .rendering import patch, picture, read_number, render, steady

WINDOWS = [(0.5, 1.3), (0.0, 0.41), (1.02, 1.9), (1.0, 1.4), (0.81, 0.9)]


def shown(path: Path) -> list[tuple[int, float]]:
    """Return the number and the time of every frame of a file that a player shows."""
    origin = probe(path).origin
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (read_number(to_image(frame, None)), float(frame.pts * stream.time_base) - origin)
            for frame in container.decode(stream)
        ]


def expected(name: str, start: float, end: float) -> list[tuple[int, float]]:
    """Return the number of every picture on screen in a window, and when it comes, from the start of the window on."""
    starts = starts_of(name)
    ends = np.append(starts[1:], starts[-1] + 0.04)
    starts[0] = 0.0  # the first frame is what is shown before it, too
    on_screen = np.flatnonzero((ends > start + 1e-4) & (starts < end - 1e-4))
    return [(int(i), max(starts[i] - start, 0.0)) for i in on_screen]


def cut(path: Path, folder: Path, start: float, end: float, exact: bool) -> tuple[Path, CutReport]:
    output = folder / f"cut{'.mp4' if exact else suffix_for_copy(probe(path))}"
    return output, cut_video(path, Cut(start, end, str(output), exact))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", CASES)
def test_exact_holds_the_frames_of_the_window_at_their_times(
    videos: Path, tmp_path: Path, name: str, window: tuple[float, float]
) -> None:
    output, report = cut(videos / name, tmp_path, *window, exact=True)
    numbers, times = zip(*expected(name, *window), strict=True)
    got_numbers, got_times = zip(*shown(output), strict=True)
    assert got_numbers == numbers
    np.testing.assert_allclose(got_times, times, atol=1e-3)  # timestamps of .mkv are whole milliseconds
    assert (report.start, report.end, report.frames) == (window[0], window[1], len(numbers))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("late")])
def test_exact_lasts_as_long_as_the_window(videos: Path, tmp_path: Path, name: str) -> None:
    output, _ = cut(videos / name, tmp_path, 0.02, 0.61, exact=True)
    assert probe(output).duration == pytest.approx(0.59, abs=2e-3)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("late", "animation"))])
def test_a_copy_holds_all_frames_of_the_window_in_rhythm(
    videos: Path, tmp_path: Path, name: str, window: tuple[float, float]
) -> None:
    output, report = cut(videos / name, tmp_path, *window, exact=False)
    numbers, times = zip(*shown(output), strict=True)
    assert set(numbers) >= {number for number, _ in expected(name, *window)}
    assert list(numbers) == sorted(set(numbers))
    starts = starts_of(name)[list(numbers)]
    np.testing.assert_allclose(np.array(times) - times[0], starts - starts[0], atol=2e-3)
    assert report.start == pytest.approx(starts[0], abs=2e-3)
    assert report.frames == len(numbers)
    assert report.end >= window[1] - 1e-3


def test_a_copy_begins_at_the_keyframe_before(videos: Path, tmp_path: Path) -> None:
    output, report = cut(videos / "h264.mp4", tmp_path, 0.7, 1.0, exact=False)
    assert report.start == pytest.approx(0.4)
    assert shown(output)[0] == (10, 0.0)


def test_a_copy_keeps_the_compressed_pictures(videos: Path, tmp_path: Path) -> None:
    output, _ = cut(videos / "h264.mp4", tmp_path, 0.4, 0.8, exact=False)
    assert packets(output) <= packets(videos / "h264.mp4")


def packets(path: Path) -> set[bytes]:
    with av.open(str(path)) as container:
        return {bytes(packet) for packet in container.demux(video=0) if packet.size}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("turned", ["turned 90.mp4", "turned 180.mp4", "turned 270.mp4"])
def test_a_turned_video_stays_turned(videos: Path, tmp_path: Path, turned: str, exact: bool) -> None:
    output, _ = cut(videos / turned, tmp_path, 0.5, 0.8, exact)
    with av.open(str(output)) as got, av.open(str(videos / turned)) as wanted:
        assert next(got.decode(video=0)).rotation == next(wanted.decode(video=0)).rotation != 0


def test_odd_sizes_become_even_and_plain(videos: Path, tmp_path: Path) -> None:
    output, _ = cut(videos / "h264 444 odd.mp4", tmp_path, 0.5, 0.8, exact=True)
    with av.open(str(output)) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (194, 110, "yuv420p")


@pytest.mark.parametrize("exact", [True, False])
def test_an_edit_list_is_followed(tmp_path: Path, exact: bool) -> None:
    path = render(tmp_path / "a.mp4", options={"preset": "ultrafast", "bf": "0", "g": "10"})
    scale = int.from_bytes(path.read_bytes().partition(b"mdhd")[2][12:16], "big")
    patch(path, b"elst", 12, (scale // 2).to_bytes(4, "big"))  # hides the first half second: picture 13 comes first
    output, report = cut(path, tmp_path, 0.1, 0.5, exact)
    numbers = [number for number, _ in shown(output)]
    assert numbers == list(range(15 if exact else 10, 26))
    assert report.start == pytest.approx(0.1 if exact else -0.12)


def with_beep(path: Path, start: float = 0.0, rate: int = 44100) -> Path:
    """Write four seconds of numbered pictures with a beep that begins with picture 37, at 1.5 s."""
    wave = np.zeros((2, 4 * rate), np.float32)
    wave[:, int(1.5 * rate) : int(1.6 * rate)] = np.sin(np.arange(rate // 10) * 0.3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "25", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        sound = container.add_stream("aac", rate=rate, layout="stereo")
        for i in range(0, 4 * rate - 1024, 1024):
            part = av.AudioFrame.from_ndarray(wave[:, i : i + 1024].copy(), format="fltp", layout="stereo")
            part.sample_rate, part.pts, part.time_base = rate, i + int(start * rate), Fraction(1, rate)
            container.mux(sound.encode(part))
        for i in range(100):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = i + int(start * 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux([*stream.encode(None), *sound.encode(None)])
    return path


def beep_after(path: Path, number: int) -> float:
    """Return how many seconds after a picture the beep begins."""
    with av.open(str(path)) as container:
        pictures = {read_number(f.to_ndarray(format="rgb24")): f.time for f in container.decode(video=0)}
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.3)
            if len(loud):
                return float(frame.time + loud[0] / frame.sample_rate - pictures[number])
    pytest.fail("there is no beep")


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("start", [0.0, 5.0])
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
def test_sound_stays_with_the_picture(tmp_path: Path, ending: str, start: float, exact: bool) -> None:
    path = with_beep(tmp_path / f"a{ending}", start)
    output, report = cut(path, tmp_path, 1.22, 2.3, exact)
    assert report.sound
    assert beep_after(output, 35) == pytest.approx(beep_after(path, 35), abs=2e-3)  # coding blurs the edge a little


def test_silence_before_the_sound_begins_is_kept(tmp_path: Path) -> None:
    path = render(tmp_path / "late sound.mkv", options=H264, audio=1.0)
    output, report = cut(path, tmp_path, 0.5, 2.0, exact=True)
    assert report.sound
    with av.open(str(output)) as container:
        assert next(container.decode(audio=0)).time == pytest.approx(0.0, abs=1e-3)


def test_a_window_past_the_end_ends_with_the_video(videos: Path, tmp_path: Path) -> None:
    for exact in (True, False):
        output, report = cut(videos / "h264.mp4", tmp_path, 1.6, 99.0, exact)
        assert report.end == pytest.approx(2.0)
        assert [number for number, _ in shown(output)][-10:] == list(range(40, 50))


@pytest.mark.parametrize("exact", [True, False])
def test_a_window_behind_the_video_is_named(videos: Path, tmp_path: Path, exact: bool) -> None:
    with pytest.raises(DataError, match=r"h264.mp4' shows nothing from 7 s to 9 s"):
        cut(videos / "h264.mp4", tmp_path, 7.0, 9.0, exact)


def test_nothing_is_copied_from_before_the_picture(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"shows nothing from 0.2 s to 0.6 s; its picture begins at 1 s; choose another"
    ):
        cut(videos / "late behind sound.mp4", tmp_path, 0.2, 0.6, exact=False)


@pytest.mark.parametrize("exact", [True, False])
def test_a_damaged_file_gives_what_is_left(videos: Path, tmp_path: Path, exact: bool) -> None:
    path = tmp_path / "half.mp4"
    content = (videos / "h264.mp4").read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    output, report = cut(path, tmp_path, 0.5, 1.9, exact)
    assert report.end < 1.9
    frames = sample_frames(output, Sampling(times=tuple(np.arange(0.1, 0.6, 0.02))))  # it steps over damage
    assert {read_number(frame.image) for frame in frames} >= set(range(15, 25))


def test_pictures_without_timestamps_are_cut_exactly_only(tmp_path: Path) -> None:
    path = render(tmp_path / "a.h264", options={"preset": "ultrafast", "bf": "0", "g": "10"})
    output, _ = cut(path, tmp_path, 0.4, 0.8, exact=True)
    assert [number for number, _ in shown(output)] == list(range(10, 20))


def test_what_a_container_cannot_hold_is_said(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"h264.mp4' cannot be written as webm .*; try the ending .mkv, or --exact"):
        cut_video(videos / "h264.mp4", Cut(0.0, 1.0, str(tmp_path / "a.webm"), exact=False))


def test_nobody_is_sent_to_the_container_that_could_not_hold_it(tmp_path: Path) -> None:
    path = render(tmp_path / "a.wmv", "wmv2")
    with pytest.raises(DataError, match=r"a.wmv' cannot be written as matroska .*; try --exact"):
        cut_video(path, Cut(0.0, 1.0, str(tmp_path / "a.mkv"), exact=False))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize("exact", [True, False])
def test_a_full_disk_is_no_matter_of_the_container(videos: Path, exact: bool) -> None:
    with pytest.raises(DataError, match=r"h264.mp4' cannot be written .*No space left.*; make room on the disk"):
        cut_video(videos / "h264.mp4", Cut(0.0, 1.0, "/dev/full", exact, format="matroska"))


@pytest.mark.parametrize("window", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_a_window_that_is_none_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="give START-END"):
        Cut(*window, "a.mp4")


def test_an_ending_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not end like a video.*did you mean '.mp4'"):
        Cut(0.0, 1.0, "a.mp")


def test_webm_is_for_copies_only(videos: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "a.webm")
    with pytest.raises(ConfigError, match=r"holds no H.264, .*; use one of .mp4, .m4v, .*, .flv, or --copy"):
        Cut(0.0, 1.0, output)
    assert cut_video(videos / "vp9.webm", Cut(0.4, 0.8, output, exact=False)).frames == 10


def test_a_long_video_is_cut_without_reading_it_all(tmp_path: Path) -> None:
    path = render(tmp_path / "long.ts", options=H264, stamps=steady(3000))
    read = 0

    def reached(seconds: float, total: float) -> None:
        nonlocal read
        read += 1
        assert -0.5 <= seconds <= total + 0.5

    cut_video(path, Cut(100.0, 101.0, str(tmp_path / "a.mp4")), reached)
    assert 25 <= read < 60


def test_a_frame_rate_that_no_one_believes_does_no_harm(tmp_path: Path) -> None:
    path = render(tmp_path / "slow.mkv", options=H264, stamps=[0, 4_000_000, 8_000_000])  # a frame an hour
    output, report = cut(path, tmp_path, 3_999.0, 4_001.0, exact=True)
    assert [number for number, _ in shown(output)] == [0, 1]
    assert (report.frames, report.end) == (2, 4_001.0)
