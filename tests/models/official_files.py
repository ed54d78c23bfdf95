"""Makes checkpoint files as the official code and Lighthouse write them: pickles by torch.save."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from momentret.models.moment_detr import MomentDETR, MomentDETRConfig

OPTIONS: dict[str, Any] = {
    "dset_name": "hl",
    "ctx_mode": "video_tef",
    "nheads": 4,
    "dropout": 0.1,
    "input_dropout": 0.5,
    "max_q_l": 32,
    "max_v_l": 75,
    "clip_length": 2,
    "lw_saliency": 1.0,
    "no_norm_vfeat": False,
    "seed": 2018,
    "v_feat_dirs": ["features/slowfast", "features/clip"],
}


def small_model(video_dim: int = 514, **options: Any) -> MomentDETR:
    torch.manual_seed(0)
    sizes = {"text_dim": 512, "hidden_dim": 16, "heads": 4, "feedforward_dim": 24}
    return MomentDETR(MomentDETRConfig(video_dim=video_dim, **{**sizes, **options}))


def write_official(path: Path, model: nn.Module, **options: Any) -> Path:
    """Write what the official script saves: a Namespace with a device in it, optimiser and scheduler."""
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    namespace = argparse.Namespace(**{**OPTIONS, "device": torch.device("cuda", 0), **options})
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 400)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 169,
        "opt": namespace,
    }
    torch.save(state, path)
    return path


class EasyDict(dict[str, Any]):
    """Works as the class of that name does: items are attributes too."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        value = EasyDict(value) if isinstance(value, dict) else value
        super().__setattr__(name, value)
        super().__setitem__(name, value)


@contextmanager
def easydict_installed() -> Iterator[None]:
    """Make `EasyDict` importable as easydict.EasyDict, as on the machine that wrote the file."""
    module, home = ModuleType("easydict"), EasyDict.__module__
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    sys.modules["easydict"], EasyDict.__module__ = module, "easydict"
    try:
        yield
    finally:
        del sys.modules["easydict"]
        EasyDict.__module__ = home


def write_lighthouse(path: Path, model: nn.Module, **options: Any) -> Path:
    """Write what Lighthouse saves: options in an EasyDict."""
    values = EasyDict(
        {**OPTIONS, "dset_name": "qvhighlight", "model_name": "moment_detr", "nested": {"a": 1}, **options}
    )
    with easydict_installed():
        torch.save({"model": model.state_dict(), "epoch": 3, "opt": values}, path)
    return path
