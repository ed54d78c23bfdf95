"""The working process: jobs come in on stdin, frames and results go out on stdout; `process` is the other end.

A job is one line of JSON. The answer is a row of messages, each a line of JSON, followed by the bytes of the image
where it names a shape. Nothing is pickled: the process has read strangers' files, and what it says is data only.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from momentret.errors import ConfigError, DataError
from momentret.video.cuts import Cut
from momentret.video.cutting import cut_video
from momentret.video.decoders import sample_frames
from momentret.video.probe import probe
from momentret.video.sampling import DecodeReport, Sampling

__all__ = ["main"]

MAX_FRAMES = 500_000  # per video: 11 days at one frame every 2 s; timestamps of a damaged file can claim any time
HEARTBEAT = 0.2  # s between messages that say how far a cut has come

MAX_STILL = 12 * 3600.0  # s that one picture may stay on the screen; a recording of a desk at night does for hours


def main() -> None:
    """Answer jobs until stdin ends, then leave at once: also in the middle of a job, when the parent has gone."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not get between the messages
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        _answer(jobs.get(), out)


def _read_jobs(jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        jobs.put(json.loads(line))
    os._exit(0)


def _answer(job: dict[str, Any], out: IO[bytes]) -> None:
    _limit_memory(job["memory"])
    try:
        TASKS[job["task"]](job, out)
    except BrokenPipeError:
        os._exit(1)
    except (ConfigError, DataError) as error:
        _send(out, {"error": str(error), "type": type(error).__name__})
    except MemoryError:
        _send(out, {"error": f"{job['path']!r} needs more than {job['memory'] >> 20} MiB to decode", "type": "memory"})
    except Exception as error:  # noqa: BLE001  whatever a library raises costs this file only
        _send(out, {"error": f"{job['path']!r}: the decoder failed ({type(error).__name__}: {error})", "type": "crash"})


def _limit_memory(size: int) -> None:
    """Keep this process below `size` bytes of address space, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def _decode(job: dict[str, Any], out: IO[bytes]) -> None:
    report, sent = DecodeReport(), None
    _send(out, {"declared": probe(Path(job["path"])).duration})
    times = job["sampling"].pop("times")
    sampling = Sampling(**job["sampling"], times=None if times is None else tuple(times))
    for number, frame in enumerate(sample_frames(Path(job["path"]), sampling, job["decoder"], report), start=1):
        if number > MAX_FRAMES:
            raise DataError(f"{job['path']!r} lasts longer than {MAX_FRAMES:,} frames; are its timestamps damaged?")
        if frame.wanted - frame.time > MAX_STILL:
            raise DataError(
                f"{job['path']!r} shows one picture for more than {MAX_STILL / 3600:g} hours; are its times damaged?"
            )
        message: dict[str, Any] = {"wanted": frame.wanted, "time": frame.time}
        if frame.image is sent:
            _send(out, message)
        else:
            _send(out, {**message, "shape": frame.image.shape}, frame.image.reshape(-1).data)
        sent = frame.image
    _send(out, {"report": asdict(report)})


def _probe(job: dict[str, Any], out: IO[bytes]) -> None:
    info = asdict(probe(Path(job["path"])))
    del info["path"]  # the parent knows it
    _send(out, {"info": info})


def _cut(job: dict[str, Any], out: IO[bytes]) -> None:
    said = time.monotonic()

    def reached(seconds: float, total: float) -> None:
        nonlocal said
        if time.monotonic() > said + HEARTBEAT:
            said = time.monotonic()
            _send(out, {"time": seconds, "total": total})

    _send(out, {"cut": asdict(cut_video(Path(job["path"]), Cut(**job["cut"]), reached))})


def _send(out: IO[bytes], message: dict[str, Any], content: memoryview | bytes = b"") -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.write(content)
    out.flush()


TASKS = {"probe": _probe, "decode": _decode, "cut": _cut}


if __name__ == "__main__":
    main()
