"""Every decoded frame is told by the number drawn into it, codec by codec and container by container."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from momentret.errors import ConfigError, DataError
from momentret.video import DecodeReport, Sampling, choose_decoder, decord_faults, probe, sample_frames

from .cases import CASES, H264, starts_of
from .rendering import patch, read_number, render, steady


def times_within(name: str) -> np.ndarray:
    """Return a time inside the showing of every picture, in seconds from the start of the container."""
    starts = starts_of(name)
    return starts + 0.4 * np.diff(starts, append=starts[-1] + 0.04)


def numbers(path: Path, times: np.ndarray, decoder: str = "auto") -> list[int]:
    return [read_number(frame.image) for frame in sample_frames(path, Sampling(times=tuple(times)), decoder)]


@pytest.mark.parametrize("step", [1, 3, 13])
@pytest.mark.parametrize("name", CASES)
def test_auto_gives_the_frame_on_screen(videos: Path, name: str, step: int) -> None:
    times = times_within(name)
    assert numbers(videos / name, times[::step]) == list(range(len(times)))[::step]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("turned")])
def test_a_turned_video_comes_upright(videos: Path, name: str) -> None:
    frame = next(sample_frames(videos / name, Sampling()))
    assert frame.image.shape == ((192, 108, 3) if "180" not in name else (108, 192, 3))


def test_a_frame_counts_from_its_first_moment(videos: Path) -> None:
    assert numbers(videos / "h264.mp4", np.array([0.04, 0.0798, 0.08])) == [1, 1, 2]


def test_before_the_first_frame_the_first_is_shown(videos: Path) -> None:
    frames = list(sample_frames(videos / "late behind sound.mp4", Sampling(times=(0.0, 0.5))))
    assert [(read_number(frame.image), frame.time) for frame in frames] == [(0, 1.0), (0, 1.0)]
    assert frames[0].image is frames[1].image


def test_an_edit_list_hides_what_it_cuts_away(tmp_path: Path) -> None:
    path = render(tmp_path / "cut.mp4", "libx264", options={"preset": "ultrafast", "bf": "0", "g": "10"})
    box = path.read_bytes()
    at = box.index(b"elst") + 16  # version, flags, count, duration; then the media time that is shown first
    ticks = int.from_bytes(box[at : at + 4], "big")
    scale = int.from_bytes(box[box.index(b"mdhd") + 4 + 12 :][:4], "big")
    patch(path, b"elst", 12, (ticks + scale // 2).to_bytes(4, "big"))
    report = DecodeReport()
    shown = [read_number(frame.image) for frame in sample_frames(path, Sampling(clip_length=0.4), "auto", report)]
    assert shown[0] == 18  # picture 13 is the first behind the cut at 0.5 s, and shown at 0
    assert report.duration == pytest.approx(1.5, abs=0.1)


def test_clips_end_with_the_video_and_there_is_always_one(videos: Path) -> None:
    def count(length: float) -> int:
        return len(list(sample_frames(videos / "h264.mp4", Sampling(clip_length=length))))

    assert [count(0.5), count(0.81), count(1.9), count(60.0)] == [4, 2, 1, 1]


def test_the_report_says_what_was_decoded(videos: Path) -> None:
    report = DecodeReport()
    list(sample_frames(videos / "h264.mp4", Sampling(clip_length=0.1), "auto", report))
    assert (report.decoder, report.bad_packets, report.out_of_order) == ("pyav", 0, 0)
    assert report.duration == pytest.approx(2.0)


def test_seldom_wanted_frames_are_reached_without_decoding_all(videos: Path) -> None:
    path = render(videos / "long.mp4", options=H264, stamps=steady(500))
    report = DecodeReport()
    frames = list(sample_frames(path, Sampling(clip_length=4.0), "auto", report))
    assert [read_number(frame.image) for frame in frames] == [50, 150, 250, 350, 450]
    assert report.decoded < 250


def test_keyframes_alone_are_a_fast_pass_over_the_whole_video(videos: Path) -> None:
    report = DecodeReport()
    sampling = Sampling(clip_length=0.4, keyframes=True)
    frames = list(sample_frames(videos / "h264.mp4", sampling, "auto", report))
    assert [read_number(frame.image) for frame in frames] == [0, 10, 20, 30, 40]
    assert report.decoded == 5


def test_images_are_scaled_to_the_shorter_side_and_never_up(videos: Path) -> None:
    small = next(sample_frames(videos / "h264.mp4", Sampling(size=54)))
    turned = next(sample_frames(videos / "turned 90.mp4", Sampling(size=54)))
    large = next(sample_frames(videos / "h264.mp4", Sampling(size=500)))
    assert [f.image.shape[:2] for f in (small, turned, large)] == [(54, 96), (96, 54), (108, 192)]
    assert read_number(small.image) == read_number(large.image) == 25


@pytest.mark.parametrize("name", ["vp9.webm", "h264 no b.mp4"])
def test_decord_is_exact_where_it_is_said_to_be(videos: Path, name: str) -> None:
    pytest.importorskip("decord")
    path = videos / name
    if not path.exists():
        render(path, options={"preset": "ultrafast", "bf": "0", "g": "10"})
    times = (np.arange(50) + 0.4) * 0.04
    assert decord_faults(probe(path)) == []
    assert numbers(path, times[::7], "decord") == list(range(0, 50, 7)) == numbers(path, times[::7])


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("h264 open gop.mp4", "B-frames"),
        ("mpeg4.mp4", "codec mpeg4"),
        ("hevc.mp4", "codec hevc"),
        ("h264.ts", "container mpegts"),
        ("late behind sound.mp4", "first frame at 1.000 s"),
    ],
)
def test_decord_is_doubted_where_it_errs(videos: Path, name: str, fault: str) -> None:
    assert fault in decord_faults(probe(videos / name))


@pytest.mark.parametrize("name", ["h264 open gop.mp4", "hevc.mp4"])
def test_decord_does_err_there(videos: Path, name: str) -> None:
    pytest.importorskip("decord")
    report = DecodeReport()
    frames = sample_frames(videos / name, Sampling(times=tuple(times_within(name)[::7])), "decord", report)
    assert [read_number(frame.image) for frame in frames] != list(range(0, 50, 7))
    assert report.doubts


def test_decord_says_what_it_cannot_read(videos: Path) -> None:
    pytest.importorskip("decord")
    with pytest.raises(DataError, match=r"av1.mp4': decord cannot read it .*use --decoder auto"):
        numbers(videos / "av1.mp4", np.array([0.0]), "decord")


def test_a_decoder_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="no decoder 'decrod', did you mean 'decord'"):
        choose_decoder("decrod")
