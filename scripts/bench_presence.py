#!/usr/bin/env python3
"""Measure how well presence is told: half of the queries ask for what is not there (`--seeds 3`, some minutes).

    python scripts/bench_presence.py --sizes 1,3,20,200,1000 --noises 2,4,mixed

Planted corpora are those of `bench_search_data`: topics, videos of 2 to 5 scenes, queries that are noisy clips of a
window of a video, which is there or is not. `mixed` draws noise (0.5 to 4), gap and number of tokens (1 to 16) anew
for every query. A tenth of the background queries describe something that is there: nobody labels them. `films` are
rendered, decoded and indexed by the real pipeline, with the fake encoder. `moved` are queries about a video that is
there or is not, words and pictures (noisy clips), moved by turns towards words about the same video, towards words
about a video that is there, and away from words about one that is not (`--moved 20,200`).

Beside ours: the constant 0.5; the same calibration without the traits of the query; and the query's own scores, a
Gumbel law of the other videos' best moments (none below 16 videos); of moved queries, a background that is not moved.
AUROC, Brier score and expected calibration error, mean and standard deviation over seeds; then, for ours, how often it
was there by how sure it was.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from bench_search_data import CLIPS, DIM, Corpus, draw, unit

from momentret.encoders import FakeEncoder, QueryVectors
from momentret.encoders.fake import COLOURS
from momentret.extract import ExtractConfig
from momentret.search.borders import as_scored
from momentret.search.engine import SearchEngine
from momentret.search.index import CorpusIndex, IndexSettings, SearchOptions, Video
from momentret.search.indexing import open_index, plan_update
from momentret.search.presence import Calibration, Query, phrase_bank
from momentret.search.queries import combine

CONTAMINATION = 0.1
Asked = list[tuple[Query, bool]]
Results = dict[str, list[tuple[float, bool]]]


def draw_query(data: Corpus, video: int, seed: int, noise: str) -> np.ndarray:
    """Return tokens ``(T, 512)`` about a window of a video, which need not be in the corpus."""
    rng = np.random.default_rng([7, seed, video])
    clips = data.clips(video)
    mixed = noise == "mixed"
    tokens = int(rng.integers(1, 17)) if mixed else int(rng.integers(8, 17))
    strength, gap = (rng.uniform(0.5, 4), rng.uniform(0, 0.6)) if mixed else (float(noise), 0.3)
    length = int(rng.integers(1 if mixed else 3, 9))
    begin = int(rng.integers(CLIPS - length + 1))
    source = clips[begin + rng.integers(length, size=tokens)]
    return unit(source + strength * draw(rng, tokens) + gap * data.gap)


class PlantedEncoder(FakeEncoder):
    """Answers the texts of the phrase bank with planted vectors, nine tenths of them about absent videos."""

    def __init__(self, make: Callable[[int], np.ndarray]) -> None:
        super().__init__(DIM)
        self.make, self.numbers = make, {text: number for number, text in enumerate(phrase_bank())}

    def encode_query(self, query: str, tokens: str = "phrases") -> QueryVectors:
        rows = self.make(self.numbers[query])
        return QueryVectors(rows[0], rows, (query,) * len(rows))


def planted(folder: Path, size: int, noise: str, seed: int, queries: int) -> tuple[SearchEngine, Asked]:
    """Return an engine on a planted corpus and what to ask it."""
    data, first = Corpus(size), 10_000_000 * (seed + 1)
    path = folder / f"{size}-{seed}"
    if not path.exists():
        with CorpusIndex.create(path, IndexSettings(dim=DIM)) as index:
            index.add_many(
                (Video(str(i), f"/{i}", str(i), 2.0 * CLIPS, 2.0), data.clips(first + i)) for i in range(size)
            )
    rng = np.random.default_rng(seed)

    def background(number: int) -> np.ndarray:
        there = number < CONTAMINATION * len(phrase_bank())
        video = first + number % size if there else first + 5_000_000 + number
        return draw_query(data, video, 100 + seed, noise)

    asked: Asked = []
    for number in range(queries):
        there = number % 2 == 0
        video = first + (int(rng.integers(size)) if there else 6_000_000 + number)
        asked.append((Query("", draw_query(data, video, number, noise)), there))
    return SearchEngine(CorpusIndex.open(path), PlantedEncoder(background), refine=as_scored), asked


def moved(folder: Path, size: int, noise: str, seed: int, queries: int) -> tuple[SearchEngine, Asked]:
    """Return an engine on a planted corpus and queries that words move, to ask it."""
    engine, _ = planted(folder, size, noise, seed, 0)
    data, first, rng = Corpus(size), 10_000_000 * (seed + 1), np.random.default_rng(seed)
    asked: Asked = []
    for number in range(queries):
        there, way, pictured = number % 2 == 0, number // 2 % 3, number // 6 % 2 == 0
        video = first + (int(rng.integers(size)) if there else 6_000_000 + number)
        other = (video, video if there else first + int(rng.integers(size)), first + 7_000_000 + number)[way]
        words = [Query("", draw_query(data, other, 200 + seed, noise))]
        query = Query("", draw_query(data, video, number, noise))
        if pictured:
            clip = data.clips(video)[[rng.integers(CLIPS)]]
            query = Query("", unit(clip + float(noise) / 2 * draw(rng, 1)), "picture")
        asked.append((combine(query, (), words) if way == 2 else combine(query, words), there))
    return engine, asked


def judge_moved(engine: SearchEngine, asked: Asked) -> Results:
    """Return what is said of moved queries, and what would be if their background were not moved."""
    results: Results = defaultdict(list)
    for query, there in asked:
        results["constant"].append((0.5, there))
        results["not moved"].append((engine.search(replace(query, shift=None)).presence, there))
        results["ours"].append((engine.search(query).presence, there))
    return results


def render(path: Path, scenes: Sequence[Sequence[str]], rng: np.random.Generator) -> None:
    """Write a video of scenes of a second and a half: the first colour fills most of the picture, others the rest."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for main, *rest in scenes:
            image = np.full((48, 64, 3), COLOURS[main], np.uint8)
            for colour in rest:
                top, left = int(rng.integers(36)), int(rng.integers(44))
                image[top : top + 12, left : left + 20] = COLOURS[colour]
            for _ in range(15):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def films(folder: Path, size: int, seed: int) -> tuple[SearchEngine, Asked]:
    """Return an engine on rendered films that use five of ten colours, and questions about all ten."""
    rng, encoder = np.random.default_rng(seed), FakeEncoder()
    colours = list(rng.permutation(list(COLOURS)))
    used, path = colours[:5], folder / f"films-{size}-{seed}"
    path.mkdir()
    shown: set[str] = set()
    for number in range(size):
        scenes = [[str(c) for c in rng.choice(used, 3, replace=False)] for _ in range(3)]
        shown |= {main for main, *_ in scenes}
        render(path / f"{number}.mp4", scenes, rng)
    with open_index(path / "index", encoder, ExtractConfig(clip_length=0.5)) as index:
        list(plan_update(index, [path]).run(encoder))
    forms = ("{}", "a {} dog", "something {} in a garden", "a man holds a {} box, then leaves")
    there = sorted(shown)
    absent = colours[5 : 5 + len(there)]
    pairs = [(c, c in shown) for c in (*there, *absent)]
    engine = SearchEngine(CorpusIndex.open(path / "index"), encoder)
    return engine, [(engine.text(form.format(colour)), present) for colour, present in pairs for form in forms]


