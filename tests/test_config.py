from __future__ import annotations

import pytest
import torch

from momentret.config import find_device
from momentret.errors import ConfigError


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert find_device("auto") == expected
        assert find_device("cpu") == "cpu"


def test_a_gpu_that_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU; use 'auto' or 'cpu'"):
        find_device("cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="device 'gpu' is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:1'"):
        find_device("gpu")


def test_one_of_several_gpus_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == "cuda:1"
    with pytest.raises(ConfigError, match="torch sees 2 GPUs, counted from 0"):
        find_device("cuda:2")
    with pytest.raises(ConfigError, match="device 'cuda:x' is unknown"):
        find_device("cuda:x")
