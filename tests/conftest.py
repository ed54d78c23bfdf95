"""Fixtures for all tests; one thread, so that results do not depend on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the user's cache alone."""
    os.environ["MOMENTRET_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train.jsonl``, ``val.jsonl`` and ``features/``, small enough to train on in a second."""
    from momentret.datasets.simulate import Simulation, simulate

    folder = tmp_path_factory.mktemp("data") / "tiny"
    simulate(folder, Simulation(train=24, val=8, clips=20, dim=16))
    return folder
