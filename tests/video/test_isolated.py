"""The decoding process: the same frames, and a file that kills it costs that file only."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from momentret.errors import ConfigError, DataError
from momentret.video import Cut, IsolatedCutter, IsolatedDecoder, Limits, Sampling, cut_video, sample_frames

from .rendering import read_number, render, steady

_MISBEHAVE = """
import os, sys, time
from momentret.video import decoders, worker
honest = decoders.DECODERS["pyav"]
def trap(info, sampling, report):
    deed = info.path.stem
    if deed == "crash": os.abort()
    if deed == "hang": time.sleep(600)
    if deed == "bomb": bytearray(8 << 30)
    if deed == "exit": os._exit(3)
    if deed == "bug": raise ZeroDivisionError("deep inside")
    if deed == "babble": os.write(sys.stdout.fileno(), b"not a message\\n")
    for frame in honest(info, sampling, report):
        yield frame
        if deed == "drip": time.sleep(0.5)
decoders.DECODERS["pyav"] = trap
worker.main()
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("good") / "good.mp4", options={"preset": "ultrafast"}, stamps=steady(60))


class Trapped(IsolatedDecoder):
    """Runs the real worker with a decoder that misbehaves as the file's name says."""

    _command = (sys.executable, "-c", _MISBEHAVE)


def named(good: Path, folder: Path, name: str) -> Path:
    path = folder / f"{name}.mp4"
    path.write_bytes(good.read_bytes())
    return path


def test_the_frames_are_those_of_decoding_here(good: Path) -> None:
    sampling = Sampling(times=(0.0, 0.01, 0.7, 2.0), size=50)
    with IsolatedDecoder() as decoder:
        there = list(decoder.frames(good, sampling))
        assert decoder.report.decoded > 0
    here = list(sample_frames(good, sampling))
    assert [(f.wanted, f.time) for f in there] == [(f.wanted, f.time) for f in here]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(there, here, strict=True))
    assert there[0].image is there[1].image


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("crash", r"the decoding process died \(SIGABRT\)"),
        ("exit", r"the decoding process died \(status 3\)"),
        ("hang", "no frame for 6 s"),
        ("bomb", "needs more than 2048 MiB"),
        ("bug", "ZeroDivisionError: deep inside"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="signals and memory limits as on Linux")
def test_a_file_that_kills_the_process_is_named_and_the_next_is_read(
    good: Path, tmp_path: Path, deed: str, reason: str
) -> None:
    with Trapped(Limits(seconds=6.0, memory=2 << 30)) as decoder:
        with pytest.raises(DataError, match=f"{deed}.mp4'.*{reason}"):
            list(decoder.frames(named(good, tmp_path, deed), Sampling()))
        assert len(list(decoder.frames(good, Sampling(clip_length=0.5)))) == 5


def test_what_a_library_prints_is_no_message(good: Path, tmp_path: Path) -> None:
    with Trapped() as decoder:
        assert len(list(decoder.frames(named(good, tmp_path, "babble"), Sampling(clip_length=0.5)))) == 5


class Babbling(IsolatedDecoder):
    """Runs a process that says what is no message, and stays."""

    _command = (sys.executable, "-c", "import time; print('not a message', flush=True); time.sleep(5)")


def test_a_process_that_says_no_message_is_ended(good: Path) -> None:
    with Babbling() as decoder, pytest.raises(DataError, match=r"good.mp4': the decoding process died \(SIGKILL\)"):
        list(decoder.frames(good, Sampling()))


def test_errors_keep_their_kind(good: Path, tmp_path: Path) -> None:
    with IsolatedDecoder() as decoder:
        with pytest.raises(DataError, match="cannot be opened"):
            list(decoder.frames(tmp_path / "absent.mp4", Sampling()))
        with pytest.raises(ConfigError, match="no decoder 'x'"):
            list(decoder.frames(good, Sampling(), "x"))


def test_a_video_may_be_left_in_the_middle(good: Path) -> None:
    with IsolatedDecoder() as decoder:
        assert next(decoder.frames(good, Sampling(clip_length=0.1))).wanted == pytest.approx(0.05)
        assert len(list(decoder.frames(good, Sampling(clip_length=0.5)))) == 5


