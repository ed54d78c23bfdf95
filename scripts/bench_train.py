#!/usr/bin/env python3
"""Training speed beside the official Moment-DETR script: CPU-seconds a step, data loading included, one thread.

    scripts/bench_train.py --reference CHECKOUT --reference-python PYTHON \
        --annotations highlight_train_release.jsonl --features FEATURES [--steps 40] [--rounds 3]

Each round runs every side in a process of its own, one after the other: the official code, ours in float32 from the
same npz folder, ours from a packed copy of it, ours in bfloat16 mixed precision. The first steps of each are warm-up.
Reported are medians over the rounds, ratios to the official code, and how far the arithmetic is from the machine's
matrix-product speed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WARM_UP = 5
GFLOP_PER_STEP = 32  # matrix products of one float32 step at batch 32, 75 clips and 20 words
SIDES = {
    "official float32, npz": ("official", "npz", "32-true"),
    "ours float32, npz": ("ours", "npz", "32-true"),
    "ours float32, packed": ("ours", "packed", "32-true"),
    "ours bf16-mixed, packed": ("ours", "packed", "bf16-mixed"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="checkout of jayleicn/moment_detr")
    parser.add_argument("--reference-python", default=sys.executable, help="an interpreter that can run it")
    parser.add_argument("--annotations", type=Path, required=True, help="QVHighlights training annotations")
    parser.add_argument("--features", type=Path, required=True, help="holds clip_features and clip_text_features")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, store, precision = options.worker
        print(json.dumps(run_official(options) if side == "official" else run_ours(options, store, precision)))
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed"
        pack = [
            "-m",
            "momentret",
            "features",
            "pack",
            str(options.features),
            str(packed),
            "--video",
            "clip",
            "--text",
            "clip",
        ]
        subprocess.run([sys.executable, *pack], check=True, stdout=subprocess.DEVNULL)
        results = measure(options, packed)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        show(results)


def measure(options: argparse.Namespace, packed: Path) -> dict[str, dict[str, float]]:
    """Run all sides in turn and return the median of each figure."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for number in range(options.rounds):
        for name, (side, store, precision) in SIDES.items():
            features = packed if store == "packed" else options.features
            python = options.reference_python if side == "official" else sys.executable
            command = [python, __file__, "--reference", options.reference, "--annotations", options.annotations]
            command += ["--features", features, "--steps", options.steps, "--worker", side, store, precision]
            threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            done = subprocess.run(
                list(map(str, command)), env={**os.environ, **threads}, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {name}: {runs[name][-1]['cpu_s']:.3f} CPU-s a step", file=sys.stderr)
    return {name: {key: statistics.median(run[key] for run in rows) for key in rows[0]} for name, rows in runs.items()}


def show(results: dict[str, dict[str, float]]) -> None:
    official = results["official float32, npz"]["cpu_s"]
    print(f"{'':28}{'CPU-s a step':>14}{'speed-up':>10}{'loading':>9}{'of peak':>9}")
    for name, row in results.items():
        peak = f"{GFLOP_PER_STEP / row['cpu_s'] / row['peak_gflops']:.0%}" if "float32" in name else ""
        print(f"{name:28}{row['cpu_s']:14.3f}{official / row['cpu_s']:9.2f}x{row['loading_share']:9.1%}{peak:>9}")


def clock(steps: int, step: object) -> tuple[float, float]:
    """Return CPU- and wall-seconds of one step after the warm-up, the median over steps for CPU."""
    cpu, wall = [], time.perf_counter()
    for number in range(steps + WARM_UP):
        if number == WARM_UP:
            wall = time.perf_counter()
        start = time.process_time()
        step()  # type: ignore[operator]
        cpu.append(time.process_time() - start)
    return statistics.mean(cpu[WARM_UP:]), (time.perf_counter() - wall) / steps


def peak_gflops() -> float:
    """Return the float32 matrix-product speed of one thread, in GFLOP per CPU-second."""
    import torch

    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    start = time.process_time()
    for _ in range(30):
        a @ b
    return 30 * 2 * 1024**3 / (time.process_time() - start) / 1e9


def run_official(options: argparse.Namespace) -> dict[str, float]:
    """Step the official code, its own loader included, as its train_epoch does."""
    sys.path.insert(0, str(options.reference))
    import torch
    from moment_detr.config import BaseOptions
    from moment_detr.inference import setup_model
    from moment_detr.start_end_dataset import StartEndDataset, prepare_batch_inputs, start_end_collate

    torch.set_num_threads(1)
    torch.manual_seed(1)
    clip, text = options.features / "clip_features", options.features / "clip_text_features"
    with tempfile.TemporaryDirectory() as results:
        sys.argv = ["train", "--dset_name", "hl", "--ctx_mode", "video_tef", "--v_feat_dirs", str(clip)]
        sys.argv += ["--v_feat_dim", "512", "--t_feat_dir", str(text), "--t_feat_dim", "512", "--device", "-1"]
        sys.argv += ["--exp_id", "bench", "--results_root", results]
        stdout, sys.stdout = sys.stdout, sys.stderr
        opt = BaseOptions().parse()
        sys.stdout = stdout
    sizes = {
        "max_q_l": opt.max_q_l,
        "max_v_l": opt.max_v_l,
        "clip_len": opt.clip_length,
        "max_windows": opt.max_windows,
    }
    data = StartEndDataset("hl", str(options.annotations), [str(clip)], str(text), ctx_mode="video_tef", **sizes)
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True, collate_fn=start_end_collate)
    model, criterion, optimizer, _ = setup_model(opt)
    model.train()
    batches, loading = iter(loader), []

    def step() -> None:
        start = time.process_time()
        inputs, targets = prepare_batch_inputs(next(batches)[1], torch.device("cpu"))
        loading.append(time.process_time() - start)
        losses = criterion(model(**inputs), targets)
        total = sum(losses[k] * criterion.weight_dict[k] for k in losses if k in criterion.weight_dict)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), opt.grad_clip)
        optimizer.step()

    cpu, wall = clock(options.steps, step)
    share = statistics.mean(loading[WARM_UP:]) / cpu
    return {"cpu_s": cpu, "wall_s": wall, "loading_share": share, "peak_gflops": peak_gflops()}


