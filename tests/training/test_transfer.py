"""Batches on their way: what arrives is what was sent, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from momentret.inputs import Batch, collate
from momentret.training.config import TrainConfig
from momentret.training.data import MomentData
from momentret.training.transfer import Parcel, receive

from ..models.test_contract import some_items
from .test_run import recipe

CPU = torch.device("cpu")


def assert_same(a: Batch, b: Batch) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert (value.dtype, value.shape) == (b[name].dtype, b[name].shape)
            assert torch.equal(value, b[name])
        else:
            assert value == b[name]


@pytest.mark.parametrize("items", [1, 2, 3])
def test_a_parcel_opens_to_the_same_batch(items: int) -> None:
    batch = collate(some_items()[:items])
    batch["odd"] = torch.tensor([True, False, True])
    assert_same(receive(Parcel.of(batch), CPU), batch)
    assert_same(receive(batch, CPU), batch)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_loader_s_workers_send_what_the_process_makes_itself(tiny_data: Path, tmp_path: Path) -> None:
    batches = []
    for workers in (0, 2):
        run = recipe(tiny_data, tmp_path / "unused", f"--train.workers={workers}")
        data = MomentData(run.data, run.train)
        data.setup()
        sent = list(data.train_dataloader())
        assert all(isinstance(batch, Parcel) == bool(workers) for batch in sent)
        batches.append([data.transfer_batch_to_device(batch, CPU, 0) for batch in sent])
    for own, other in zip(*batches, strict=True):
        assert_same(own, other)


@pytest.mark.parametrize(("cores", "on_gpu", "workers"), [(16, True, 8), (4, True, 3), (1, True, 0), (16, False, 0)])
def test_as_many_processes_load_as_cores_are_free(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, on_gpu: bool, workers: int
) -> None:
    run = recipe(tiny_data, tmp_path / "unused")
    data = MomentData(run.data, run.train)
    data.setup()
    monkeypatch.setattr("momentret.training.data.available_cores", lambda: cores)
    monkeypatch.setattr(TrainConfig, "on_gpu", on_gpu)
    assert data.train_dataloader().num_workers == workers


@pytest.mark.gpu
def test_a_parcel_reaches_a_gpu_from_pinned_memory() -> None:
    batch = collate(some_items())
    pinned = Parcel.of(batch).pin_memory()
    assert pinned.block.is_pinned()
    there = receive(pinned, torch.device("cuda"))
    assert all(value.is_cuda for value in there.values() if isinstance(value, torch.Tensor))
    assert_same({name: v.cpu() if isinstance(v, torch.Tensor) else v for name, v in there.items()}, batch)
