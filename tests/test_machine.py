"""Memory that a process frees stays with it, and work on one thread leaves the others as they were."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch
from threadpoolctl import threadpool_info

from momentret.machine import on_one_thread

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


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads() -> tuple[int, list[int]]:
    """Return the threads of torch and of every BLAS."""
    return torch.get_num_threads(), [row["num_threads"] for row in threadpool_info() if row["user_api"] == "blas"]


def test_work_on_one_thread_leaves_the_others_as_they_were(two_threads: None) -> None:
    before = threads()
    assert before[0] == 2
    inside = []

    @on_one_thread()
    def fails() -> None:
        with on_one_thread():
            inside.append(threads())
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside == [(1, [1] * len(before[1]))]
    assert threads() == before


def test_who_is_done_first_takes_no_threads_from_the_others(two_threads: None) -> None:
    before = threads()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(on_one_thread())
        second.enter_context(on_one_thread())
        first.close()
        assert set(threads()[1]) <= {1}
    assert threads()[1] == before[1]