def judge(engine: SearchEngine, asked: Asked) -> Results:
    """Return each method's probability for every query, and the truth."""
    options = SearchOptions()
    presence = engine.presence
    bank = [most_evidence(engine, query, SearchOptions(per_video=1)) for query in presence._texts]
    plain = Calibration.fit(np.array(bank), np.zeros((len(bank), 1)))
    assert plain is not None
    results: Results = defaultdict(list)
    for query, there in asked:
        answer = engine.search(query, options)
        most = np.array([most_evidence(engine, query, options)])
        results["ours"].append((answer.presence, there))
        results["no traits"].append((float(plain.confidence(most, np.zeros(1))[0]), there))
        results["own scores"].append((own_scores(engine.corpus, query), there))
        results["constant"].append((0.5, there))
    return results


def most_evidence(engine: SearchEngine, query: Query, options: SearchOptions) -> float:
    return max(evidence for _, evidence in engine._find_evidence(query, options))


def own_scores(corpus: Any, query: Query) -> float:
    """Return a probability from nothing but the best scores of all videos for this query."""
    scores = np.sort(corpus.score_videos([(query.tokens, None)], SearchOptions(exact=True))[0].astype(float))
    if len(scores) < 16:
        return 0.5
    law = Calibration.fit(scores[:-1], np.zeros((len(scores) - 1, 1)))
    assert law is not None
    best_of_all = scores[-1:] - law.width * np.log(len(scores))  # the best of N of a Gumbel law lies so much higher
    return float(law.confidence(best_of_all, np.zeros(1))[0])


