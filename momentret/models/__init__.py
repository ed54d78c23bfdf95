"""One file per method; all follow one contract: ``forward(batch)``, ``compute_loss(outputs, batch)`` and
``decode(outputs, batch)``, and for what of the loss cannot be computed on a GPU ``assign(outputs, batch)``.

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
