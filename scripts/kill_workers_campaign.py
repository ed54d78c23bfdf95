#!/usr/bin/env python3
"""Extract with several processes while a random one is killed again and again; the result must not differ by a byte.

    python scripts/kill_workers_campaign.py --workers 8 --every 2

The films are small and an encoder that waits makes them take a while. Prints one line of JSON; exit 1 if the store or
the list of outcomes is not that of an undisturbed run. POSIX only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import multiprocessing
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from momentret.encoders import Encoder, FakeEncoder
from momentret.encoders.fake import COLOURS
from momentret.extract import ExtractConfig, Job, Ledger, pack, run_in_processes
from momentret.video import Limits


class WaitingEncoder(FakeEncoder):
    """The fake encoder, a little later."""

    seconds = 0.0

    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        time.sleep(self.seconds)
        return super().encode_frames(frames)


@dataclass(frozen=True)
class WaitingJob(Job):
    """A job whose encoder waits before every batch."""

    seconds: float = 0.0

    def load(self) -> tuple[Encoder, Ledger]:
        encoder, ledger = WaitingEncoder(), super().load()[1]
        encoder.seconds = self.seconds
        return encoder, ledger


def make_films(folder: Path, count: int) -> None:
    """Write films of two colours, and a file that is none."""
    folder.mkdir()
    names = list(COLOURS)
    for i in range(count):
        with av.open(str(folder / f"film {i:04}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for frame in range(10 + i % 15):
                colour = COLOURS[names[(i + frame // 7) % len(names)]]
                image = np.full((48, 64, 3), colour, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    (folder / "none.mp4").write_text("not a film")


class Killer(threading.Thread):
    """Kills a random worker every few seconds, if it has not ended; gently: only if a video was finished since."""

    def __init__(self, job: Job, workers: int, every: float, gently: bool, seed: int) -> None:
        super().__init__()
        self.job, self.workers, self.every, self.gently, self.random = job, workers, every, gently, random.Random(seed)
        self.kills, self.seen, self.over = 0, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(self.every):
            alive = [process for process in multiprocessing.active_children() if process.is_alive()]
            chosen, finished = self.random.randrange(self.workers), self.job.finished()
            if chosen < len(alive) and (finished > self.seen or not self.gently):
                alive[chosen].kill()
                self.kills, self.seen = self.kills + 1, finished


def digest(job: Job) -> str:
    """Return the hash of every byte of a store and of its list of outcomes."""
    total = hashlib.sha256()
    for path in sorted(path for path in job.output.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(job.output)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return total.hexdigest() + hashlib.sha256(Path(f"{job.output}.videos.jsonl").read_bytes()).hexdigest()


def campaign(folder: Path, workers: int, films: int, seconds: float, **kills: Any) -> dict[str, Any]:
    """Extract undisturbed, then with kills, and compare."""
    make_films(folder / "films", films)
    calm = Job((folder / "films",), folder / "calm", "fake", ExtractConfig(clip_length=0.5), Limits())
    calm.run("1/1")
    pack(calm.find(), calm.load()[1], calm.output)
    job = WaitingJob(**{**vars(replace(calm, output=folder / "killed")), "seconds": seconds})
    killer, began = Killer(job, workers, **kills), time.monotonic()
    killer.start()
    try:
        run_in_processes(job, workers)
    finally:
        killer.over.set()
        killer.join()
    outcomes = pack(job.find(), job.load()[1], job.output)
    return {
        "workers": workers,
        "films": films,
        "kills": killer.kills,
        "seconds": round(time.monotonic() - began, 1),
        "videos": sum(outcome.error is None for outcome in outcomes),
        "quarantined": sum(outcome.error is not None for outcome in outcomes),
        "identical": digest(calm) == digest(job),
        "left_over": [path.name for path in folder.glob("*.partial")],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--films", type=int, default=240)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--gently", action="store_true", help="kill only if a video was finished since the last kill")
    parser.add_argument("--seconds", type=float, default=1.5, help="that each batch of frames waits")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # each death is a warning
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        count = campaign(Path(folder), **vars(arguments))
    print(json.dumps(count))
    return int(not (count["identical"] and count["kills"] and not count["left_over"]))


if __name__ == "__main__":
    sys.exit(main())
