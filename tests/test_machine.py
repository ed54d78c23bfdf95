"""Memory that a process frees stays with it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import sys
from pathlib import Path
import torch
from momentret.machine import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
parts = [torch.empty(3_000_000).fill_(1) for _ in range(4)]  # 12 MB each, as in a training step
del parts
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(("mode", "kept"), [("keep", True), ("leave", False)])
def test_what_a_step_frees_stays_with_the_process(mode: str, kept: bool) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 24_000_000) is kept
