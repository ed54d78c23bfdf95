#!/usr/bin/env python3
"""Measure the label-free guard: does it keep what a bank can give, and never let a bank hurt?

    python scripts/bench_hubness_guard.py --scenarios 200

A scenario is a world, a bank (30 to 9,000 queries about 1 to 100 of the 100 topics, one in ten of pure noise), and
live queries that may be of another style or have another mean than the bank. The guard sees the bank and 30 to 500
unlabelled live queries; 1,000 others are scored. *Available* is the best shrinkage in hindsight, chosen on the scored
queries themselves, raw included, so more than 100 % of it is impossible.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace

import numpy as np

from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import ranks, retrieval_metrics
from momentret.search.hubness.simulation import WORLDS, World, WorldConfig

SIZE = 1000
SHRINKS = np.linspace(0, 1, 21)
ALL_WORLDS: dict[str, WorldConfig] = {
    **WORLDS,
    "vague queries": replace(WORLDS["clip-like"], text_noise=2.0),
    "global hubs": replace(WORLDS["clip-like"], global_hub=0.05),
}


@dataclass(frozen=True)
class Scenario:
    """One bank and the traffic that it meets."""

    seed: int
    world: str
    bank: int
    topics: int
    noise: bool
    """The bank says nothing: its similarities are random."""
    style: float
    """Text noise of the live queries, times the bank's."""
    shift: float
    """Length of what is added to every live query."""
    live: int


def draw(seed: int) -> Scenario:
    random = np.random.default_rng([7, seed])
    return Scenario(
        seed=seed,
        world=list(ALL_WORLDS)[seed % len(ALL_WORLDS)],
        bank=int(np.exp(random.uniform(np.log(30), np.log(9000)))),
        topics=int(np.exp(random.uniform(0, np.log(100.99)))),
        noise=bool(random.random() < 0.1),
        style=float(np.exp(random.normal(0, 0.3))),
        shift=float(random.choice([0.0, 0.0, 0.1, 0.2, 0.3])),
        live=int(random.integers(30, 501)),
    )


def run(scenario: Scenario, method: str) -> dict[str, float]:
    """Return R@1 of raw, of the unshrunk method, of both shrinkages, and of the best shrinkage in hindsight."""
    random = np.random.default_rng([8, scenario.seed])
    config = ALL_WORLDS[scenario.world]
    world = World(config, scenario.seed)
    style = {"text_noise": config.text_noise * scenario.style}
    text, video = world.pairs(SIZE, random, **style)
    live, _ = world.pairs(scenario.live, random, **style)
    bank, bank_video = world.pairs(scenario.bank, random, topics=scenario.topics)
    direction = random.standard_normal(config.dimension)
    moved = [moved_by(part, scenario.shift * direction / np.linalg.norm(direction)) for part in (text, live)]
    S, L = (part @ video.T for part in moved)
    P = bank @ video.T
    if scenario.noise:
        P = (P.mean() + P.std() * random.standard_normal(P.shape)).astype(np.float32)
    hub = HubnessNormaliser(method=method).fit(P, bank_video @ video.T, live=L)
    bias = hub.bias(shrunk=False).numpy()
    curve = [recall(S - (shrink * bias).astype(np.float32)) for shrink in SHRINKS]
    reliable = HubnessNormaliser(method=method).fit(P, bank_video @ video.T)
    guard = hub.facts.guard
    assert guard is not None
    return {
        "raw": curve[0],
        "plain": curve[-1],
        "reliability": recall(reliable.transform(S)),
        "guard": recall(hub.transform(S)),
        "available": max(curve),
        "slope": guard.slope,
        "correlation": guard.correlation,
    }


def moved_by(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    rows = rows + vector.astype(np.float32)
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def recall(scores: np.ndarray) -> float:
    pairs = np.stack([np.arange(len(scores))] * 2, axis=1)
    return retrieval_metrics(ranks(scores, pairs))["R1"]


def summary(found: list[dict[str, float]], name: str) -> dict[str, float]:
    gains = np.array([run[name] - run["raw"] for run in found])
    available = np.array([run["available"] - run["raw"] for run in found])
    return {
        "mean_gain": float(gains.mean()),
        "share_of_available": float(gains.sum() / available.sum()),
        "worst": float(gains.min()),
        "lost_more_than_half_a_point": int((gains < -0.5 - 1e-9).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first scenario")
    parser.add_argument("--method", default="is", help="is, nnn, csls, dualis, dis or dualdis")
    parser.add_argument("--json", action="store_true", help="every scenario, and the summary")
    options = parser.parse_args()
    scenarios = [draw(seed) for seed in range(options.first, options.first + options.scenarios)]
    found = [run(scenario, options.method) for scenario in scenarios]
    table = {name: summary(found, name) for name in ("plain", "reliability", "guard", "available")}
    if options.json:
        rows = [{**vars(scenario), **values} for scenario, values in zip(scenarios, found, strict=True)]
        print(json.dumps({"method": options.method, "summary": table, "scenarios": rows}, indent=2))
        return
    raw = np.mean([values["raw"] for values in found])
    print(f"{options.method}, {len(found)} drift scenarios, R@1 of {SIZE} queries; raw {raw:.1f}, blind 0.1\n")
    print("| shrinkage | mean gain | of the available | worst | lost more than 0.5 |")
    print("|---|---|---|---|---|")
    names = {
        "plain": "none (published)",
        "reliability": "by the bank alone (default)",
        "guard": "by live queries (the guard)",
        "available": "best in hindsight",
    }
    for name, title in names.items():
        row = table[name]
        lost = f"{row['lost_more_than_half_a_point']} of {len(found)}"
        print(f"| {title} | {row['mean_gain']:+.2f} | {row['share_of_available']:.1%} | {row['worst']:+.1f} | {lost} |")
    for i in np.argsort([values["guard"] - values["raw"] for values in found])[:3]:
        change = found[i]["guard"] - found[i]["raw"]
        print(f"worst of the guard: {change:+.1f}, slope {found[i]['slope']:.2f}: {scenarios[i]}")


if __name__ == "__main__":
    main()
