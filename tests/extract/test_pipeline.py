"""Extraction as a whole: right vectors, in any order, through kills and bad files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from momentret.encoders import FakeEncoder
from momentret.errors import ConfigError, DataError, MismatchError
from momentret.extract import ExtractConfig, Ledger, Outcome, clip_vectors, extract, find_videos, pack, partial_folder
from momentret.extract.ledger import _alone, was_extracted
from momentret.features import FeatureConfig, FeatureStore, open_store
from momentret.video import Limits, Sampling, sample_frames

from ..helpers import wait_for
from .films import film, films

CONFIG = ExtractConfig(clip_length=0.5)


def run(folder: Path, output: Path, config: ExtractConfig = CONFIG, workers: int = 2) -> list[Outcome]:
    """Extract a folder and pack the store; returns the outcomes of this run."""
    encoder, videos = FakeEncoder(), find_videos([folder])
    ledger = Ledger.open(partial_folder(output), config, encoder.fingerprint)
    outcomes = list(extract(videos, encoder, config, ledger, workers=workers, limits=Limits(seconds=30)))
    pack(videos, ledger, output)
    return outcomes


def store(path: Path) -> FeatureStore:
    return open_store(FeatureConfig(layout="packed", root=path, text=None))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_clip_is_what_was_on_screen(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 1.0), ("blue", 2.0)])
    run(tmp_path / "in", tmp_path / "store")
    (rows,) = store(tmp_path / "store").read_video("a")
    colours = FakeEncoder().encode_text(["red", "blue"])
    assert (rows @ colours.T).argmax(axis=1).tolist() == [0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


def test_the_rows_are_those_of_decoding_and_encoding_one_by_one(tmp_path: Path) -> None:
    path = film(tmp_path / "in" / "a.mp4", [("red", 1.3), ("grey", 0.9), ("green", 1.7)])
    run(tmp_path / "in", tmp_path / "store", ExtractConfig(clip_length=1.0, fps=4.0))
    encoder = FakeEncoder()
    frames = [frame.image for frame in sample_frames(path, Sampling(1.0, 4, size=encoder.frame_size))]
    expected = clip_vectors(encoder.encode_frames(frames), 4)
    (rows,) = store(tmp_path / "store").read_video("a")
    assert rows.shape == (4, 32)
    np.testing.assert_array_equal(rows, expected)


def test_the_manifest_says_how_the_rows_were_made(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 1.0)])
    run(tmp_path / "in", tmp_path / "store")
    (source,) = store(tmp_path / "store").manifest.video
    fingerprint = FakeEncoder().fingerprint
    assert (source.encoder, source.weights_hash) == (fingerprint.name, fingerprint.weights_hash)
    assert (source.clip_length, source.fps, source.dimension, source.normalisation) == (0.5, 2.0, 32, "l2")


def test_the_clips_of_frames_are_their_mean_direction() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [-1, 0], [0, 1]], np.float32)
    expected = [[2**-0.5, 2**-0.5], [0, 0], [0, 1]]
    np.testing.assert_allclose(clip_vectors(rows, 2), expected, atol=1e-7)


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    films(tmp_path / "in", 6)
    run(tmp_path / "in", tmp_path / "one", workers=1)
    run(tmp_path / "in", tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")
    assert not list(tmp_path.glob("*.partial"))


def test_a_second_run_does_only_what_is_left_or_changed(tmp_path: Path) -> None:
    folder, output = films(tmp_path / "in", 4), tmp_path / "store"
    encoder, videos = FakeEncoder(), find_videos([folder])
    ledger = Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint)
    first = next(extract(videos, encoder, CONFIG, ledger))  # and leave
    film(folder / "film 3.mp4", [("white", 0.5)])
    again = {outcome.video_id for outcome in run(folder, output)}
    assert first.video_id not in again
    assert "film 3" in again
    assert store(output).read_video("film 3")[0].shape == (1, 32)


def test_a_file_that_changes_while_it_is_extracted_is_still_to_do(tmp_path: Path) -> None:
    path = film(tmp_path / "in" / "a.mp4", [("red", 1.0)])

    class Late(FakeEncoder):
        def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
            os.utime(path, (0, 0))  # somebody is writing to it
            return super().encode_frames(frames)

    encoder, videos = Late(), find_videos([path])
    ledger = Ledger.open(tmp_path / "partial", CONFIG, encoder.fingerprint)
    assert len(list(extract(videos, encoder, CONFIG, ledger))) == 1
    assert ledger.outcomes(videos) == []


def test_leaving_the_loop_ends_threads_and_processes_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    film(folder / "long.mp4", [("red", 60.0)])
    encoder, config = FakeEncoder(), ExtractConfig(clip_length=0.01)
    film(folder / "a short.mp4", [("red", 0.5)])
    ledger = Ledger.open(tmp_path / "partial", config, encoder.fingerprint)
    before = threading.active_count()
    outcomes = extract(find_videos([folder]), encoder, config, ledger, workers=2)
    assert next(outcomes).video_id == "a short"
    began = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 10
    assert threading.active_count() == before


def test_a_program_that_holds_the_iterator_ends(tmp_path: Path) -> None:
    films(tmp_path / "in", 3)
    code = (
        "import sys; from pathlib import Path; from tests.extract.test_pipeline import *\n"
        "encoder, config = FakeEncoder(), ExtractConfig(clip_length=0.01)\n"  # more than the queue holds
        "ledger = Ledger.open(Path(sys.argv[1], 'partial'), config, encoder.fingerprint)\n"
        "outcomes = extract(find_videos([Path(sys.argv[1], 'in')]), encoder, config, ledger, workers=2)\n"
        "print(next(outcomes).video_id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=Path(__file__).parents[2],
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (ExtractConfig(clip_length=1.0), r"config clip_length 0\.5, now it is 1\.0"),
        (ExtractConfig(clip_length=0.5, keyframes=True), "config keyframes False, now it is True"),
    ],
)
def test_work_begun_with_other_settings_is_refused(tmp_path: Path, changed: ExtractConfig, named: str) -> None:
    Ledger.open(tmp_path / "partial", CONFIG, FakeEncoder().fingerprint)
    with pytest.raises(MismatchError, match=named):
        Ledger.open(tmp_path / "partial", changed, FakeEncoder().fingerprint)
    with pytest.raises(MismatchError, match="encoder dimension 32, now it is 48"):
        Ledger.open(tmp_path / "partial", CONFIG, FakeEncoder(48).fingerprint)


def test_an_unknown_decoder_ends_the_run(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mp4", [("red", 0.5)])
    with pytest.raises(ConfigError, match="no decoder 'ffmpeg'"):
        run(tmp_path / "in", tmp_path / "store", ExtractConfig(0.5, decoder="ffmpeg"))


def test_a_fault_of_the_encoder_ends_the_run(tmp_path: Path) -> None:
    class Broken(FakeEncoder):
        def encode_frames(self, frames: object) -> np.ndarray:
            raise RuntimeError("out of memory")

    films(tmp_path / "in", 3)
    ledger = Ledger.open(tmp_path / "partial", CONFIG, Broken().fingerprint)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(extract(find_videos([tmp_path / "in"]), Broken(), CONFIG, ledger, workers=2))


def test_nothing_but_quarantine_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_text("no film")
    with pytest.raises(DataError, match=r"no video of 1 could be used; the first: .*a.mp4' cannot be read"):
        run(tmp_path / "in", tmp_path / "store")


@pytest.mark.parametrize("done", [0, 2, 4])
def test_a_store_that_another_run_has_packed_meanwhile_is_taken_up(tmp_path: Path, done: int) -> None:
    encoder, output, videos = FakeEncoder(), tmp_path / "store", find_videos([films(tmp_path / "in", 4)])
    ours, other = (Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint, output) for _ in range(2))
    outcomes = extract(videos, encoder, CONFIG, ours)
    for _ in range(done):
        next(outcomes)
    list(extract(videos, encoder, CONFIG, other))
    pack(videos, other, output)
    before = content(output)
    list(outcomes)
    assert [outcome.video_id for outcome in pack(videos, ours, output)] == [f"film {i}" for i in range(4)]
    assert content(output) == before
    assert not partial_folder(output).exists()


def test_other_videos_that_another_run_has_packed_meanwhile_are_not_lost(tmp_path: Path) -> None:
    encoder, output = FakeEncoder(), tmp_path / "store"
    videos, others = find_videos([films(tmp_path / "in", 1)]), find_videos([film(tmp_path / "b.mp4", [("red", 1.0)])])
    ours, other = (Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint, output) for _ in range(2))
    list(extract(others, encoder, CONFIG, other))
    pack(others, other, output)
    list(extract(videos, encoder, CONFIG, ours))
    with pytest.raises(MismatchError, match=r"holds 1 video that the paths do not give \(first: 'b'"):
        pack(videos, ours, output)
    assert store(output).read_video("b")[0].shape == (2, 32)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("Ledger._begin", "store.partial"),
        ("atomic_write", "store.partial"),
        ("write_family", "store"),
        ("write_jsonl", "store"),
    ],
)
def test_a_full_disk_names_the_path_and_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, name: str
) -> None:
    films(tmp_path / "in", 1)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(f"momentret.extract.ledger.{step}", Mock(side_effect=full))
        with pytest.raises(DataError) as raised:
            run(tmp_path / "in", tmp_path / "store")
    assert str(raised.value) == (
        f"'{tmp_path / name}' cannot be written (No space left on device); make room on the disk and run the same "
        "command again"
    )
    run(tmp_path / "in", tmp_path / "store")
    assert len(store(tmp_path / "store").read_video("film 0")[0]) == 4


def test_rows_that_cannot_be_written_whole_say_why(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    (video,) = find_videos([film(tmp_path / "a.mp4", [("red", 1.0)])])
    ledger = Ledger.open(tmp_path / "partial", CONFIG, FakeEncoder().fingerprint)
    assert ledger.outcome(video) is None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DataError, match=r"partial' cannot be written \(File too large\); see that it can be"):
            ledger.finish(video, Outcome("a", "a.mp4"), np.zeros((1000, 32), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.outcome(video) is None


@pytest.mark.skipif(os.name != "posix", reason="locks files as POSIX has it")
def test_one_run_packs_at_a_time(tmp_path: Path) -> None:
    encoder, output, videos = FakeEncoder(), tmp_path / "store", find_videos([films(tmp_path / "in", 2)])
    ledger = Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint, output)
    list(extract(videos, encoder, CONFIG, ledger))
    with _alone(ledger.folder):
        second = threading.Thread(target=pack, args=(videos, ledger, output))
        second.start()
        second.join(0.3)
        assert not output.exists()
    second.join(60)
    assert output.exists()


def test_a_folder_that_another_run_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (video,) = find_videos([film(tmp_path / "a.mp4", [("red", 1.0)])])
    ledger, begin = Ledger.open(tmp_path / "partial", CONFIG, FakeEncoder().fingerprint), Ledger._begin

    def once(ledger: Ledger) -> None:
        monkeypatch.setattr(Ledger, "_begin", begin)
        shutil.rmtree(ledger.folder)
        raise FileNotFoundError  # as the writing would

    assert ledger.outcome(video) is None
    monkeypatch.setattr(Ledger, "_begin", once)
    ledger.finish(video, Outcome("a", str(video.path)), np.zeros((1, 32), np.float32))
    assert ledger.outcome(video) is not None


def test_a_store_is_not_made_while_videos_are_to_do(tmp_path: Path) -> None:
    films(tmp_path / "in", 2)
    ledger = Ledger.open(tmp_path / "partial", CONFIG, FakeEncoder().fingerprint)
    with pytest.raises(DataError, match="2 of 2 videos still to do: not begun, changed or packed by"):
        pack(find_videos([tmp_path / "in"]), ledger, tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("store.videos.jsonl", "{}\n", "is damaged"),
        ("store.videos.jsonl", "{\n", "line 1: not valid JSON"),
        ("store.videos.jsonl", '{"video_id": [], "path": "", "doubts": []}\n', "is damaged"),
        ("store.plan.json", "[]", "is damaged"),
        ("store/video/clip/rows.npy", None, "damaged"),
    ],
)
def test_a_damaged_store_is_not_added_to(tmp_path: Path, name: str, text: str | None, error: str) -> None:
    folder, output = films(tmp_path / "in", 1), tmp_path / "store"
    run(folder, output)
    film(folder / "new.mp4", [("white", 0.5)])
    content = bytearray((tmp_path / name).read_bytes())
    content[-9] ^= 255
    (tmp_path / name).write_bytes(content if text is None else text.encode())
    encoder, videos = FakeEncoder(), find_videos([folder])
    with pytest.raises(DataError, match=error):  # noqa: PT012
        ledger = Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint, output)
        list(extract(videos, encoder, CONFIG, ledger))
        pack(videos, ledger, output)


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    folder = films(tmp_path / "in", 10)
    run(folder, tmp_path / "whole")
    output = tmp_path / "store"
    code = (
        "import sys, time; from pathlib import Path; from tests.extract.test_pipeline import *\n"
        "class Slow(FakeEncoder):\n"
        "    def encode_frames(self, frames): time.sleep(0.05); return super().encode_frames(frames)\n"
        "e, v = Slow(), find_videos([Path(sys.argv[1])])\n"
        "for o in extract(v, e, CONFIG, Ledger.open(partial_folder(Path(sys.argv[2])), CONFIG, e.fingerprint)): pass\n"
    )
    finished = 0
    for kill in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(output)], cwd=Path(__file__).parents[2]
        )
        wait_for(lambda: _records(output) >= finished + 2 or process.poll() is not None)  # noqa: B023
        time.sleep(0.017 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert _records(output) >= finished + 2
        finished = _records(output)
    resumed = run(folder, output)
    assert len(resumed) == 10 - finished
    assert content(output) == content(tmp_path / "whole")


@pytest.mark.parametrize("step", ["write_json", "write_jsonl", "rmtree"])
def test_stopped_while_packing_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    output, module = tmp_path / "store", "momentret.extract.ledger"

    def attempt() -> None:
        encoder, videos = FakeEncoder(), find_videos([tmp_path / "in"])
        earlier = output if was_extracted(output) else None
        ledger = Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint, earlier)
        assert all(outcome.error is None for outcome in extract(videos, encoder, CONFIG, ledger))
        with monkeypatch.context() as patch:
            name = f"{module}.shutil.{step}" if step == "rmtree" else f"{module}.{step}"
            patch.setattr(name, Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pack(videos, ledger, output)
        encoder, earlier = FakeEncoder(), output if was_extracted(output) else None
        ledger = Ledger.open(partial_folder(output), CONFIG, encoder.fingerprint, earlier)
        assert not list(extract(videos, encoder, CONFIG, ledger))
        pack(videos, ledger, output)

    for films_by_now in (2, 4):
        run(films(tmp_path / "in", films_by_now), tmp_path / f"whole-{films_by_now}")
        attempt()
        assert content(output) == content(tmp_path / f"whole-{films_by_now}")


def _records(output: Path) -> int:
    return len(list(partial_folder(output).glob("items/*.json")))
