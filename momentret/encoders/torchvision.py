"""torchvision beside a torch that its compiled part does not load with: open_clip, timm and lightning import it.

PyPI's torchvision is compiled for the CUDA build of torch alone. Beside a CPU build, as `pip install torch==2.13.0` may
bring, its Python part fails too, for want of two operators that nothing here calls: declared, all else of it works.
"""

from __future__ import annotations

from importlib import import_module

import torch

from momentret.errors import ConfigError

__all__ = ["require_torchvision"]

_DECLARED: list[torch.library.Library] = []  # operators last as long as the library that declares them


def require_torchvision() -> None:
    """Import torchvision, for libraries that import it next; where that works anyway, nothing else is done.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        try:
            import_module("torchvision")
        except RuntimeError:  # operator torchvision::nms does not exist
            _declare_operators()
            import_module("torchvision")
    except Exception as error:  # a broken installation may raise anything
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"torchvision cannot be imported beside torch {torch.__version__} ({reason}); install two that belong "
            "together: pip install --upgrade torch torchvision"
        ) from error


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)
