#!/usr/bin/env python3
"""Train the official Moment-DETR and ours from the same weights on the same batches, and compare every step's losses.

    scripts/compare_steps.py --reference CHECKOUT --annotations highlight_train_release.jsonl --features FEATURES
        [--steps 60 | --draws 600]

Two seeded runs of one recipe differ by chance more than any mistake would make them; here nothing is left to chance.
Dropout is off, the official code's random choices (saliency clips, windows beyond the fifth) are given to ours, and
everything else is each side's own: reading and preparing features, forward, matching, losses, gradients, clipping and
AdamW; ours in the real Lightning loop. What remains is rounding, which training multiplies as it goes on: so a second
copy of the official code, whose weights are 1e-7 larger, is trained beside them to say how much that is.

With ``--draws``, dropout is what is compared: both sides compute the losses of one batch of eight again and again, with
dropout and without a step between; their means should differ by chance alone, and their spreads should be the same.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import official_moment_detr as official
import torch
from lightning import Callback, Trainer

from momentret.inputs import Batch, collate, pad_spans
from momentret.models import MODELS
from momentret.training.config import RunConfig, parse_run
from momentret.training.data import MomentData
from momentret.training.module import MomentModule
from momentret.training.run import sized

INPUTS = {"src_vid": "video", "src_vid_mask": "video_mask", "src_txt": "text", "src_txt_mask": "text_mask"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="checkout of jayleicn/moment_detr")
    parser.add_argument("--annotations", type=Path, required=True, help="QVHighlights training annotations")
    parser.add_argument("--features", type=Path, required=True, help="holds clip_features and clip_text_features")
    parser.add_argument("--steps", type=int, default=60, help="an epoch has 226")
    parser.add_argument("--draws", type=int, default=0, help="compare this many draws of dropout instead of steps")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    without = () if options.draws else ("--dropout", "0", "--input_dropout", "0")
    chosen = official.options(options.reference, options.features, "--device", "-1", *without)
    theirs = official.Stepper(chosen)
    run, data = our_run(options)
    model = MODELS[run.model_name][1](run.model)
    model.load_state_dict(theirs.model.state_dict())
    if options.draws:
        compare_draws(theirs, model, official.data(chosen, options.annotations), data, options.draws)
        return
    twin = official.Stepper(chosen)
    twin.model.load_state_dict({name: value * (1 + 1e-7) for name, value in theirs.model.state_dict().items()})
    batches = Batches((theirs, twin), official.data(chosen, options.annotations), data, options.steps)
    losses = train(MomentModule(model, run.train), batches)
    print(f"inputs at most {batches.apart:.1e} apart; the largest relative difference of a loss, up to a step")
    show("ours and the official code", losses, batches.losses[0])
    show("the official code and itself, weights 1e-7 larger", batches.losses[1], batches.losses[0])


def our_run(options: argparse.Namespace) -> tuple[RunConfig, MomentData]:
    recipe = Path(__file__).parents[1] / "configs/qvhighlights/moment_detr_clip.yaml"
    arguments = ["--config", recipe, "--data.features.root", options.features]
    arguments += ["--data.annotations.train", options.annotations, "--data.annotations.val", options.annotations]
    if not options.draws:
        arguments += ["--moment_detr.dropout", 0, "--moment_detr.input_dropout", 0]
    run = parse_run([*map(str, arguments), "--train.device", "cpu", "--output", "unused"])
    data = MomentData(run.data, run.train)
    data.setup()
    return sized(run, data), data


class Batches:
    """Ours, one after the other; before each is given out, the official code has taken its step on the same queries."""

    def __init__(self, theirs: Sequence[official.Stepper], dataset: Any, data: MomentData, steps: int) -> None:
        self.theirs, self.dataset, self.data, self.steps = theirs, dataset, data, steps
        self.losses: list[list[dict[str, float]]] = [[] for _ in theirs]
        self.apart = 0.0
        """The largest difference between the inputs of the two sides."""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        for keys in islice(self._orders(), self.steps):
            inputs, targets, ours = same_batch(self.dataset, self.data, keys)
            for name, value in inputs.items():
                self.apart = max(self.apart, float((ours[INPUTS[name]].float() - value).abs().max()))
            for stepper, losses in zip(self.theirs, self.losses, strict=True):
                losses.append({name: float(value) for name, value in stepper.step(inputs, targets).items()})
            print(f"\rstep {len(self.losses[0])} of {self.steps}", end="", file=sys.stderr, flush=True)
            yield ours

    def _orders(self) -> Iterator[list[int]]:
        """Yield which queries make a batch, epoch after epoch."""
        random = torch.Generator().manual_seed(1)
        while True:
            for keys in torch.randperm(len(self.dataset), generator=random).split(self.data.config.batch_size):
                yield keys.tolist()


def same_batch(dataset: Any, data: MomentData, keys: Sequence[int]) -> tuple[dict[str, Any], dict[str, Any], Batch]:
    """Return a batch as the official code makes it, inputs and targets, and as ours does, with those targets."""
    from moment_detr.start_end_dataset import prepare_batch_inputs, start_end_collate

    inputs, targets = prepare_batch_inputs(start_end_collate([dataset[i] for i in keys])[1], "cpu")
    ours = collate([data._train_examples[i] for i in keys])
    ours["spans"], ours["span_counts"] = pad_spans([item["spans"] for item in targets["span_labels"]])
    for kind, name in (("positive", "pos"), ("negative", "neg")):
        ours[f"saliency_{kind}"] = targets[f"saliency_{name}_labels"]
    return inputs, targets, ours


def compare_draws(theirs: official.Stepper, model: Any, dataset: Any, data: MomentData, draws: int) -> None:
    """Print how the losses of one batch, and the length of their gradient, are spread over draws of dropout."""
    inputs, targets, ours = same_batch(dataset, data, range(8))
    rows: tuple[list[dict[str, float]], list[dict[str, float]]] = [], []
    for number in range(draws):
        for into, side, losses in (
            (rows[0], theirs.model, lambda: theirs.losses(inputs, targets)),
            (rows[1], model.train(), lambda: model.compute_loss(model(ours), ours)),
        ):
            side.zero_grad()
            found = losses()
            found["loss"].backward()
            length = torch.nn.utils.clip_grad_norm_(side.parameters(), float("inf"))
            into.append({name: float(value) for name, value in found.items()} | {"gradient": float(length)})
        print(f"\rdraw {number + 1} of {draws}", end="", file=sys.stderr, flush=True)
    print(f"\n{'':16}{'official':>20}{'ours':>20}{'apart, errors of the mean':>28}")
    for name in rows[0][0]:
        a, b = (torch.tensor([row[name] for row in side], dtype=torch.float64) for side in rows)
        apart = (b.mean() - a.mean()) / ((a.var() + b.var()) / draws).sqrt()
        print(f"{name:16}" + "".join(f"{x.mean():12.4f} ± {x.std():.3f}" for x in (a, b)) + f"{apart:28.1f}")


def train(module: MomentModule, batches: Batches) -> list[dict[str, float]]:
    """Run our trainer over the batches and return the losses of every step."""
    losses: list[dict[str, float]] = []

    class Read(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            losses.append({name.removeprefix("train/"): value for name, value in module.mean_losses("train").items()})

    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[Read()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_dataloaders=batches)
    print(file=sys.stderr)
    return losses


def show(title: str, losses: list[dict[str, float]], others: list[dict[str, float]]) -> None:
    steps = [step for step in (1, 3, 10, 30, 100, 226) if step < len(losses)] + [len(losses)]
    print(f"\n{title}\n{'':16}" + "".join(f"{step:>10}" for step in steps))
    for name in others[0]:
        a, b = (torch.tensor([row[name] for row in rows], dtype=torch.float64) for rows in (losses, others))
        each = (a - b).abs() / b.abs()
        print(f"{name:16}" + "".join(f"{float(each[:step].max()):10.1e}" for step in steps))


if __name__ == "__main__":
    main()