def auroc(rows: Sequence[tuple[float, bool]]) -> float:
    present, absent = (np.array([p for p, there in rows if there is wanted]) for wanted in (True, False))
    return float((present[:, None] > absent).mean() + 0.5 * (present[:, None] == absent).mean())


def brier(rows: Sequence[tuple[float, bool]]) -> float:
    return float(np.mean([(p - there) ** 2 for p, there in rows]))


def calibration_error(rows: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Return the expected calibration error in bins of equal width."""
    return sum(count / len(rows) * abs(said - was) for _, count, said, was in reliability(rows, bins))


def reliability(rows: Sequence[tuple[float, bool]], bins: int = 10) -> Iterator[tuple[float, int, float, float]]:
    """Yield lower edge, queries, mean probability and share of present ones of every bin that holds any."""
    p, there = np.array([p for p, _ in rows]), np.array([there for _, there in rows])
    place = np.minimum((p * bins).astype(int), bins - 1)
    for i in range(bins):
        if (place == i).any():
            yield i / bins, int((place == i).sum()), float(p[place == i].mean()), float(there[place == i].mean())


def print_rows(name: str, runs: Sequence[Results]) -> None:
    for method in runs[0]:
        cells = []
        for measure in (auroc, brier, calibration_error):
            values = [measure(run[method]) for run in runs]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
        print(f"{name:22s} {method:11s} " + "  ".join(f"{cell:>15s}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,3,20,200,1000", help="videos of the planted corpora")
    parser.add_argument("--noises", default="2,4,mixed")
    parser.add_argument("--films", default="1,3,12", help="numbers of rendered films")
    parser.add_argument("--moved", default="", help="videos of the planted corpora that are asked with moved queries")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="100: those that constants were chosen with")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    pooled = list[tuple[float, bool]]()
    print(f"{'corpus':22s} {'method':11s} {'AUROC':>15s}  {'Brier':>15s}  {'ECE':>15s}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makers: dict[str, Callable[[int], tuple[SearchEngine, Asked]]] = {
            f"{size} videos, noise {noise}": lambda seed, size=size, noise=noise: planted(  # type: ignore[misc]
                folder, size, noise, seed, arguments.queries
            )
            for size in map(int, filter(None, arguments.sizes.split(",")))
            for noise in filter(None, arguments.noises.split(","))
        }
        for size in map(int, filter(None, arguments.films.split(","))):
            makers[f"{size} films"] = lambda seed, size=size: films(folder, size, seed)  # type: ignore[misc]
        for size in map(int, filter(None, arguments.moved.split(","))):
            for noise in filter(None, arguments.noises.split(",")):
                makers[f"{size}, moved, noise {noise}"] = lambda seed, size=size, noise=noise: moved(  # type: ignore[misc]
                    folder, size, noise, seed, arguments.queries
                )
        for title, make in makers.items():
            runs = []
            for seed in seeds:
                engine, asked = make(seed)
                with engine:
                    runs.append(judge_moved(engine, asked) if "moved" in title else judge(engine, asked))
            pooled += [row for run in runs for row in run["ours"]]
            print_rows(title, runs)
    print(f"\nours, all together\n{'sure':>9s} {'queries':>8s} {'said':>6s} {'was':>6s}")
    for edge, count, said, was in reliability(pooled):
        print(f"{edge:.1f}-{edge + 0.1:.1f}   {count:8d} {said:6.2f} {was:6.2f}")


if __name__ == "__main__":
    main()
