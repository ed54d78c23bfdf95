"""What several test files share."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from momentret import cli

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"
"""Real annotations and large goldens for development; tests that use it skip when it is absent."""


def momentret(*arguments: object) -> int:
    """Run the command line in this process; returns the exit status (output: pytest's capsys)."""
    return cli.run([str(argument) for argument in arguments])


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines, NaN allowed: tests need bad files too."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return as soon as a condition holds; fail if that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.005)


def make_unlistable(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let listing a folder fail as a broken disk does; permissions would not stop root."""
    listing = os.scandir

    def scandir(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path) == folder:  # rmtree gives numbers
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return listing(path)

    patch.setattr(os, "scandir", scandir)