def test_the_process_ends_with_its_parent(good: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from momentret.video import *\n"
        "d = IsolatedDecoder(); next(d.frames(Path(sys.argv[1]), Sampling(clip_length=0.001)));\n"
    )
    code = code.replace("next(", "g = (").replace(";\n", "; next(g); print(d._process.pid, flush=True)\n", 1)
    code += "os.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run([sys.executable, "-c", code, str(good)], capture_output=True, text=True, check=False)
    child = int(done.stdout)
    for _ in range(100):
        if not _alive(child):
            return
        time.sleep(0.1)
    pytest.fail("the decoding process outlives its parent")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[-1].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("limits", [{"seconds": 0.0}, {"seconds": float("nan")}, {"memory": 1000}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="limit is"):
        Limits(**limits)  # type: ignore[arg-type]


_CUT_BADLY = """
import os, time
from momentret.video import worker
honest = worker.cut_video
def trap(path, cut, reached):
    if path.stem == "crash": os.abort()
    if path.stem == "hang": time.sleep(600)
    if path.stem == "bomb": bytearray(8 << 30)
    if path.stem == "slow": [(reached(i, 4.0), time.sleep(0.3)) for i in range(4)]
    return honest(path, cut, reached)
worker.cut_video = trap
worker.main()
"""


class TrappedCutter(IsolatedCutter):
    _command = (sys.executable, "-c", _CUT_BADLY)


def test_a_cut_is_that_of_cutting_here(good: Path, tmp_path: Path) -> None:
    with IsolatedCutter() as cutter:
        there = cutter.cut(good, Cut(0.5, 1.5, str(tmp_path / "there.mp4")))
    here = cut_video(good, Cut(0.5, 1.5, str(tmp_path / "here.mp4")))
    assert there == here
    numbers = [read_number(f.image) for f in sample_frames(tmp_path / "there.mp4", Sampling(clip_length=0.04))]
    assert numbers == list(range(13, 38))


@pytest.mark.parametrize(("deed", "reason"), [("crash", "SIGABRT"), ("hang", "for 6 s"), ("bomb", "than 2048 MiB")])
@pytest.mark.skipif(sys.platform != "linux", reason="signals and memory limits as on Linux")
def test_a_cut_that_kills_the_process_is_named_and_the_next_is_made(
    good: Path, tmp_path: Path, deed: str, reason: str
) -> None:
    cut = Cut(0.5, 1.5, str(tmp_path / "cut.mp4"))
    with TrappedCutter(Limits(seconds=6.0, memory=2 << 30)) as cutter:
        with pytest.raises(DataError, match=f"{deed}.mp4'.*{reason}"):
            cutter.cut(named(good, tmp_path, deed), cut)
        assert cutter.cut(good, cut).frames == 26


def test_a_cut_says_how_far_it_has_come(good: Path, tmp_path: Path) -> None:
    said: list[tuple[float, float]] = []
    with TrappedCutter() as cutter:
        cutter.cut(named(good, tmp_path, "slow"), Cut(0.0, 1.0, str(tmp_path / "a.mp4")), lambda *far: said.append(far))
    assert said[:3] == [(1.0, 4.0), (2.0, 4.0), (3.0, 4.0)]


def test_errors_of_cutting_keep_their_kind(good: Path, tmp_path: Path) -> None:
    with IsolatedCutter() as cutter, pytest.raises(DataError, match=r"good.mp4' shows nothing from 7 s"):
        cutter.cut(good, Cut(7.0, 9.0, str(tmp_path / "a.mp4")))


def test_a_picture_that_stays_for_a_day_is_damage(tmp_path: Path) -> None:
    path = render(tmp_path / "gap.mkv", stamps=[0, 40, 24 * 3600 * 1000])
    shown = []
    with IsolatedDecoder() as decoder, pytest.raises(DataError, match="shows one picture for more than 12 hours"):
        shown.extend(decoder.frames(path, Sampling(clip_length=600.0)))
    assert len(shown) == 12 * 6
    night = render(tmp_path / "night.mkv", stamps=[0, 40, 11 * 3600 * 1000])
    with IsolatedDecoder() as decoder:
        assert len(list(decoder.frames(night, Sampling(clip_length=600.0)))) == 11 * 6
