#!/usr/bin/env python3
"""One query about a very long video: seconds and peak memory of the whole `momentret predict` command.

    scripts/bench_predict.py [--clips 18000] [--checkpoint FILE]

Without a checkpoint a full-size model with random weights is made: the time does not depend on the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np


def random_checkpoint(path: Path) -> None:
    import torch

    from momentret.features import SourceManifest, StoreManifest
    from momentret.inputs import InputConfig
    from momentret.models import MODELS
    from momentret.models.checkpoint import save_checkpoint
    from momentret.postprocess import PostprocessConfig

    torch.manual_seed(0)
    config, model = MODELS["moment_detr"]
    source = SourceManifest(family="clip", dimension=512, clip_length=2.0)
    settings = config(video_dim=514, text_dim=512)
    save_checkpoint(
        path,
        model(settings),
        model_name="moment_detr",
        config=asdict(settings),
        inputs=asdict(InputConfig()),
        features=StoreManifest(video=(source,), text=source).to_dict(),
        postprocess=asdict(PostprocessConfig()),
        trained_on={"dataset": "qvhighlights", "clip_length": 2.0},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=18_000, help="2-second clips; 18,000 are ten hours")
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        for family, stem, key, rows in (
            ("clip_features", "day", "features", options.clips),
            ("clip_text_features", "qid1", "last_hidden_state", 12),
        ):
            (folder / family).mkdir()
            np.savez(folder / family / f"{stem}.npz", **{key: random.standard_normal((rows, 512)).astype(np.float16)})
        query = {"qid": 1, "query": "a red car turns left", "vid": "day", "duration": options.clips * 2.0}
        (folder / "query.jsonl").write_text(json.dumps(query) + "\n")
        checkpoint = options.checkpoint or folder / "random.safetensors"
        if options.checkpoint is None:
            random_checkpoint(checkpoint)
        command = [
            sys.executable,
            "-m",
            "momentret",
            "predict",
            checkpoint,
            folder / "query.jsonl",
            "--features",
            folder,
        ]
        start = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*map(str, command), "--output", str(folder / "answer.jsonl")], check=True, env=environment)
        wall = time.perf_counter() - start
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            f"{options.clips} clips: {wall:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} CPU-s, "
            f"peak {usage.ru_maxrss / 1024:.0f} MB, start-up included"
        )


if __name__ == "__main__":
    main()
