#!/usr/bin/env python
"""How fast videos become features: the pipeline beside its two stages alone, and the decoders beside each other.

    scripts/bench_extract.py [--videos 3] [--seconds 40] [--encoder ENCODER] [--fps 2] [--repeats 3]
    scripts/bench_extract.py --decoders

Videos are rendered first (H.264, 1280x720, 30 frames per second). Without --encoder, a ViT-B/32 of random weights is
made: its speed is that of a trained one. Stages are interleaved, the best of the repeats counts. `amon-hen` (if its
command is there and has its weights) is timed on the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from momentret.encoders import Encoder, load_encoder
from momentret.encoders.torchvision import require_torchvision
from momentret.errors import MomentretError
from momentret.extract import ExtractConfig, Ledger, extract, find_videos
from momentret.video import IsolatedDecoder, Sampling, sample_frames
from momentret.video.probe import probe


def render(path: Path, seconds: float, size: tuple[int, int] = (1280, 720), rate: int = 30, **options: str) -> Path:
    """Write a moving pattern with some noise: about what a film costs to decode."""
    import av

    numbers = np.random.default_rng(0)
    noise = [numbers.integers(0, 24, (size[1], size[0], 3), np.uint8) for _ in range(8)]
    rows, columns = np.mgrid[: size[1], : size[0]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "28", **options})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(int(seconds * rate)):
            wave = ((rows // 4 + columns // 6 + 2 * i) % 200).astype(np.uint8)
            image = wave[..., None] + noise[i % len(noise)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def random_clip(folder: Path) -> str:
    """Save a ViT-B/32 of random weights as open_clip does, and return its name."""
    require_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config("ViT-B-32")
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    folder.mkdir()
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Return wall seconds and CPU-seconds, child processes included, of one call."""
    before, began = os.times(), time.monotonic()
    function()
    after = os.times()
    return time.monotonic() - began, sum(after[:4]) - sum(before[:4])


def decode(paths: list[Path], sampling: Sampling) -> list[list[np.ndarray]]:
    with IsolatedDecoder() as decoder:
        return [[frame.image for frame in decoder.frames(path, sampling)] for path in paths]


def encode(films: list[list[np.ndarray]], encoder: Encoder) -> None:
    for images in films:
        for start in range(0, len(images), 32):
            encoder.encode_frames(images[start : start + 32])


def pipeline(paths: list[Path], encoder: Encoder, config: ExtractConfig, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "partial", config, encoder.fingerprint)
        assert all(o.error is None for o in extract(find_videos(paths), encoder, config, ledger, workers=workers))


def amon_hen(paths: list[Path], fps: float) -> str | None:
    """Index the pictures of videos with amon-hen, in a new database; return why it could not, if it could not."""
    if not shutil.which("amon-hen"):
        return "there is no such command"
    with tempfile.TemporaryDirectory() as folder:
        command = ["amon-hen", "index", "--db", f"{folder}/index.db", "--fps", str(fps), "--no-audio"]
        command += map(str, paths)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else None


def bench_pipeline(folder: Path, arguments: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(arguments.threads)
    encoder = load_encoder(arguments.encoder or random_clip(folder / "clip"), precision=arguments.precision)
    paths = [render(folder / f"{i}.mp4", arguments.seconds) for i in range(arguments.videos)]
    config = ExtractConfig(2.0, arguments.fps)
    sampling = config.sampling(encoder.frame_size)
    films = decode(paths, sampling)
    encode(films[:1], encoder)  # warm
    stages: dict[str, Callable[[], object]] = {
        "decode alone": lambda: decode(paths, sampling),
        "encode alone": lambda: encode(films, encoder),
        "decode, then encode": lambda: encode(decode(paths, sampling), encoder),
        "pipeline": lambda: pipeline(paths, encoder, config, arguments.workers),
    }
    reason = amon_hen(paths, arguments.fps)
    if reason is None:
        stages["amon-hen"] = lambda: amon_hen(paths, arguments.fps)
    else:
        print(f"without amon-hen: {reason}")
    runs = {name: [] for name in stages}
    for _ in range(arguments.repeats):
        for name, stage in stages.items():
            runs[name].append(timed(stage))
    length, count = arguments.videos * arguments.seconds, sum(map(len, films))
    best = {name: min(wall for wall, _ in times) for name, times in runs.items()}
    print(f"{arguments.videos} videos of {arguments.seconds:g} s, {count} frames encoded, {encoder.fingerprint.name}")
    for name, times in runs.items():
        processor = min(cpu for _, cpu in times)
        print(f"{name:20} {best[name]:7.2f} s wall {processor:7.2f} CPU-s {length / best[name]:7.1f} x real time")
    slower = max(best["decode alone"], best["encode alone"])
    print(f"pipeline: {slower / best['pipeline']:.0%} of the throughput of the slower stage alone")
    print(f"probing a file: {timed(lambda: [probe(paths[0]) for _ in range(1_000)])[1]:.2f} ms of CPU")


def bench_decoders(folder: Path, arguments: argparse.Namespace) -> None:
    """Print CPU-seconds of both decoders on files that decord gets right, by how far apart the wanted frames are."""
    kinds = {"h264, keyframes 1 s apart": {"g": "30", "bf": "0"}, "h264, keyframes 8 s apart": {"g": "250", "bf": "0"}}
    for kind, options in kinds.items():
        path = render(folder / "a.mp4", arguments.seconds, (640, 360), **options)
        for clip_length in (0.5, 2.0, 5.0):
            best = dict.fromkeys(("pyav", "decord"), float("inf"))
            for _ in range(arguments.repeats):
                for name in best:
                    sampling = Sampling(clip_length, size=224)
                    try:
                        best[name] = min(best[name], timed(lambda: list(sample_frames(path, sampling, name)))[1])  # noqa: B023
                    except MomentretError as error:
                        print(error)
            print(
                f"{kind}, one frame every {clip_length:g} s: "
                + ", ".join(f"{n} {t:.2f} CPU-s" for n, t in best.items())
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--encoder")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--decoders", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (bench_decoders if arguments.decoders else bench_pipeline)(Path(folder), arguments)


if __name__ == "__main__":
    main()
