#!/usr/bin/env python
"""Random reads of a whole data set: our packed store against `numpy.load` on the folder of .npz files.

    scripts/bench_features.py                       makes 8,619 videos x 75 x 512 float16 in a temporary folder
    scripts/bench_features.py --folder clip_features/       takes a folder of <vid>.npz that is there

Both sides read every video once a round, in the same random order, and add up all its bytes as 64-bit integers, so that
every byte is really fetched. Rounds alternate; reported are medians. A second table adds the conversion to
float32, which both sides pay alike. Memory: anonymous pages (RssAnon) are copies, file pages (RssFile) are the page
cache that all processes share.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from momentret.features import PackedSource
from momentret.features.folder import FolderSource
from momentret.features.layouts import Family
from momentret.features.packed import write_family

Read = Callable[[str], np.ndarray]
Touch = Callable[[np.ndarray], object]


def make_folder(folder: Path, videos: int, clips: int, dimension: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(videos):
        np.savez(folder / f"video_{i:05d}.npz", features=rng.standard_normal((clips, dimension)).astype(np.float16))


def sum_bytes(rows: np.ndarray) -> object:
    return rows.reshape(-1).view(np.uint64).sum()


def convert(rows: np.ndarray) -> object:
    return rows.astype(np.float32)


def read_all(read: Read, touch: Touch, ids: list[str]) -> tuple[float, float]:
    """Return CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    for item_id in ids:
        touch(read(item_id))
    return time.process_time() - cpu, time.perf_counter() - wall


def memory(kind: str) -> float:
    """Return megabytes of this process: ``RssAnon`` or ``RssFile``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(kind)), float("nan"))


def compare(readers: dict[str, Read], touch: Touch, ids: list[str], rounds: int, size: float) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        order = [ids[i] for i in rng.permutation(len(ids))]
        for name, read in readers.items():
            times[name].append(read_all(read, touch, order))
    slow = times["numpy.load"]
    print(f"  {'':24} {'CPU s':>8} {'wall s':>8} {'us/video':>9} {'GB/s':>7} {'ratio CPU':>10} {'ratio wall':>11}")
    for name, pairs in times.items():
        cpu, wall = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [statistics.median(own[i] / other[i] for own, other in zip(slow, pairs, strict=True)) for i in (0, 1)]
        print(
            f"  {name:24} {cpu:8.3f} {wall:8.3f} {cpu / len(ids) * 1e6:9.1f} {size / cpu / 1e9:7.2f} "
            f"{ratios[0]:10.1f} {ratios[1]:11.1f}"
        )


def bench(folder: Path, packed: Path, rounds: int) -> None:
    start = time.process_time()
    family = Family(("{vid}.npz",), ("features",))
    source = FolderSource.open(folder, "clip", family)
    assert source is not None
    ids = source.ids()
    write_family(packed, source.manifest, ((item_id, source.read(item_id)) for item_id in ids))
    print(f"packed {len(ids):,} videos in {time.process_time() - start:.1f} CPU-s")
    opening = [_seconds(lambda: PackedSource.load(packed)) for _ in range(5)]
    print(f"opening the store: {statistics.median(opening) * 1e3:.1f} ms of CPU")

    gc.collect()
    store = PackedSource.load(packed)
    before = memory("RssAnon"), memory("RssFile")
    first = read_all(store.read, sum_bytes, ids)
    size = float((packed / "rows.npy").stat().st_size)
    print(
        f"first pass over {size / 1e6:.0f} MB: {first[0]:.3f} CPU-s (page faults included), "
        f"RssAnon +{memory('RssAnon') - before[0]:.1f} MB, RssFile +{memory('RssFile') - before[1]:.1f} MB"
    )

    def load(item_id: str) -> np.ndarray:
        with np.load(folder / f"{item_id}.npz", allow_pickle=False) as file:
            return file["features"]

    def mapped_afresh(item_id: str) -> np.ndarray:
        return fresh[0].read(item_id)

    fresh = [store]
    readers: dict[str, Read] = {"numpy.load": load, "checked reader (.npz)": source.read, "packed": store.read}
    print(f"read and add up every byte, median of {rounds} rounds in random order:")
    compare(readers, sum_bytes, ids, rounds, size)
    print(f"read and convert to float32, median of {rounds} rounds:")
    compare(readers, convert, ids, rounds, size)

    cold = []
    for _ in range(rounds):
        fresh[0] = PackedSource.load(packed)  # a new map: every page is faulted in again
        cold.append(read_all(mapped_afresh, sum_bytes, ids)[0] / len(ids) * 1e6)
    print(f"packed, a new map each round (page faults included): {statistics.median(cold):.1f} us/video")


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder of <vid>.npz with the key 'features'; default: make one")
    parser.add_argument("--videos", type=int, default=8619)
    parser.add_argument("--clips", type=int, default=75)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--temporary", type=Path, help="where to put the stores; they are deleted afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.temporary) as name:
        folder = options.folder
        if folder is None:
            folder = Path(name) / "clip_features"
            make_folder(folder, options.videos, options.clips, options.dimension)
        bench(folder, Path(name) / "packed", options.rounds)


if __name__ == "__main__":
    main()
