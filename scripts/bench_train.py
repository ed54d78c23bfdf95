#!/usr/bin/env python3
"""Training speed beside the official Moment-DETR script: seconds a step, data loading included, one thread.

    scripts/bench_train.py --reference CHECKOUT --reference-python PYTHON \
        --annotations highlight_train_release.jsonl --features FEATURES [--device cuda] [--steps 40] [--rounds 3]

Each round runs every side in a process of its own, one after the other: the official code, ours in float32 from the
same npz folder, ours from a packed copy of it, ours in bfloat16 mixed precision. The first steps of each are warm-up.
Reported are medians over the rounds, ratios to the official code, and how far the arithmetic is from the machine's
matrix-product speed. On a CPU the measure is CPU-seconds; with ``--device cuda`` it is time on the clock, and recorded
steps (CUDA graphs) stand beside launched ones.
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
from collections.abc import Callable
from pathlib import Path

WARM_UP = 5
GFLOP_PER_STEP = 32  # matrix products of one float32 step at batch 32, 75 clips and 20 words
SIDES = {
    "cpu": {
        "official float32, npz": ("official", "npz", "32-true"),
        "ours float32, npz": ("ours", "npz", "32-true"),
        "ours float32, packed": ("ours", "packed", "32-true"),
        "ours bf16-mixed, packed": ("ours", "packed", "bf16-mixed"),
    },
    "cuda": {
        "official float32, npz": ("official", "npz", "32-true"),
        "ours float32, launched": ("launched", "packed", "32-true"),
        "ours float32": ("ours", "packed", "32-true"),
        "ours bf16-mixed": ("ours", "packed", "bf16-mixed"),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="checkout of jayleicn/moment_detr")
    parser.add_argument("--reference-python", default=sys.executable, help="an interpreter that can run it")
    parser.add_argument("--annotations", type=Path, required=True, help="QVHighlights training annotations")
    parser.add_argument("--features", type=Path, required=True, help="holds clip_features and clip_text_features")
    parser.add_argument("--device", choices=SIDES, default="cpu")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, store, precision = options.worker
        print(json.dumps(run_official(options) if side == "official" else run_ours(options, side, store, precision)))
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
        show(results, "cpu_s" if options.device == "cpu" else "wall_s")


def measure(options: argparse.Namespace, packed: Path) -> dict[str, dict[str, float]]:
    """Run all sides in turn and return the median of each figure."""
    sides = SIDES[options.device]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, (side, store, precision) in sides.items():
            features = packed if store == "packed" else options.features
            python = options.reference_python if side == "official" else sys.executable
            command = [python, __file__, "--reference", options.reference, "--annotations", options.annotations]
            command += ["--features", features, "--device", options.device, "--steps", options.steps]
            command += ["--worker", side, store, precision]
            threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            done = subprocess.run(
                list(map(str, command)), env={**os.environ, **threads}, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
            last = runs[name][-1]
            print(
                f"round {number + 1}: {name}: {last['cpu_s']:.4f} CPU-s, {last['wall_s']:.4f} s a step", file=sys.stderr
            )
    return {name: {key: statistics.median(run[key] for run in rows) for key in rows[0]} for name, rows in runs.items()}


def show(results: dict[str, dict[str, float]], measure: str) -> None:
    official = results["official float32, npz"][measure]
    unit = "CPU-ms a step" if measure == "cpu_s" else "ms a step"
    print(f"{'':28}{unit:>14}{'speed-up':>10}{'loading':>9}{'of peak':>9}")
    for name, row in results.items():
        peak = f"{GFLOP_PER_STEP / row['cpu_s'] / row['peak_gflops']:.0%}" if row["peak_gflops"] else ""
        ratio = official / row[measure]
        print(f"{name:28}{1000 * row[measure]:14.1f}{ratio:9.2f}x{row['loading_share']:9.1%}{peak:>9}")


def clock(steps: int, step: object) -> tuple[float, float]:
    """Return the mean CPU- and wall-seconds of one step after the warm-up."""
    cpu, wall = [], time.perf_counter()
    for number in range(steps + WARM_UP):
        if number == WARM_UP:
            wall = time.perf_counter()
        start = time.process_time()
        step()  # type: ignore[operator]
        cpu.append(time.process_time() - start)
    return statistics.mean(cpu[WARM_UP:]), (time.perf_counter() - wall) / steps


def timer(options: argparse.Namespace) -> Callable[[], float]:
    """Return the clock that a share of a step is measured by."""
    return time.process_time if options.device == "cpu" else time.perf_counter


def peak_gflops(options: argparse.Namespace) -> float:
    """Return the float32 matrix-product speed of one CPU thread, in GFLOP per CPU-second; 0 for a GPU."""
    import torch

    if options.device != "cpu":
        return 0.0
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    start = time.process_time()
    for _ in range(30):
        a @ b
    return 30 * 2 * 1024**3 / (time.process_time() - start) / 1e9


def run_official(options: argparse.Namespace) -> dict[str, float]:
    """Step the official code, its own loader included, as its train_epoch does."""
    import official_moment_detr as official
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    chosen = official.options(options.reference, options.features, "--device", "-1" if options.device == "cpu" else "0")
    data = official.data(chosen, options.annotations)
    from moment_detr.start_end_dataset import prepare_batch_inputs, start_end_collate

    workers = 0 if options.device == "cpu" else chosen.num_workers
    loader = torch.utils.data.DataLoader(
        data, batch_size=32, shuffle=True, collate_fn=start_end_collate, num_workers=workers
    )
    theirs = official.Stepper(chosen)
    batches, loading, now = iter(loader), [], timer(options)

    def step() -> None:
        start = now()
        inputs, targets = prepare_batch_inputs(next(batches)[1], chosen.device)
        loading.append(now() - start)
        theirs.step(inputs, targets)

    cpu, wall = clock(options.steps, step)
    share = statistics.mean(loading[WARM_UP:]) / (cpu if options.device == "cpu" else wall)
    return {"cpu_s": cpu, "wall_s": wall, "loading_share": share, "peak_gflops": peak_gflops(options)}


def run_ours(options: argparse.Namespace, side: str, store: str, precision: str) -> dict[str, float]:
    """Step our trainer: the real Lightning loop over the real recipe."""
    import warnings

    warnings.simplefilter("ignore")
    import torch
    from lightning import Callback, Trainer

    from momentret.machine import keep_freed_memory
    from momentret.models import MODELS
    from momentret.training.config import parse_run
    from momentret.training.data import MomentData
    from momentret.training.module import MomentModule
    from momentret.training.run import full_shape, sized

    torch.set_num_threads(1)
    keep_freed_memory()
    recipe = Path(__file__).parents[1] / "configs/qvhighlights/moment_detr_clip.yaml"
    layout = "packed" if store == "packed" else "moment_detr"
    arguments = ["--config", recipe, "--data.features.root", options.features, "--data.features.layout", layout]
    arguments += ["--data.annotations.train", options.annotations, "--data.annotations.val", options.annotations]
    run = parse_run([*map(str, arguments), "--train.precision", precision, "--output", "unused"])
    run.train.device, run.train.cuda_graphs = options.device, side != "launched"
    data = MomentData(run.data, run.train)
    data.setup()
    run = sized(run, data)
    loading, ends, cpus, walls, now = list[float](), list[float](), list[float](), list[float](), timer(options)

    class Clock(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            loading.append(now())

        def on_train_batch_end(self, *_: object) -> None:
            ends.append(now())
            cpus.append(time.process_time())
            walls.append(time.perf_counter())

    steps = options.steps + WARM_UP
    trainer = Trainer(
        accelerator="gpu" if options.device == "cuda" else "cpu",
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
    model = MODELS[run.model_name][1](run.model)
    trainer.fit(MomentModule(model, run.train, full_shape(run)), datamodule=data)
    sys.stdout = stdout
    cpu = (cpus[-1] - cpus[WARM_UP - 1]) / options.steps
    waits = [start - end for start, end in zip(loading[WARM_UP:], ends[WARM_UP - 1 :], strict=False)]
    wall = (walls[-1] - walls[WARM_UP - 1]) / options.steps
    share = statistics.mean(waits) / (cpu if options.device == "cpu" else wall)
    return {"cpu_s": cpu, "wall_s": wall, "loading_share": share, "peak_gflops": peak_gflops(options)}


if __name__ == "__main__":
    main()
