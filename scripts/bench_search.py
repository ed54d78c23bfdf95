#!/usr/bin/env python3
"""Measure corpus search: CPU time and recall against exact symmetric Chamfer, beside other systems in the same run.

    python scripts/bench_search.py --videos 10000 --queries 200 --systems exact,torch,faiss,lancedb --plot recall.png
    python scripts/bench_search.py --videos 100000 --queries 60 --device cuda --systems torch --workers 8 --skip-upkeep

Data are generated (seeded): topics, videos of 2 to 5 scenes, queries that are noisy clips of a random window. Recall@10
counts, against exact 32-bit scores of everything: `strict` the best window of each of ten videos, `raw` the ten best
windows whatever video they are of, `videos` the ten best videos as wholes. Other systems are measured twice: with their
own ranking, and with their hundred best videos given our exact scoring. Systems take turns, query by query, forwards
and backwards, so that a busy machine slows all alike; CPU milliseconds are what to compare, with OMP_NUM_THREADS set
for all. Systems that are not installed are skipped and said so, and all but ours with --clips: they are given videos
of one length. With --folder, indexes and the truth are kept there and used again; a corpus that no memory holds is
scored whole with --streamed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from bench_search_data import CHUNK, CLIPS, DIM, KINDS, LENGTHS, TOP, Best, Corpus, Found, exact, truth_of
from bench_search_peers import PEERS, Retrieve, torch_exhaustive

from momentret.search.index import CorpusIndex, IndexSettings, SearchOptions


class Ours:
    """The index of this library."""

    def __init__(self, index: CorpusIndex, **options: Any) -> None:
        self.index, self.options = index, options

    def find(self, query: np.ndarray, **options: Any) -> Found:
        defaults: dict[str, Any] = {"top": TOP, "lengths": LENGTHS, "per_video": 1}
        chosen = SearchOptions(**defaults | self.options | options)
        hits = self.index.search(query, options=chosen).hits
        return [(int(h.video.video_id), round(h.start / 2), round((h.end - h.start) / 2)) for h in hits]

    def __call__(self, query: np.ndarray) -> Found:
        return self.find(query)

    def answers(self, query: np.ndarray, found: Found) -> dict[str, Found]:
        raw = self.find(query, per_video=TOP, overlap=1.0)
        return {"strict": found, "raw": raw, "videos": self.find(query, level="video")}


class Exhaustive:
    """A search that returns the best windows of videos."""

    def __init__(self, search: Callable[[np.ndarray], Found]) -> None:
        self.search = search

    def __call__(self, query: np.ndarray) -> Found:
        return self.search(query)

    def answers(self, query: np.ndarray, found: Found) -> dict[str, Found]:
        return {"strict": found}


class Alone:
    """Another system, by its own ranking of whole videos."""

    def __init__(self, retrieve: Retrieve) -> None:
        self.retrieve = retrieve

    def __call__(self, query: np.ndarray) -> np.ndarray:
        return self.retrieve(query)[:TOP]

    def answers(self, query: np.ndarray, found: np.ndarray) -> dict[str, Found]:
        return {"videos": [(int(video), 0, CLIPS) for video in found]}


class Reranked:
    """Another system's best hundred videos, given our exact scoring of all windows: what a fair user would do."""

    def __init__(self, retrieve: Retrieve, clips: np.ndarray) -> None:
        self.retrieve, self.clips = retrieve, clips

    def __call__(self, query: np.ndarray) -> Best:
        videos = np.unique(self.retrieve(query))
        return exact(query, self.clips[videos], videos)

    def answers(self, query: np.ndarray, found: Best) -> dict[str, Found]:
        return {kind: found.found(kind) for kind in KINDS}


