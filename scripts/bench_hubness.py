#!/usr/bin/env python3
"""Compare hubness normalisation with the official code, in one run: CPU time of one thread, memory, and results.

    git clone https://github.com/yimuwangcs/Better_Cross_Modal_Retrieval dbnorm
    git clone https://github.com/ioanacroi/qb-norm qbnorm
    python scripts/bench_hubness.py --dbnorm dbnorm --qbnorm qbnorm

A CLIP-like world gives queries, gallery and banks, `--size` of each. Every measurement is a process of its own that
loads its inputs, notes its memory, and runs once; the sides take turns. What the official code cannot do is repaired
here, from outside: `db_norm` never reads the test matrix, so its two factors are called on it as its paper states them,
each on its own copy where they write into their argument. Ours corrects in place, block by block.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

BETA_QUERY, BETA_GALLERY = 20.0, 3.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
METHODS = {"is": 6.0, "dis": 15.0, "dualis": 6.0, "dualdis": 15.0}  # and how many times less CPU is asked for
SHOWN = 200  # rows whose results are compared


def official(method: str, dbnorm: Path, qbnorm: Path) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return the authors' computation of a method, repaired as far as it has to be."""
    theirs = load(dbnorm / "DBNorm" / "dbnorm.py")
    if method == "is":
        return lambda S, P, R: theirs.IS(P, S, beta=BETA_QUERY)
    if method == "dis":
        qb = load(qbnorm / "dynamic_inverted_softmax.py")
        return lambda S, P, R: qb.qb_norm(P, S, {"k": 1, "beta": BETA_QUERY})
    if method == "dualis":
        return lambda S, P, R: theirs.IS(P, S, beta=BETA_QUERY) * theirs.IS(R, S, beta=BETA_GALLERY)
    return lambda S, P, R: theirs.qb_norm(P, S.copy(), beta=BETA_QUERY) * theirs.qb_norm(R, S, beta=BETA_GALLERY)


def load(path: Path) -> Any:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(method: str, published: bool) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    from momentret.search.hubness.normaliser import HubnessNormaliser

    values = {"beta_query": BETA_QUERY, "beta_gallery": BETA_GALLERY, "shrink": 1.0} if published else {}
    return lambda S, P, R: HubnessNormaliser(method=method, **values).fit(P, R).transform(S, out=S)


def matrices(side: str, method: str, folder: Path, dbnorm: Path, qbnorm: Path) -> dict[str, float]:
    """Measure one method on matrices in memory; keeps some rows of the result."""
    run = official(method, dbnorm, qbnorm) if side == "official" else ours(method, side == "ours")
    run(*(np.full((64, 64), 0.1, np.float32) + np.eye(64, dtype=np.float32) for _ in range(3)))
    names = ("S", "P", "R") if "dual" in method else ("S", "P", "P")
    found = measure(run, *(np.load(folder / f"{name}.npy") for name in names))
    np.save(folder / f"{side}-{method}.npy", found.pop("result")[:SHOWN])
    return found


def measure(run: Callable[..., Any], *inputs: Any) -> dict[str, Any]:
    before, start = resident(), time.process_time()
    result = run(*inputs)
    cpu = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": cpu, "megabytes": max(0.0, peak - before), "result": result}


def resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def embeddings(side: str, folder: Path) -> dict[str, float]:
    """Measure top-10 lists of dualdis from embeddings, or only the three products that they cannot do without."""
    import torch

    from momentret.search.hubness.normaliser import HubnessNormaliser
    from momentret.search.hubness.rows import ProductRows

    torch.set_num_threads(1)
    loaded = {name: np.load(folder / f"{name}.npy") for name in ("text", "video", "bank_text", "bank_video")}

    def products(*arrays: np.ndarray, block: int = 512) -> None:
        gallery = torch.from_numpy(arrays[1])
        out = torch.empty(block, len(gallery))
        for array in (arrays[0], *arrays[2:]):
            for rows in torch.from_numpy(array).split(block):
                torch.mm(rows, gallery.T, out=out[: len(rows)])

    def lists(text: np.ndarray, video: np.ndarray, bank_text: np.ndarray, bank_video: np.ndarray) -> Any:
        hub = HubnessNormaliser(method="dualdis").fit(ProductRows(bank_text, video), ProductRows(bank_video, video))
        return hub.search(ProductRows(text, video), 10)

    found = measure(lists if side == "ours" else products, *loaded.values())
    found.pop("result")
    return found


