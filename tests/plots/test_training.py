"""The curves of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from momentret.plots import training
from momentret.plots.training import plot_training


def test_a_single_validation_stands_at_a_whole_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure, *rest: Any) -> None:
        drawn.append(figure)

    monkeypatch.setattr(training, "_save", keep)
    plot_training(tmp_path / "curves.png", {"loss": [(1, 3.0)]}, {"mAP": [(5, 12.0)]}, {"mAP": 10.0}, "one")
    shown = []
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        shown.append([tick for tick in axes.get_xticks() if low <= tick <= high])
    assert shown == [[1.0], [5.0]]