def run_ours(options: argparse.Namespace, store: str, precision: str) -> dict[str, float]:
    """Step our trainer: the real Lightning loop over the real recipe."""
    import warnings

    warnings.simplefilter("ignore")
    import torch
    from lightning import Callback, Trainer

    from momentret.models import MODELS
    from momentret.training.config import parse_run
    from momentret.training.data import MomentData
    from momentret.training.module import MomentModule
    from momentret.training.run import sized

    torch.set_num_threads(1)
    recipe = Path(__file__).parents[1] / "configs/qvhighlights/moment_detr_clip.yaml"
    layout = "packed" if store == "packed" else "moment_detr"
    arguments = ["--config", recipe, "--data.features.root", options.features, "--data.features.layout", layout]
    arguments += ["--data.annotations.train", options.annotations, "--data.annotations.val", options.annotations]
    run = parse_run([*map(str, arguments), "--train.precision", precision, "--output", "unused"])
    data = MomentData(run.data, run.train)
    data.setup()
    run = sized(run, data)
    loading: list[float] = []
    ends: list[float] = []
    walls: list[float] = []

    class Clock(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            loading.append(time.process_time())

        def on_train_batch_end(self, *_: object) -> None:
            ends.append(time.process_time())
            walls.append(time.perf_counter())

    steps = options.steps + WARM_UP
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        precision=precision,  # type: ignore[arg-type]
        logger=False,
        callbacks=[Clock()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    stdout, sys.stdout = sys.stdout, sys.stderr
    trainer.fit(MomentModule(MODELS[run.model_name][1](run.model), run.train), datamodule=data)
    sys.stdout = stdout
    cpu = (ends[-1] - ends[WARM_UP - 1]) / options.steps
    waits = [start - end for start, end in zip(loading[WARM_UP:], ends[WARM_UP - 1 :], strict=False)]
    wall = (walls[-1] - walls[WARM_UP - 1]) / options.steps
    return {"cpu_s": cpu, "wall_s": wall, "loading_share": statistics.mean(waits) / cpu, "peak_gflops": peak_gflops()}


if __name__ == "__main__":
    main()
