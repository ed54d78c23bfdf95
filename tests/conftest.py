"""Fixtures for all tests; one thread, so that results do not depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.pretended import pretended_gpu

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the user's cache alone."""
    os.environ["MOMENTRET_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a GPU, or of what takes tensors as one does."""
    if request.param == "real":
        yield "cuda"
        return
    if torch.version.cuda is None:
        pytest.skip("this build of torch knows no CUDA devices")
    with pretended_gpu():
        yield "cuda"


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train.jsonl``, ``val.jsonl`` and ``features/``, small enough to train on in a second."""
    from momentret.datasets.simulate import Simulation, simulate

    folder = tmp_path_factory.mktemp("data") / "tiny"
    simulate(folder, Simulation(train=24, val=8, clips=20, dim=16))
    return folder
