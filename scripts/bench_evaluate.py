#!/usr/bin/env python3
"""CPU seconds of `momentret evaluate` beside those of the official QVHighlights script, imports included.

    scripts/bench_evaluate.py PREDICTIONS GROUND_TRUTH --reference CHECKOUT [--reference-python PYTHON] [--rounds 5]

CHECKOUT is a clone of the official repository (it has ``standalone_eval/eval.py``), PYTHON an interpreter with numpy
and scikit-learn. Both run as programs, in turns; the medians of user plus system time of each process and all its
children are compared, and so are the two reports: a fast wrong answer is no answer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def cpu_seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """Run one program that may import from the folder; return its CPU seconds, children included, and its stdout."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("ground_truth", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--reference-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    inputs = [str(arguments.predictions.resolve()), str(arguments.ground_truth.resolve())]

    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "official.json"
        ours = [sys.executable, "-m", "momentret", "evaluate", *inputs]
        official = [arguments.reference_python, "standalone_eval/eval.py", "--not_verbose", "--save_path", str(saved)]
        official += ["--submission_path", inputs[0], "--gt_path", inputs[1]]
        times: dict[str, list[float]] = {"official": [], "--json": [], "table and baseline": []}
        for _ in range(arguments.rounds):
            times["official"].append(cpu_seconds(official, arguments.reference.resolve())[0])
            seconds, report = cpu_seconds([*ours, "--json"], HERE)
            times["--json"].append(seconds)
            times["table and baseline"].append(cpu_seconds(ours, HERE)[0])
        same = json.loads(report) == json.loads(saved.read_text())

    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:>20}: {median:6.2f} CPU-s, {medians['official'] / median:5.1f}x, of {len(times[name])} rounds")
    print("reports are equal" if same else "REPORTS DIFFER")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
