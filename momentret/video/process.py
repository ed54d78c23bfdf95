"""A child process for strangers' files: a crash, a hang or a memory bomb costs one file and nothing else."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from momentret.errors import ConfigError, DataError
from momentret.video.probe import VideoInfo

__all__ = ["IsolatedProcess", "Limits", "Patience"]

SLOWEST = 20.0  # s of waiting that a second of video may cost; 8K on a busy core needs about 8
MAX_HEADER = 1 << 16

Process = TypeVar("Process", bound="IsolatedProcess")


@dataclass(frozen=True)
class Limits:
    """What one video may cost."""

    seconds: float = 60.0
    """Longest wait for the next frame."""
    memory: int = 4 << 30
    """Bytes of address space of the decoding process (Linux and other systems that can limit it)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ConfigError(f"time limit is {self.seconds} s, expected a positive number of seconds")
        if self.memory < 256 << 20:
            raise ConfigError(f"memory limit is {self.memory >> 20} MiB, expected at least 256")


class IsolatedProcess:
    """Runs jobs of `momentret.video.worker` one after the other, in a process that is started again when one kills it.

    Use it from one thread, as a context manager; only `abort` may come from another.
    """

    _command = (sys.executable, "-m", "momentret.video.worker")

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None
        self._late = False

    def probe(self, path: Path) -> VideoInfo:
        """Do what `momentret.video.probe` would, in the child process.

        Raises:
            DataError: the header cannot be read, or crashed the process or went past a limit.
        """
        self._ask(path, "probe")
        return VideoInfo(path, **self._conclude(self._receive(path, Patience(self.limits.seconds)), "info"))

    def _ask(self, path: Path, task: str, **values: Any) -> None:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = self._start()
        job = {"task": task, "path": str(path), "memory": self.limits.memory, **values}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise DataError(f"{str(path)!r}: {self._epitaph()}") from error

    def _start(self) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._late = False
        return subprocess.Popen(  # noqa: S603  our own interpreter and module
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the parent, which ends this process in order
        )

    def _receive(self, path: Path, patience: Patience) -> dict[str, Any]:
        line = self._read(-1, patience)
        try:
            message = json.loads(line)
        except ValueError as error:
            raise DataError(f"{str(path)!r}: {self._epitaph()}") from error
        assert isinstance(message, dict)
        return message

    def _conclude(self, message: dict[str, Any], key: str) -> Any:
        """Return what the last message holds under `key`, or raise the error that it holds instead."""
        if key in message:
            return message[key]
        raise (ConfigError if message["type"] == "ConfigError" else DataError)(message["error"])

    def _read(self, size: int, patience: Patience) -> bytes:
        """Read a line (`size` -1) or `size` bytes; less if the process dies, or is killed when patience ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(patience.left, self._give_up, args=(self._process,))
        watchdog.daemon = True
        watchdog.start()
        began = time.monotonic()
        try:
            stdout = self._process.stdout
            return stdout.readline(MAX_HEADER) if size < 0 else stdout.read(size)
        finally:
            watchdog.cancel()
            watchdog.join()  # it may be killing: nothing of this read outlives it
            patience.waited += time.monotonic() - began

    def _give_up(self, process: subprocess.Popen[bytes]) -> None:
        self._late = True
        process.kill()

    def _epitaph(self) -> str:
        """Say why the process is no more; one that only said what is no message is ended."""
        assert self._process is not None
        self._process.kill()
        status = self._process.wait()
        if self._late:
            return f"no frame for {self.limits.seconds:g} s, or far slower than it plays; raise the time limit"
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"the decoding process died ({how}); the file is damaged or needs too much memory"

    def abort(self) -> None:
        """Kill the process from any thread; the thread that reads frames gets a `DataError`."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process; the next video starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self: Process) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Patience:
    """How long to wait: `seconds` for any one message, and altogether in proportion to what has been shown."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.waited, self._shown = seconds, 0.0, 0.0

    def reached(self, time: float) -> None:
        self._shown = max(self._shown, float(time))

    @property
    def left(self) -> float:
        return max(min(self.seconds, self.seconds + SLOWEST * self._shown - self.waited), 0.0)
