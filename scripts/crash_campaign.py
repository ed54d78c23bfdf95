#!/usr/bin/env python3
"""Kill a process that writes to an index, again and again, and check what is left (`--kills 1000`).

Half of the kills come at a random moment, half inside a random system call (a write is cut in two first). After each,
the index must open by itself and hold what was acknowledged: nothing lost, nothing that was never added. The operation
under way at the kill may have happened or not. Prints one line of JSON; exit 1 if a promise was broken. POSIX only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from momentret.errors import MomentretError
from momentret.search.index import CorpusIndex, IndexSettings, Video

DIM = 32
SETTINGS = IndexSettings(dim=DIM, seal_clips=150)
State = dict[str, tuple[str, str]]  # video id -> (content hash, path)


def clips_of(content_hash: str) -> np.ndarray:
    """Return the vectors that a content hash stands for."""
    rng = np.random.default_rng(int(content_hash))
    rows = rng.standard_normal((int(rng.integers(1, 30)), DIM), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def video_of(name: str, content_hash: str, path: str) -> Video:
    return Video(name, path, content_hash, duration=60.0, clip_length=2.0)


def next_operation(rng: random.Random, names: list[str]) -> dict[str, Any]:
    """Draw one change of an index that holds `names`."""
    kind = rng.choices(["add", "replace", "remove", "move", "flush", "compact"], [8, 2, 3, 1, 1, 1])[0]
    some = rng.sample(names, min(len(names), rng.randint(1, 3)))
    if kind == "add" or (kind in ("replace", "remove", "move") and not some):
        new = {f"v{rng.getrandbits(48):x}": str(rng.getrandbits(32)) for _ in range(rng.choice([1, 1, 1, 5]))}
        return {"kind": "add", "videos": new}
    if kind == "replace":
        return {"kind": kind, "videos": {some[0]: str(rng.getrandbits(32))}}
    return {"kind": kind, "names": some[:1] if kind == "move" else some, "path": f"/moved/{rng.getrandbits(16)}"}


def carry_out(index: CorpusIndex, operation: dict[str, Any]) -> None:
    kind = operation["kind"]
    if kind in ("add", "replace"):
        videos = [(video_of(name, value, f"/{name}"), clips_of(value)) for name, value in operation["videos"].items()]
        index.add_many(videos, replace=kind == "replace")
    elif kind == "remove":
        index.remove(operation["names"])
    elif kind == "move":
        index.move(operation["names"][0], operation["path"])
    else:
        index.flush() if kind == "flush" else index.compact()


def outcomes(state: State, operation: dict[str, Any]) -> list[State]:
    """Return the states that may follow: the last one is the operation carried out in full."""
    kind = operation["kind"]
    states = [dict(state)]
    if kind in ("add", "replace"):
        for name, value in operation["videos"].items():  # the log may end behind any of the records
            states.append({**states[-1], name: (value, f"/{name}")})
    elif kind == "remove":
        states.append({name: value for name, value in state.items() if name not in operation["names"]})
    elif kind == "move":
        name = operation["names"][0]
        states.append({**state, name: (state[name][0], operation["path"])})
    return states


def die_in_call(number: int) -> None:
    """Make this process kill itself inside the given file system call from now on."""
    left = [number]

    def cut(name: str) -> None:
        true = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if name == "write":
                    true(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return true(*arguments, **options)

        setattr(os, name, call)

    for name in ("write", "fsync", "replace", "unlink", "mkdir", "ftruncate", "link"):
        cut(name)


def work_until_killed(folder: Path, seed: int, report: int) -> None:
    """Change the index for ever; tell the parent before and after each change."""
    rng = random.Random(seed)
    tell = os.write
    if seed % 2:
        die_in_call(rng.randint(1, 150))
    with CorpusIndex.open(folder, "rw") as index:
        while True:
            operation = next_operation(rng, [video.video_id for video in index.videos()])
            tell(report, json.dumps(operation).encode() + b"\n")
            carry_out(index, operation)
            tell(report, b"done\n")


def run_and_kill(folder: Path, seed: int) -> list[bytes]:
    """Start a writer, kill it, and return what it told."""
    receive, report = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receive)
            work_until_killed(folder, seed, report)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            os.write(report, f"error {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(1)
    os.close(report)
    with os.fdopen(receive, "rb") as file:
        if seed % 2:
            lines = file.read().splitlines()  # ends when the child kills itself
        else:
            file.peek(1)
            time.sleep(random.Random(seed).uniform(0.0, 0.1))
            os.kill(child, signal.SIGKILL)
            lines = file.read().splitlines()
    os.waitpid(child, 0)
    return lines


def contents(folder: Path) -> State:
    """Open the index as a reader and a writer would, check every byte, and return what it holds."""
    with CorpusIndex.open(folder) as index:
        seen = {video.video_id: (video.content_hash, video.path) for video in index.videos()}
    with CorpusIndex.open(folder, "rw") as index:
        index.verify()
        videos = {video.video_id: (video.content_hash, video.path) for video in index.videos()}
        for name, (value, _) in videos.items():
            np.testing.assert_allclose(index.clips(name), clips_of(value), atol=1e-4)
    if seen != videos:
        raise MomentretError("a reader and a writer see different videos")
    return videos


def campaign(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Run the campaign in an empty folder and return its counts."""
    CorpusIndex.create(folder, SETTINGS).close()
    count: dict[str, Any] = {"kills": 0, "acknowledged": 0, "under_way": 0, "lost": 0, "ghosts": 0, "errors": []}
    state: State = {}
    slowest = 0.0
    for number in range(kills):
        allowed = [state]
        for line in run_and_kill(folder, seed + number):
            if line == b"done":
                state, count["acknowledged"] = allowed[-1], count["acknowledged"] + 1
                allowed = [state]
            elif line.startswith(b"error"):
                count["errors"].append(line.decode())
            else:
                allowed = outcomes(state, json.loads(line))
        count["kills"] += 1
        count["under_way"] += len(allowed) > 1
        start = time.perf_counter()
        CorpusIndex.open(folder, "rw").close()
        slowest = max(slowest, time.perf_counter() - start)
        found = contents(folder)
        if found not in allowed:
            count["lost"] += len(state.keys() - found.keys()) or 1
            count["ghosts"] += len(found.keys() - allowed[-1].keys())
        state = found
    return count | {"videos_at_the_end": len(state), "slowest_reopen_s": round(slowest, 3)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count = campaign(Path(folder) / "index", arguments.kills, arguments.seed)
    print(json.dumps(count))
    return int(bool(count["lost"] or count["ghosts"] or count["errors"]))


if __name__ == "__main__":
    sys.exit(main())
