"""One extraction by several processes: the same store whoever dies meanwhile, and an end whatever happens."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from momentret.errors import ConfigError, DataError
from momentret.extract import ExtractConfig, Job, Video, keep_ids, pack, run_in_processes
from momentret.extract.cluster import run_on_ray
from momentret.extract.processes import _Worker
from momentret.video import Limits

from ..helpers import wait_for
from .films import film, films
from .test_pipeline import content

ROOT = Path(__file__).parents[2]
CONFIG = ExtractConfig(clip_length=0.5)


def job_of(tmp_path: Path, name: str = "store", config: ExtractConfig = CONFIG) -> Job:
    return Job((tmp_path / "in",), tmp_path / name, "fake", config, Limits())


def packed(job: Job) -> dict[str, bytes]:
    pack(job.find(), job.load()[1], job.output)
    return content(job.output)


def test_shards_in_processes_make_the_same_store(tmp_path: Path) -> None:
    films(tmp_path / "in", 5)
    whole, shared = job_of(tmp_path, "whole"), job_of(tmp_path)
    assert [whole.run("1/2"), whole.run("2/2"), whole.run("2/2")] == [3, 2, 0]
    seen: list[int] = []
    run_in_processes(shared, 2, seen.append)
    assert (shared.finished(), seen[-1]) == (5, 5)
    assert packed(shared) == packed(whole)


@pytest.mark.parametrize("how", ["in", "./in", "absolute"])
def test_a_file_keeps_its_id_though_another_of_its_name_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    first = film(Path("in", "a", "clip.mp4"), [("red", 1.0)])
    job = Job((Path("in"),), tmp_path / "store", "fake", CONFIG, Limits())
    job.run("1/1")
    packed(job)
    second = film(Path("in", "b", "clip.mp4"), [("blue", 1.0)])
    again = replace(job, videos=(tmp_path / "in" if how == "absolute" else Path(how),))
    old, new = again.find()
    assert (old.video_id, old.path.resolve()) == ("clip", first.resolve())
    assert (new.video_id[:5], new.path.resolve()) == ("clip-", second.resolve())
    assert again.run("1/1") == 1
    packed(again)
    first.unlink()
    assert [video.video_id for video in job.find()] == [new.video_id]
    assert [video.video_id for video in replace(job, overwrite=True).find()] == ["clip"]


def test_a_new_file_does_not_take_the_id_of_another(tmp_path: Path) -> None:
    row = {"video_id": "a-1", "path": str(tmp_path / "a.mp4"), "doubts": []}
    (tmp_path / "store.videos.jsonl").write_text(json.dumps(row))
    videos = [Video("a", tmp_path / "a.mp4"), Video("A-1", tmp_path / "A-1.mp4")]
    new, old = keep_ids(videos, tmp_path / "store")
    assert (old.video_id, new.video_id[:4]) == ("a-1", "A-1-")


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_killed_workers_leave_no_trace() -> None:
    script = ROOT / "scripts" / "kill_workers_campaign.py"
    options = ["--workers", "3", "--films", "16", "--every", "0.2", "--gently", "--seconds", "0.1", "--seed", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = json.loads(done.stdout)
    assert (count["videos"], count["quarantined"], count["identical"], count["left_over"]) == (16, 1, True, [])
    assert count["kills"] >= 2


def test_what_starting_again_would_not_help_ends_the_run(tmp_path: Path) -> None:
    films(tmp_path / "in", 2)
    with pytest.raises(ConfigError, match="no decoder 'ffmpeg'"):
        run_in_processes(job_of(tmp_path, config=ExtractConfig(0.5, decoder="ffmpeg")), 2)


@dataclass(frozen=True)
class Fatal(Job):
    """A job that takes its process down."""

    def run(self, shard: str) -> int:
        os._exit(3)


def test_processes_that_only_die_are_given_up(tmp_path: Path) -> None:
    job = Fatal(**vars(job_of(tmp_path)))
    with pytest.raises(
        DataError, match="shard 1/1 died 10 times while no video got finished, the last time with status 3"
    ):
        run_in_processes(job, 1)


@dataclass(frozen=True)
class Endless(Job):
    """A job that says that it runs, and goes on."""

    def run(self, shard: str) -> int:
        (self.output.parent / f"{os.getpid()}.pid").touch()
        time.sleep(600)
        return 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_one_who_started_them(tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.extract.test_shards import *\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "if __name__ == '__main__': run_in_processes(Endless(**vars(job_of(Path(sys.argv[1])))), 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    parent.send_signal(how)
    parent.wait(timeout=60)
    wait_for(lambda: not any(_runs(int(path.stem)) for path in tmp_path.glob("*.pid")))


def test_processes_that_run_end_when_another_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[_Worker] = []
    start = _Worker.start

    def once(worker: _Worker) -> None:
        if started:
            raise OSError("no more processes")
        started.append(worker)
        start(worker)

    monkeypatch.setattr(_Worker, "start", once)
    with pytest.raises(OSError, match="no more processes"):
        run_in_processes(Endless(**vars(job_of(tmp_path))), 2)
    alive = started[0].process.is_alive()
    started[0].process.kill()
    assert not alive


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_cluster_without_ray_names_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'momentret\[ray\]'"):
        run_on_ray(job_of(tmp_path), "local")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed")
@pytest.mark.filterwarnings("ignore")  # ray warns of its own doings
def test_a_ray_cluster_makes_the_same_store(tmp_path: Path) -> None:
    films(tmp_path / "in", 5)
    whole, shared = job_of(tmp_path, "whole"), job_of(tmp_path)
    whole.run("1/1")
    run_on_ray(replace(shared, workers=1000), "local", 2)  # more than any machine has
    assert packed(shared) == packed(whole)
    with pytest.raises(ConfigError, match="no decoder 'ffmpeg'"):
        run_on_ray(job_of(tmp_path, "other", ExtractConfig(0.5, decoder="ffmpeg")), "local", 2)
    with pytest.raises(DataError, match=r"no Ray cluster at '127.0.0.1:9'"):
        run_on_ray(shared, "127.0.0.1:9", 2)
