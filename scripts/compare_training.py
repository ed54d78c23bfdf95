#!/usr/bin/env python3
"""Compare our runs with runs of the official Moment-DETR script: loss terms, val MR-mAP, and a PNG of all curves.

    scripts/compare_training.py --official RESULTS/hl-video_tef-seed2018-* ... --ours runs/seed2018 ... --output a.png

Official folders hold train.log.txt and eval.log.txt, ours history.csv. Seeds are paired in the given order only for
drawing; the table compares means over seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
from pathlib import Path

from momentret.plots.training import plot_comparison

TERMS = (
    "loss_span",
    "loss_giou",
    "loss_label",
    "loss_saliency",
    "loss_span_0",
    "loss_giou_0",
    "loss_label_0",
    "loss_overall",
)
Curve = dict[int, float]


def official_run(folder: Path) -> dict[str, Curve]:
    """Read the official logs: training epochs count from 1 there, evaluation epochs from 0."""
    curves: dict[str, Curve] = {}
    for line in (folder / "train.log.txt").read_text().splitlines():
        epoch = int(re.search(r"\[Epoch\] (\d+)", line).group(1))  # type: ignore[union-attr]
        for name, value in re.findall(r"(\w+) (-?\d+\.\d+)", line.split("[Loss]")[1]):
            curves.setdefault(name, {})[epoch] = float(value)
    for line in (folder / "eval.log.txt").read_text().splitlines():
        epoch = int(re.search(r"\[Epoch\] (\d+)", line).group(1)) + 1  # type: ignore[union-attr]
        brief = json.loads(line.split("[Metrics]")[1])["brief"]
        curves.setdefault("MR-full-mAP", {})[epoch] = brief["MR-full-mAP"]
    return curves


def our_run(folder: Path) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    with (folder / "history.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    key = "loss_overall" if name == "train/loss" else name.removeprefix("train/")
                    curves.setdefault(key, {})[int(row["epoch"])] = float(value)
    return curves


def mean(runs: list[dict[str, Curve]], name: str, epoch: int) -> float:
    return statistics.mean(run[name][epoch] for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", nargs="+", type=Path, required=True)
    parser.add_argument("--ours", nargs="+", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the PNG")
    options = parser.parse_args()
    official = [official_run(folder) for folder in options.official]
    ours = [our_run(folder) for folder in options.ours]
    epochs = sorted(set.intersection(*(set(run["MR-full-mAP"]) for run in official + ours)))
    print(f"ours / official, mean of {len(ours)} and {len(official)} seeds, by epoch")
    print(f"{'':16}" + "".join(f"{epoch:>9}" for epoch in epochs))
    for name in TERMS:
        ratios = [mean(ours, name, epoch) / mean(official, name, epoch) - 1 for epoch in epochs]
        print(f"{name:16}" + "".join(f"{ratio:+9.1%}" for ratio in ratios))
    for title, runs in (("mAP official", official), ("mAP ours", ours)):
        print(f"{title:16}" + "".join(f"{mean(runs, 'MR-full-mAP', epoch):9.2f}" for epoch in epochs))
        for run in runs:
            print(f"{'':16}" + "".join(f"{run['MR-full-mAP'][epoch]:9.2f}" for epoch in epochs))
    plot_comparison(options.output, {"official": official, "ours": ours}, ("loss_overall", "MR-full-mAP"))


if __name__ == "__main__":
    main()