def make(folder: Path, size: int) -> None:
    """Write embeddings (512 numbers) and their similarities."""
    from momentret.search.hubness.simulation import WORLDS, World

    random = np.random.default_rng(1)
    world = World(replace(WORLDS["clip-like"], dimension=512), seed=0)
    arrays = dict(zip(("text", "video"), world.pairs(size, random), strict=True))
    arrays |= dict(zip(("bank_text", "bank_video"), world.pairs(size, random), strict=True))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    for name, rows in (("S", "text"), ("P", "bank_text"), ("R", "bank_video")):
        np.save(folder / f"{name}.npy", arrays[rows] @ arrays["video"].T)


def difference(folder: Path, method: str) -> tuple[float, int]:
    """Return the largest difference, in similarity units, over rows that both correct, and how many rows those are.

    The official result is exponentials without a constant per row, or raw similarities where a gate is closed.
    """
    scale = BETA_QUERY + (BETA_GALLERY if "dual" in method else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        theirs = np.log(np.load(folder / f"official-{method}.npy").astype(np.float64)) / scale
    own = np.load(folder / f"ours-{method}.npy").astype(np.float64)
    gaps = np.abs((own - own.mean(1, keepdims=True)) - (theirs - theirs.mean(1, keepdims=True))).max(1)
    open_rows = gaps < 1e-3  # where a gate is closed, logarithms of raw similarities are nowhere near
    return float(gaps[open_rows].max()), int(open_rows.sum())


def child(arguments: Sequence[str], options: argparse.Namespace, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", *arguments, "--folder", str(folder)]
    command += ["--dbnorm", str(options.dbnorm), "--qbnorm", str(options.qbnorm)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def middle(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dbnorm", type=Path, required=True, help="checkout of Better_Cross_Modal_Retrieval")
    parser.add_argument("--qbnorm", type=Path, required=True, help="checkout of qb-norm")
    parser.add_argument("--size", type=int, default=10_000, help="queries, gallery items, and rows of each bank")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over so many")
    parser.add_argument("--folder", type=Path, help="for the inputs, 1.3 GB [a temporary one]")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, what = options.child
        run = embeddings(side, options.folder) if what == "embeddings" else None
        print(json.dumps(run or matrices(side, what, options.folder, options.dbnorm, options.qbnorm)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        report(options, Path(name))


def report(options: argparse.Namespace, folder: Path) -> None:
    make(folder, options.size)
    jobs = [(side, method) for method in METHODS for side in ("official", "ours", "default")]
    jobs += [("products", "embeddings"), ("ours", "embeddings")]
    runs: dict[tuple[str, str], list[dict[str, float]]] = {job: [] for job in jobs}
    for _ in range(options.rounds):
        for job in jobs:
            runs[job].append(child(job, options, folder))
    found = {f"{side} {what}": middle(values) for (side, what), values in runs.items()}
    gaps = {method: difference(folder, method) for method in METHODS}
    if options.json:
        print(json.dumps({"size": options.size, "medians": found, "differences": gaps}, indent=2))
        return
    print(f"{options.size} queries × {options.size} items, banks of {options.size}; one thread, medians of", end=" ")
    print(f"{options.rounds}\n\n| from matrices | official | momentret | less | asked | with default settings |")
    print("|---|---|---|---|---|---|")
    for method, asked in METHODS.items():
        a, b, c = (found[f"{side} {method}"] for side in ("official", "ours", "default"))
        cells = [f"{x['cpu']:.2f} CPU-s, {x['megabytes']:.0f} MB" for x in (a, b, c)]
        print(f"| {method} | {cells[0]} | {cells[1]} | {a['cpu'] / b['cpu']:.1f}× | {asked:.0f}× | {cells[2]} |")
    for method, (gap, rows) in gaps.items():
        print(f"{method}: largest difference {gap:.1e} over {rows} of {SHOWN} rows")
    a, b = found["products embeddings"], found["ours embeddings"]
    print(f"from embeddings, dualdis, top 10: {b['cpu']:.2f} CPU-s, {b['megabytes']:.0f} MB;", end=" ")
    print(f"its three products alone: {a['cpu']:.2f} CPU-s; {b['cpu'] / a['cpu']:.2f}×, 1.3× is asked")


if __name__ == "__main__":
    main()
