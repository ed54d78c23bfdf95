#!/usr/bin/env python3
"""Normalise a matrix that does not fit into memory: time, memory, and the result beside the one from memory.

    python scripts/bench_hubness_disk.py --folder /big/disk --size 100000

One file of `--size` × `--size` float32 (40 GB at 100,000) is written, read as the bank, then read again as the
similarities and corrected in place: a bank of its own would be read alike, but takes another 40 GB of disk. Some rows
and columns are kept in memory while the file is made; after the run, corrected rows from the file are compared with
what `methods.inverted_softmax` makes of them in memory. The file is deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SAMPLED = 32  # rows and columns
BLOCK = 256  # rows made at once


def make(path: Path, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Write the matrix; returns sampled row and column numbers, those rows, and those columns."""
    random = np.random.default_rng(0)
    hubs = (0.2 + 0.02 * random.standard_normal(size)).astype(np.float32)
    rows, columns = (np.sort(random.choice(size, SAMPLED, replace=False)) for _ in range(2))
    own = np.empty((size, SAMPLED), np.float32)
    kept = np.empty((SAMPLED, size), np.float32)
    pool = (0.05 * random.standard_normal((BLOCK, size + 9973), dtype=np.float32)).astype(np.float32)
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (size, size)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, size, BLOCK):
            offset = int(random.integers(9973))
            block = pool[random.permutation(BLOCK)[: size - start], offset : offset + size] + hubs
            own[start : start + len(block)] = block[:, columns]
            inside = (rows >= start) & (rows < start + len(block))
            kept[inside] = block[rows[inside] - start]
            file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())
    return rows, columns, kept, own


def child(path: Path, method: str, threads: int) -> None:
    """Fit and correct in place; prints seconds, CPU seconds, peak memory and the temperature."""
    import torch

    from momentret.search.hubness.normaliser import HubnessNormaliser

    torch.set_num_threads(threads)
    start, cpu = time.monotonic(), time.process_time()
    hub = HubnessNormaliser(method=method, shrink=1.0).fit(np.load(path, mmap_mode="r"))
    fitted = time.monotonic()
    matrix = np.load(path, mmap_mode="r+")
    hub.transform(matrix, out=matrix)
    matrix.flush()
    found = {
        "fit_seconds": fitted - start,
        "apply_seconds": time.monotonic() - fitted,
        "cpu_seconds": time.process_time() - cpu,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "beta": hub.facts.beta_query,
    }
    print(json.dumps(found))


def compare(path: Path, sample: tuple[np.ndarray, ...], beta: float) -> float:
    """Return the largest difference of the sampled rows from their correction in memory, a constant a row aside."""
    from momentret.search.hubness import methods

    rows, columns, kept, own = sample
    expected = methods.inverted_softmax(kept[:, columns].astype(np.float64), own.astype(np.float64), beta) / beta
    found = np.load(path, mmap_mode="r")[rows][:, columns].astype(np.float64)
    gaps = found - expected
    return float(np.abs(gaps - gaps.mean(1, keepdims=True)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="on a disk with room for the matrix")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--method", default="is")
    parser.add_argument("--threads", type=int, default=1, help="more are slower where others use the cores")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.method, options.threads)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "similarities.npy"
        start = time.monotonic()
        sample = make(path, options.size)
        print(f"made {path.stat().st_size / 1e9:.1f} GB in {time.monotonic() - start:.0f} s", file=sys.stderr)
        command = [sys.executable, __file__, "--folder", name, "--method", options.method, "--child", str(path)]
        done = subprocess.run([*command, "--threads", str(options.threads)], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        found |= {"size": options.size, "largest_difference": compare(path, sample, found["beta"])}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
