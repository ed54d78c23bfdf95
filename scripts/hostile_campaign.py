#!/usr/bin/env python3
"""Index a folder of hostile files beside good ones and check what became of each: `scripts/hostile_campaign.py`.

Every good film has to be in the index with all of its clips, every bad file in quarantine with a reason (what is
damaged may be either), in a run that ends by itself, without a traceback. A folder outside is watched, where the
system can (inotify): nothing in it may be opened; a server on this machine may not be asked; no process may be left.
A second run has nothing to do. Root runs the command without the right to read everything, where there is `setpriv`.
Prints one line of JSON; exit 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from momentret.search.index import CorpusIndex
from momentret.search.quarantine import Quarantine
from tests.hostile import CLIP, Case, fill, sources

ROOT = Path(__file__).parents[1]
GOOD_CLIPS = 4
WEAKER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


@contextmanager
def watched(folder: Path) -> Iterator[Any]:
    """Give a function that returns the names of what was opened in `folder`; None where there is no inotify."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "inotify_init1"):
        yield lambda: None
        return
    events = library.inotify_init1(os.O_NONBLOCK)
    assert library.inotify_add_watch(events, os.fsencode(folder), 0x20 | 0x1 | 0x2 | 0x100 | 0x200) >= 0

    def opened() -> list[str]:
        with suppress(BlockingIOError):
            return [name.decode() for name in os.read(events, 1 << 16).split(b"\0") if name.endswith(b".mp4")]
        return []

    yield opened
    os.close(events)


def run(index: Path, folder: Path, seconds: float) -> tuple[int, str, float]:
    """Add the folder; returns exit status, what was said on stderr and how long it took."""
    command = [sys.executable, "-m", "momentret", "index", "add", str(index), str(folder), "--encoder", "fake"]
    command += ["--clip-length", str(CLIP), "--workers", "2", "--threads", "1", "--time-limit", "20"]
    command = [*(WEAKER if may_be_weaker() else []), *command, "--memory-limit", "1024"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(index.parent), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=index.parent,
            capture_output=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return -1, f"still running after {seconds:g} s", seconds
    return done.returncode, done.stderr.decode("utf-8", "backslashreplace"), time.monotonic() - began


def may_be_weaker() -> bool:
    """Tell whether the command can be run without root's right to read everything."""
    return os.geteuid() == 0 and shutil.which("setpriv") is not None


def left_over(mark: str) -> int:
    """Count the processes that a run left behind; 0 where the system does not tell."""
    count = 0
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            count += f"HOME={mark}".encode() in file.read_bytes().split(b"\0")
    return count


def judge(case: Case, clips: dict[str, int], reasons: dict[str, str]) -> str | None:
    """Return what is wrong about what became of a file; None if nothing is."""
    path = str(case.path)
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    count, reason = clips.get(path), reasons.get(shown)
    fine = {
        "good": count == GOOD_CLIPS,
        "bad": count is None and bool(reason),
        "either": (count or 0) > 0 or bool(reason),
        "ignored": count is None and reason is None,
    }
    return None if fine[case.fate] else f"{shown!r}, {case.fate}: {count} clips, reason {reason!r}"


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of everything below a folder."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def campaign(work: Path, cuts: int, seconds: float) -> dict[str, Any]:
    """Run it in an empty folder and return what was found."""
    outside, home = work / "outside", work / "home"
    for folder in (outside, home, work / "made"):
        folder.mkdir()
    films = sources(work / "made")
    (outside / "secret.mp4").write_bytes(films["mp4"])
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    unreadable = os.geteuid() != 0 or may_be_weaker()
    cases = fill(home / "in", outside, films, server.getsockname()[1], cuts, unreadable)
    before, index = snapshot(work / "outside") | snapshot(home / "in"), home / "index"
    with watched(outside) as opened:
        status, said, took = run(index, home / "in", seconds)
        again, _, took_again = run(index, home / "in", seconds)
        touched = opened()
    problems = [] if (status, again) == (0, 0) else [f"exit status {status}, then {again}: {said[-2000:]}"]
    problems += ["a traceback"] * ("Traceback" in said)
    with CorpusIndex.open(index) as found:
        clips = {video.path: len(found.clips(video.video_id)) for video in found.videos()}
        found.verify()
    reasons = {row.path: row.error for row in Quarantine(index).all()}
    problems += [problem for case in cases if (problem := judge(case, clips, reasons))]
    problems += [f"{left_over(str(home))} processes were left"] * bool(left_over(str(home)))
    problems += [f"opened outside: {name}" for name in touched or ()]
    problems += ["a file was changed"] * (snapshot(work / "outside") | snapshot(home / "in") != before)
    problems += ["a command was run"] * any(work.rglob("pwned"))
    with suppress(BlockingIOError):
        problems.append(f"the server was asked by {server.accept()[1]}")
    server.close()
    return {
        "files": len(cases),
        **Counter(case.fate for case in cases),
        "indexed": len(clips),
        "quarantined": len(reasons),
        "watched": touched is not None,
        "unreadable": unreadable,
        "seconds": round(took, 1),
        "seconds_again": round(took_again, 1),
        "problems": problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=10, help="truncations and corruptions of each container")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long a run may take")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = campaign(Path(folder), arguments.cuts, arguments.seconds)
    print(json.dumps(result, ensure_ascii=False))
    return int(bool(result["problems"]))


if __name__ == "__main__":
    sys.exit(main())
