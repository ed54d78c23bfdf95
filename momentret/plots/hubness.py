"""Hubness as pictures: k-occurrence before and after with the worst hubs; the Lorenz curve; the tuning curve."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from momentret.files import atomic_write
from momentret.plots.fonts import font_families

__all__ = ["plot_hubness", "plot_lorenz", "plot_tuning"]

RAW, CORRECTED = "#c44e52", "#4c72b0"
BINS = 50
COUNTED = ("nnn", "csls")  # are tuned by the number of bank rows they average
BETA_LABEL, K_LABEL = "inverse temperature × deviation of the bank", "bank similarities averaged (k)"


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
        path: the PNG; an SVG is written beside it.
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
    _save(figure, path.with_suffix(".svg"))


def plot_lorenz(path: Path, counts: Mapping[str, np.ndarray], k: int, queries: int) -> None:
    """Draw which share of all list places the most retrieved items take.

    Args:
        path: the PNG.
        counts: k-occurrence ``(N,)`` by name: ``raw``, and after correction.
        k: length of the lists counted.
        queries: how many lists there are.
    """
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes, size = figure.subplots(), len(next(iter(counts.values())))
    uniform = np.random.default_rng(0).binomial(queries, min(k, size) / size, size)
    for (name, values), colour in zip(counts.items(), (RAW, CORRECTED), strict=False):
        axes.plot(*_lorenz(values), color=colour, label=name)
    axes.plot(*_lorenz(uniform), color="black", linestyle=":", label="without hubness")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="all equal")
    axes.set(
        xlabel="share of the gallery, most retrieved first", ylabel=f"share of the places in lists of {min(k, size)}"
    )
    axes.legend(fontsize="small", loc="lower right")
    axes.grid(alpha=0.3)
    _save(figure, path)


def _lorenz(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ordered = np.sort(values)[::-1].cumsum()
    return np.arange(len(values) + 1) / len(values), np.append(0.0, ordered / max(1, ordered[-1]))


def _draw_distribution(axes: Any, counts: Mapping[str, np.ndarray], k: int, queries: int) -> None:
    top = max(int(values.max()) for values in counts.values())
    size = len(next(iter(counts.values())))
    step = -(-(top + 1) // BINS)  # whole numbers a bin, as many in each
    edges = np.arange(0, top + 1 + step, step)
    for (name, values), colour in zip(counts.items(), (RAW, CORRECTED), strict=False):
        label = f"{name}: {np.mean(values == 0):.1%} never retrieved, at most {values.max()}"
        axes.hist(values, bins=edges, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(values, bins=edges, histtype="step", linewidth=1.6, color=colour, label=label)
    mean = min(k, size) * queries / size
    axes.axvline(mean, color="grey", linewidth=0.8, label=f"mean {mean:.1f}")
    axes.axvline(2 * mean, color="grey", linestyle="--", linewidth=0.8, label="hub from here")
    uniform = np.random.default_rng(0).binomial(queries, min(k, size) / size, size)
    axes.hist(uniform, bins=edges, histtype="step", linestyle=":", color="black", label="without hubness")
    axes.set(xlabel=f"$N_{{{k}}}$: lists an item is in", ylabel="gallery items", yscale="log", ylim=(0.7, None))
    axes.set_title(f"{queries:,} lists of {min(k, size)} from {size:,} items")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _draw_hubs(axes: Any, counts: Mapping[str, np.ndarray], k: int, ids: Sequence[str], most: int = 12) -> None:
    raw = next(iter(counts.values()))
    worst = np.argsort(-raw, kind="stable")[:most]
    places, height = np.arange(len(worst)), 0.8 / len(counts)
    for i, ((name, values), colour) in enumerate(zip(counts.items(), (RAW, CORRECTED), strict=False)):
        bars = axes.barh(places + i * height, values[worst], height=height, color=colour, label=name)
        axes.bar_label(bars, fontsize="x-small", padding=2)
    names = [ids[i] if len(ids[i]) <= 24 else ids[i][:21] + "…" for i in worst]
    labels, families = [name.replace("$", r"\$") for name in names], font_families("".join(names))
    axes.set_yticks(places + (len(counts) - 1) * height / 2, labels, fontfamily=families)
    axes.tick_params(axis="y", labelsize="small")
    axes.invert_yaxis()
    axes.set(xlabel=f"$N_{{{k}}}$", title=f"the {len(worst)} worst hubs")
    axes.margins(x=0.08)
    axes.legend(fontsize="small", loc="lower right")
    axes.grid(alpha=0.3, axis="x")


def plot_tuning(
    path: Path,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    chosen: tuple[str, float, float],
    ylabel: str,
    raw: float | None = None,
) -> None:
    """Draw what every temperature (or k) reached on held-out queries, a panel for temperatures and one for k.

    Args:
        path: the PNG.
        curves: by method, ``(temperature in deviations or k, value)`` points.
        chosen: method and point that was taken.
        ylabel: what the value is.
        raw: the value without any correction.
    """
    counted = [{name: points for name, points in curves.items() if (name in COUNTED) == wanted} for wanted in (0, 1)]
    panels = [(part, label) for part, label in zip(counted, (BETA_LABEL, K_LABEL), strict=True) if part]
    figure = Figure(figsize=(2 + 4.5 * max(len(panels), 1), 4.4), layout="constrained")
    for axes, (part, label) in zip(
        np.atleast_1d(figure.subplots(1, max(len(panels), 1), sharey=True)), panels, strict=False
    ):
        for name, points in part.items():
            axes.plot(*zip(*sorted(points), strict=True), marker=".", label=name)
        if raw is not None:
            axes.axhline(raw, color="grey", linestyle="--", linewidth=0.9, label="raw")
        if chosen[0] in part:
            axes.plot(*chosen[1:], "o", color="black", markersize=11, fillstyle="none", label=f"chosen: {chosen[0]}")
        axes.set(xlabel=label, ylabel=ylabel, xscale="log")
        ticks = sorted({x for points in part.values() for x, _ in points})
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks], fontsize="small")
        axes.minorticks_off()
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.suptitle("tuning: the best shrinkage at each setting")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_write(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter of a name that no font here has is drawn as a box
        figure.savefig(file, format=path.suffix[1:], dpi=120)
