"""Hubness as PNGs: k-occurrence before and after with the worst hubs; the tuning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from momentret.files import atomic_write

__all__ = ["plot_hubness", "plot_tuning"]

RAW, CORRECTED = "#c44e52", "#4c72b0"


def plot_hubness(
    path: Path,
    counts: Mapping[str, np.ndarray],
    k: int,
    queries: int,
    ids: Sequence[str],
    title: str = "hubness",
) -> None:
    """Draw how often gallery items are retrieved.

    Args:
        path: the PNG.
        counts: k-occurrence ``(N,)`` by name: ``raw``, and after correction.
        k: length of the lists counted.
        queries: how many lists there are.
        ids: names of the gallery items.
        title: above both panels.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_distribution(left, counts, k, queries)
    _draw_hubs(right, counts, k, ids)
    figure.suptitle(title)
    _save(figure, path)


def _draw_distribution(axes: Any, counts: Mapping[str, np.ndarray], k: int, queries: int) -> None:
    top = max(int(values.max()) for values in counts.values())
    size = len(next(iter(counts.values())))
    edges = np.unique(np.linspace(0, top + 1, min(top + 2, 60)).astype(int))
    for (name, values), colour in zip(counts.items(), (RAW, CORRECTED), strict=False):
        axes.hist(values, bins=edges, histtype="step", linewidth=1.6, color=colour, label=name)
    mean = min(k, size) * queries / size
    axes.axvline(mean, color="grey", linewidth=0.8, label=f"mean {mean:.1f}")
    axes.axvline(2 * mean, color="grey", linestyle="--", linewidth=0.8, label="hub from here")
    uniform = np.random.default_rng(0).binomial(queries, min(k, size) / size, size)
    axes.hist(uniform, bins=edges, histtype="step", linestyle=":", color="black", label="without hubness")
    axes.set(xlabel=f"$N_{{{k}}}$: lists an item is in", ylabel="gallery items", yscale="log", title="k-occurrence")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _draw_hubs(axes: Any, counts: Mapping[str, np.ndarray], k: int, ids: Sequence[str], most: int = 12) -> None:
    raw = next(iter(counts.values()))
    worst = np.argsort(-raw, kind="stable")[:most][::-1]
    height = 0.8 / len(counts)
    for i, ((name, values), colour) in enumerate(zip(counts.items(), (RAW, CORRECTED), strict=False)):
        axes.barh(np.arange(len(worst)) - i * height, values[worst], height=height, color=colour, label=name)
    names = [ids[i] if len(ids[i]) <= 24 else ids[i][:21] + "…" for i in worst]
    axes.set_yticks(np.arange(len(worst)), [name.replace("$", r"\$") for name in names], fontsize="small")
    axes.set(xlabel=f"$N_{{{k}}}$", title="worst hubs")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3, axis="x")


def plot_tuning(
    path: Path, curves: Mapping[str, Sequence[tuple[float, float]]], chosen: tuple[float, float], ylabel: str
) -> None:
    """Draw what every temperature (or k) reached on held-out queries.

    Args:
        path: the PNG.
        curves: by method, ``(temperature in deviations or k, value)`` points.
        chosen: the point that was taken.
        ylabel: what the value is.
    """
    figure = Figure(figsize=(6.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), marker=".", label=name)
    axes.plot(*chosen, "o", color="black", markersize=10, fillstyle="none", label="chosen")
    axes.set(xlabel="inverse temperature in deviations, or k", ylabel=ylabel, title="tuning: best shrinkage at each")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
