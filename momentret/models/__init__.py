"""One file per method; all follow one contract: ``forward(batch)``, ``compute_loss(outputs, batch)``,
``decode(outputs, batch)``, and ``matching_cost(outputs, batch)``, from which `match` works out, off the GPU, what else
the loss needs; ``assign(outputs, batch)`` does both. `pads_freely` says whether the losses of a batch stay the same
however far it is padded.

`MODELS` is the table of methods: name -> (config dataclass, network).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from momentret.models.moment_detr import MomentDETR, MomentDETRConfig

__all__ = ["MODELS"]

MODELS: dict[str, tuple[type[Any], type[nn.Module]]] = {
    "moment_detr": (MomentDETRConfig, MomentDETR),
}