def cpu() -> float:
    """Return the CPU seconds of this process and the children it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def built_index(folder: Path, corpus: Corpus) -> dict[str, Any]:
    """Build our index in a process of its own, unless it is there, and return what that took."""
    report = folder / f"index-{corpus.name}.json"
    if not report.exists():
        shutil.rmtree(folder / f"index-{corpus.name}", ignore_errors=True)
        command = [sys.executable, __file__, "--build-in", str(folder), *sys.argv[1:]]
        report.write_text(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return json.loads(report.read_text())


def build(folder: Path, corpus: Corpus, compact: bool) -> dict[str, float]:
    begin, wall, generating = cpu(), time.perf_counter(), 0.0

    def records() -> Iterator[Any]:  # making the data is not building
        nonlocal generating
        videos, start = corpus.records(), cpu()
        for video in videos:
            generating += cpu() - start
            yield video
            start = cpu()

    with CorpusIndex.create(folder, IndexSettings(dim=DIM)) as index:
        index.add_many(records())
        if compact:
            index.compact()
    return {
        "build_cpu_s": cpu() - begin - generating,
        "build_wall_s": time.perf_counter() - wall,
        "generating_cpu_s": generating,
        "build_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def milliseconds(action: Callable[[], Any], times: int = 1) -> dict[str, float]:
    walls, cpus = [], []
    for _ in range(times):
        begin, wall = cpu(), time.perf_counter()
        action()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (cpu() - begin))
    return {"cpu": float(np.median(cpus)), "wall": float(np.median(walls))}


def evict(folder: Path) -> None:
    """Ask the system to forget the files of an index."""
    for path in folder.rglob("*.bin"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def upkeep(folder: Path, corpus: Corpus, queries: Sequence[np.ndarray]) -> dict[str, Any]:
    """Measure opening, a first search, searches that find nothing cached, batches, and adding to a copy."""
    report: dict[str, Any] = {"open": milliseconds(lambda: CorpusIndex.open(folder).close(), 5)}

    def first_search() -> None:
        evict(folder)
        with CorpusIndex.open(folder) as index:
            Ours(index)(queries[0])

    report["first_search_uncached"] = milliseconds(first_search, 3)
    with CorpusIndex.open(folder) as index:
        ours, cold = Ours(index), []
        ours(queries[0])
        for query in queries[:20]:
            evict(folder)
            cold.append(milliseconds(lambda query=query: ours(query)))
        report["search_uncached"] = {kind: float(np.median([c[kind] for c in cold])) for kind in ("cpu", "wall")}
        options = SearchOptions(top=TOP, lengths=LENGTHS, per_video=1)
        batch = [(query, None) for query in (list(queries) * 32)[:32]]
        took = milliseconds(lambda: index.search_batch(batch, options), 3)
        report["batch_of_32_a_query"] = {kind: value / 32 for kind, value in took.items()}
        report["batch_of_32_per_second"] = 32e3 / took["wall"]
    copy = folder.with_name(folder.name + "-copy")
    shutil.copytree(folder, copy, copy_function=lambda a, b: (os.link if a.endswith(".bin") else shutil.copy)(a, b))
    with CorpusIndex.open(copy, "rw") as index:
        more = Corpus(10**9)
        new = iter([(video, more.clips(10**8 + i)) for i, (video, _) in zip(range(20), corpus.records(), strict=False)])

        def add() -> None:
            video, clips = next(new)
            index.add(type(video)(f"new {video.video_id}", video.path, video.content_hash, 2.0 * CLIPS, 2.0), clips)

        report["add"] = milliseconds(add, 20)
        report["remove"] = milliseconds(lambda: index.remove([next(index.videos()).video_id]), 5)
    report["replay_of_the_log"] = milliseconds(lambda: CorpusIndex.open(copy).close(), 3)
    shutil.rmtree(copy)
    return report


def measure(systems: dict[str, Any], queries: Sequence[np.ndarray], truth: Sequence[Best]) -> dict[str, Any]:
    """Run the systems in turns and return the milliseconds and the recall of each."""
    times: dict[str, list[dict[str, float]]] = defaultdict(list)
    shares: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in systems}
    for number, (query, best) in enumerate(zip(queries, truth, strict=True)):
        for name in list(systems) if number % 2 == 0 else reversed(systems):
            found: list[Any] = []
            times[name].append(
                milliseconds(lambda name=name, query=query, into=found: into.append(systems[name](query)))
            )
            for kind, answer in systems[name].answers(query, found[0]).items():
                shares[name][kind].append(len(set(answer) & set(best.found(kind))) / TOP)
    return {
        name: {
            f"{kind}_ms": {f"p{p}": float(np.percentile([row[kind] for row in rows], p)) for p in (50, 95)}
            for kind in ("cpu", "wall")
        }
        | {"recall": {kind: float(np.mean(share)) for kind, share in shares[name].items()}}
        for name, rows in times.items()
    }


def streamed(corpus: Corpus, queries: Sequence[np.ndarray]) -> dict[str, float]:
    """Return what scoring everything in torch takes, with clips made on the way: of a corpus that no memory holds."""
    sums = np.zeros((len(queries), 2))
    for begin in range(0, corpus.videos, CHUNK):
        search = torch_exhaustive(np.stack(corpus.chunk(begin)))
        sums += [list(milliseconds(lambda query=query, search=search: search(query)).values()) for query in queries]
    return dict(zip(("cpu", "wall"), np.median(sums, axis=0).tolist(), strict=True))


def source_ranks(ours: Ours, corpus: Corpus, queries: Sequence[np.ndarray]) -> dict[str, float]:
    """Return how well the window that each query was made from is found among a hundred moments."""
    report, ranks = {}, {0.5: [], 0.7: []}
    for number, query in enumerate(queries):
        video, begin, length = corpus.source(number)
        found = ours.find(query, top=100, candidates=200, per_video=10)
        for limit, ranked in ranks.items():
            inner = [
                (min(begin + length, first + n) - max(begin, first), n) if v == video else (0, n)
                for v, first, n in found
            ]
            hits = [i for i, (i_n, n) in enumerate(inner, 1) if i_n >= limit * (length + n - i_n)]
            ranked.append(hits[0] if hits else 101)
    for limit, ranked in ranks.items():
        report |= {f"R@{k} IoU {limit}": float(np.mean(np.array(ranked) <= k)) for k in (1, 10, 100)}
        report[f"MedR IoU {limit}"] = float(np.median(ranked))
    return report


def others(names: Sequence[str], clips: np.ndarray, kept: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Build, or open, the other systems that are installed; `report` gets what each took and takes."""
    found: dict[str, Any] = {}
    for name in names:
        own, note, begin = kept / f"{name}-{len(clips)}", kept / f"{name}-{len(clips)}.json", cpu()
        if not note.exists():
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir()
        try:
            retrieve = PEERS[name](clips, own, note.exists())
        except Exception as error:  # noqa: BLE001 - a peer that fails is reported, not fatal
            print(f"{name} is left out: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            continue
        if not note.exists():
            size = sum(path.stat().st_size for path in own.rglob("*") if path.is_file())
            took = {"build_cpu_s": cpu() - begin, "bytes_per_clip": size / (len(clips) * CLIPS)}
            note.write_text(json.dumps(took))
        report[name] = json.loads(note.read_text())
        print(f"{name}: {report[name]}", file=sys.stderr)
        found |= {f"{name} alone": Alone(retrieve), f"{name} + exact": Reranked(retrieve, clips)}
    return found


def kept_clips(folder: Path, corpus: Corpus, workers: int) -> np.ndarray:
    """Return the clips ``(N, 30, 512)`` of all videos, in a file."""
    path = folder / f"clips-{corpus.name}.npy"
    if not path.exists():
        out = np.lib.format.open_memmap(path, "w+", np.float32, (corpus.videos, CLIPS, DIM))
        with ProcessPoolExecutor(workers) as pool:
            for number, part in enumerate(pool.map(corpus.chunk, range(0, corpus.videos, CHUNK))):
                out[number * CHUNK : number * CHUNK + len(part)] = part
        out.flush()
    return np.load(path, mmap_mode="c")


def plot(systems: dict[str, Any], title: str, path: Path) -> None:
    """Draw recall against CPU time: a line for our candidates, a point for each other system."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    ours = [(row["cpu_ms"]["p50"], row["recall"]["strict"], name) for name, row in systems.items() if "C=" in name]
    axes.plot(*zip(*[point[:2] for point in ours], strict=True), "o-", label="momentret, C candidates")
    for x, y, name in ours:
        axes.annotate(name.rpartition("C=")[2], (x, y), textcoords="offset points", xytext=(0, -13), ha="center")
    for name, row in systems.items():
        if "C=" not in name and "strict" in row["recall"]:
            axes.plot(row["cpu_ms"]["p50"], row["recall"]["strict"], "s", label=name)
    axes.set(
        xscale="log", xlabel="CPU milliseconds a query (median)", ylabel="recall@10, one moment a video", title=title
    )
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "125" else "")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--warm", type=int, default=20, help="untimed queries before")
    parser.add_argument("--noise", type=float, default=2.0, help="of the tokens: 2 standard, 4 hard")
    parser.add_argument("--no-scenes", action="store_true", help="videos that drift instead of being cut")
    parser.add_argument("--drift", type=float, default=0.8, help="correlation of neighbouring clips' noise")
    parser.add_argument(
        "--clips", type=int, nargs=2, metavar=("MIN", "MAX"), help="a video, log-uniform; 30 by default"
    )
    parser.add_argument("--systems", default="exact,certified,torch,faiss,qdrant,lancedb,plaid")
    parser.add_argument("--candidates", default="20,50,100,200,500", help="of our first stage")
    parser.add_argument("--first-stages", default="pooled")
    parser.add_argument("--folder", type=Path, help="where indexes and the truth are kept; temporary by default")
    parser.add_argument("--device", default="cpu", help="also measure our first stage and torch there, such as cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that make the data")
    parser.add_argument("--build-only", action="store_true", help="make what --folder keeps, and stop")
    parser.add_argument("--streamed", type=int, default=0, help="queries that torch answers from clips made on the way")
    parser.add_argument("--skip-compact", action="store_true", help="leave the segments as they came: half the disk")
    parser.add_argument("--skip-upkeep", action="store_true", help="measure searching only")
    parser.add_argument("--plot", type=Path, help="PNG of recall against CPU time")
    parser.add_argument("--build-in", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.clips and not LENGTHS[-1] <= arguments.clips[0] <= arguments.clips[1]:
        parser.error(f"--clips takes two numbers, ascending, of at least {LENGTHS[-1]}")
    return arguments


def main() -> None:
    arguments = parse()
    least, most = arguments.clips or (CLIPS, CLIPS)
    corpus = Corpus(arguments.videos, not arguments.no_scenes, arguments.drift, arguments.noise, (least, most))
    if arguments.build_in:
        made = arguments.build_in / f"clips-{corpus.name}.npy"
        corpus.made = np.load(made, mmap_mode="r") if made.exists() else None
        folder = arguments.build_in / f"index-{corpus.name}"
        print(json.dumps(build(folder, corpus, not arguments.skip_compact)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        kept = arguments.folder or Path(scratch)
        kept.mkdir(parents=True, exist_ok=True)
        print(json.dumps(report_of(arguments, corpus, kept), indent=1))


def systems_of(
    arguments: argparse.Namespace, index: CorpusIndex, clips: np.ndarray | None, kept: Path, report: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that takes turns."""
    names, device = [name for name in arguments.systems.split(",") if name], arguments.device
    systems: dict[str, Any] = {
        f"{stage} C={count}": Ours(index, candidates=int(count), first_stage=stage)
        for stage in arguments.first_stages.split(",")
        for count in arguments.candidates.split(",")
    }
    if device != "cpu":
        systems[f"pooled on {device}"] = Ours(index, device=device)
    systems |= {n: Ours(index, exact=True if n == "exact" else n) for n in names if n in ("exact", "certified")}
    if clips is not None and "torch" in names:
        systems[f"torch on {device}"] = Exhaustive(torch_exhaustive(clips, device))
    if clips is not None:
        systems |= others([name for name in names if name in PEERS], clips, kept, report)
    return systems


def report_of(arguments: argparse.Namespace, corpus: Corpus, kept: Path) -> dict[str, Any]:
    needed = {"torch", *PEERS} & set(arguments.systems.split(","))
    if needed and arguments.clips:
        print(f"left out: {', '.join(sorted(needed))}; they are given videos of one length only", file=sys.stderr)
        needed = set()
    clips = corpus.made = kept_clips(kept, corpus, arguments.workers) if needed else None
    report: dict[str, Any] = {"build": built_index(kept, corpus), "peers": {}}
    queries = [corpus.query(number) for number in range(arguments.queries)]
    warm = [corpus.query(10**6 + number) for number in range(arguments.warm)]
    truth = truth_of(corpus, queries, kept / f"truth-{corpus.name}-{corpus.noise}-{len(queries)}.npz")
    folder = kept / f"index-{corpus.name}"
    with CorpusIndex.open(folder) as index:
        systems = systems_of(arguments, index, clips, kept, report["peers"])
        if arguments.build_only:
            return report
        for search in systems.values():
            for query in warm:
                search(query)
        report["systems"] = measure(systems, queries, truth)
        if arguments.streamed:
            report["torch_streamed_ms"] = streamed(corpus, queries[: arguments.streamed])
        report["source"] = source_ranks(Ours(index), corpus, queries)
        stats = index.stats()
        report["clips"] = stats.clips
        report["bytes_per_clip"] = {
            "first_stage": stats.first_stage_bytes / stats.clips,
            "clips": stats.clip_bytes / stats.clips,
            "files": sum(path.stat().st_size for path in folder.rglob("*")) / stats.clips,
        }
    report |= {} if arguments.skip_upkeep else upkeep(folder, corpus, queries)
    if arguments.plot:
        plot(report["systems"], f"{corpus.videos:,} videos, {report['clips']:,} clips", arguments.plot)
    return report | {
        "videos": corpus.videos,
        "queries": len(queries),
        "noise": arguments.noise,
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "machine": machine(arguments.device),
        "load": os.getloadavg(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def machine(device: str) -> str:
    """Return what this ran on."""
    place = f"{platform.machine()}, {os.cpu_count()} processors"
    if device.startswith("cuda"):
        import torch

        place += f", {torch.cuda.get_device_name(device)}"
    return place


if __name__ == "__main__":
    main()
