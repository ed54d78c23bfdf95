"""Reads the reference values of Moment-DETR: `golden/moment_detr_*` (see moment_detr_forward.json there).

Source: produced once with the official implementation (MIT licence) on a CPU, PyTorch 2.15; inputs and weights are
synthetic, dropout is off.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from momentret.inputs import pad_spans
from momentret.models.moment_detr import MomentDETR, MomentDETRConfig

from ..helpers import GOLDEN

DOCUMENT = json.loads((GOLDEN / "moment_detr_forward.json").read_text())
VARIANTS = {
    f"variants:{name}": options
    for name, options in DOCUMENT["files"]["moment_detr_forward_variants.npz"]["variants"].items()
}
CASES = {
    "small": DOCUMENT["files"]["moment_detr_forward.npz"]["config_overrides"],
    "full": DOCUMENT["files"]["moment_detr_forward_full.npz"]["config_overrides"],
    **VARIANTS,
}
NAMES = {
    "v_feat_dim": "video_dim",
    "t_feat_dim": "text_dim",
    "max_q_l": "max_words",
    "max_v_l": "max_clips",
    "num_queries": "slots",
    "enc_layers": "encoder_layers",
    "dec_layers": "decoder_layers",
    "nheads": "heads",
    "dim_feedforward": "feedforward_dim",
    "n_input_proj": "input_projections",
    "use_txt_pos": "text_positions",
    "aux_loss": "auxiliary_losses",
    "contrastive_align_loss": "contrastive",
    "contrastive_hdim": "contrastive_dim",
    "contrastive_align_loss_coef": "weight_contrastive",
    "span_loss_type": "span_loss",
}


@dataclass
class Case:
    """One golden: a model with its weights, a batch, and the reference's numbers by their key."""

    model: MomentDETR
    batch: dict[str, Any]
    values: dict[str, np.ndarray]

    def expected(self, key: str) -> Tensor:
        return torch.from_numpy(self.values[key])

    def layer_prefixes(self) -> list[str]:
        """Return what comes before ``pred_logits`` for each supervised layer, first to last."""
        layers = len({key.split(".")[1] for key in self.values if key.startswith("out/aux.")})
        return [*(f"out/aux.{i}." for i in range(layers)), "out/"]


def load_case(name: str, **options: float) -> Case:
    """Build the model of a golden; `options` change its config (``dropout`` sets both kinds)."""
    values = _read(name)
    widths = {"video_dim": 514, "text_dim": 512}  # the paper's, which a golden leaves out
    overrides = widths | {NAMES.get(key, key): value for key, value in CASES[name].items()} | options
    if "dropout" in options:
        overrides["input_dropout"] = options["dropout"]
    model = MomentDETR(MomentDETRConfig(**overrides)).eval()
    stored = {key[3:]: torch.from_numpy(value) for key, value in values.items() if key.startswith("sd/")}
    model.load_state_dict(stored or recipe_weights(model, seed=22))
    return Case(model, _batch(values), values)


def _read(name: str) -> dict[str, np.ndarray]:
    file = {"small": "moment_detr_forward", "full": "moment_detr_forward_full"}.get(
        name, "moment_detr_forward_variants"
    )
    with np.load(GOLDEN / f"{file}.npz") as archive:
        prefix = f"{name.split(':')[1]}/" if ":" in name else ""
        return {key[len(prefix) :]: archive[key] for key in archive.files if key.startswith(prefix)}


def recipe_weights(model: MomentDETR, seed: int) -> dict[str, Tensor]:
    """Generate weights by the recipe of moment_detr_forward.json."""
    random, weights = np.random.RandomState(seed), {}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(shapes):
        z, last = random.standard_normal(shapes[name]), name.split(".")[-1]
        if "norm" in name.lower() and last == "weight":
            z = 1 + 0.1 * z
        elif last in ("bias", "in_proj_bias"):
            z = 0.05 * z
        elif name.startswith(("query_embed", "txt_position_embed.position")):
            z = 0.5 * z
        else:
            z = z / np.sqrt(z.shape[-1])
        weights[name] = torch.from_numpy(z.astype(np.float32))
    return weights


def _batch(values: dict[str, np.ndarray]) -> dict[str, Any]:
    tensors = {key: torch.from_numpy(value) for key, value in values.items() if key.startswith(("in/", "tgt/"))}
    spans, counts = pad_spans([tensors[f"tgt/spans.{i}"] for i in range(len(tensors["in/src_vid"]))])
    return {
        "video": tensors["in/src_vid"],
        "video_mask": tensors["in/src_vid_mask"].bool(),
        "text": tensors["in/src_txt"],
        "text_mask": tensors["in/src_txt_mask"].bool(),
        "duration": 2 * tensors["in/src_vid_mask"].sum(1),
        "spans": spans,
        "span_counts": counts,
        "saliency_positive": tensors["tgt/saliency_pos_labels"],
        "saliency_negative": tensors["tgt/saliency_neg_labels"],
    }
