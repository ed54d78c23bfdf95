"""Sets up the official Moment-DETR code, from a checkout of jayleicn/moment_detr, for the scripts that run it beside
ours: its options, its data set of QVHighlights with CLIP features, its model."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any


def options(reference: Path, features: Path, *more: str) -> Any:
    """Return its options, as it parses them; from then on its packages can be imported."""
    sys.path.insert(0, str(reference))
    from moment_detr.config import BaseOptions

    clip, text = features / "clip_features", features / "clip_text_features"
    with tempfile.TemporaryDirectory() as results:
        sys.argv = ["train", "--dset_name", "hl", "--ctx_mode", "video_tef", "--v_feat_dirs", str(clip)]
        sys.argv += ["--v_feat_dim", "512", "--t_feat_dir", str(text), "--t_feat_dim", "512"]
        sys.argv += ["--exp_id", "beside", "--results_root", results, *more]
        stdout, sys.stdout = sys.stdout, sys.stderr
        try:
            return BaseOptions().parse()
        finally:
            sys.stdout = stdout


def data(chosen: Any, annotations: Path) -> Any:
    """Return its data set, given its options."""
    from moment_detr.start_end_dataset import StartEndDataset

    return StartEndDataset(
        "hl",
        str(annotations),
        chosen.v_feat_dirs,
        chosen.t_feat_dir,
        ctx_mode=chosen.ctx_mode,
        max_q_l=chosen.max_q_l,
        max_v_l=chosen.max_v_l,
        clip_len=chosen.clip_length,
        max_windows=chosen.max_windows,
    )


class Stepper:
    """Steps its model as its train_epoch does."""

    def __init__(self, chosen: Any) -> None:
        from moment_detr.inference import setup_model

        self.chosen = chosen
        self.model, self.criterion, self.optimizer, _ = setup_model(chosen)
        self.model.train()

    def step(self, inputs: dict[str, Any], targets: dict[str, Any]) -> dict[str, Any]:
        """Take one step and return its weighted losses, with their sum as ``loss``."""
        import torch

        losses = self.losses(inputs, targets)
        self.optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.chosen.grad_clip)
        self.optimizer.step()
        return losses

    def losses(self, inputs: dict[str, Any], targets: dict[str, Any]) -> dict[str, Any]:
        """Return its weighted losses, with their sum as ``loss``."""
        losses, weights = self.criterion(self.model(**inputs), targets), self.criterion.weight_dict
        weighted = {name: losses[name] * weights[name] for name in losses if name in weights}
        return {**weighted, "loss": sum(weighted.values())}
