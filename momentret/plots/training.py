"""The curves of a training run as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from momentret.files import atomic_write

__all__ = ["plot_comparison", "plot_training"]

Curve = Sequence[tuple[int, float]]


def plot_training(
    path: Path, losses: Mapping[str, Curve], metrics: Mapping[str, Curve], blind: Mapping[str, float], title: str
) -> None:
    """Draw losses over epochs on the left and validation metrics on the right.

    Args:
        path: the PNG.
        losses: by name, ``(epoch, value)`` points.
        metrics: by name, ``(epoch, percent)`` points; the best of each is marked.
        blind: by the same names, what an answer that sees neither video nor text reaches; dashed.
        title: above both.
    """
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, curve in losses.items():
        left.plot(*zip(*curve, strict=True), label=name, marker="." if len(curve) < 30 else None)
    left.set(xlabel="epoch", ylabel="loss", title="losses (weighted)")
    for name, curve in metrics.items():
        epochs, values = zip(*curve, strict=True)
        (line,) = right.plot(epochs, values, label=f"{name} (best {max(values):.2f})", marker=".")
        right.plot(epochs[values.index(max(values))], max(values), "o", color=line.get_color())
        if name in blind:
            right.axhline(blind[name], color=line.get_color(), linestyle="--", linewidth=0.8, alpha=0.7)
    right.set(xlabel="epoch", ylabel="percent", title="validation (dashed: blind baseline)", ylim=(0, None))
    for axes, curves in ((left, losses), (right, metrics)):
        _over_epochs(axes)
        if curves:
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title)
    _save(figure, path)


def plot_comparison(
    path: Path, groups: Mapping[str, Sequence[Mapping[str, Mapping[int, float]]]], names: Sequence[str]
) -> None:
    """Draw the same quantities of several groups of runs: one panel a quantity, one colour a group, one line a run.

    Args:
        path: the PNG.
        groups: by name of the group, its runs; a run maps a quantity to ``{epoch: value}``.
        names: the quantities.
    """
    figure = Figure(figsize=(5.5 * len(names), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for i, (group, runs) in enumerate(groups.items()):
            for j, run in enumerate(runs):
                axes.plot(*zip(*sorted(run[name].items()), strict=True), color=f"C{i}", label=None if j else group)
        axes.set(xlabel="epoch", title=name)
        _over_epochs(axes)
        axes.legend()
    _save(figure, path)


def _over_epochs(axes: Axes) -> None:
    """Give the axes a grid, and whole epochs to it even where there is only one."""
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
