"""The open_clip door, with a small model of random weights saved to local files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from momentret.encoders import Encoder, load_encoder
from momentret.encoders.torchvision import require_torchvision
from momentret.errors import CheckpointError, ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries that open_clip imports

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def save_model(path: Path, config: dict[str, Any]) -> None:
    """Save a model of random weights in open_clip's own form."""
    require_torchvision()
    import open_clip

    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if it had been trained
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(model.state_dict(), path / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in open_clip's own form, and its weights in a file alone."""
    path = tmp_path_factory.mktemp("clip")
    save_model(path, CONFIG)
    import open_clip

    (path / "tiny-clip.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(path / "tiny-clip.json")
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(f"local-dir:{folder}")


def pictures(count: int) -> list[np.ndarray]:
    numbers = np.random.default_rng(3)
    return [numbers.integers(0, 256, (40 + 5 * i, 64, 3), np.uint8) for i in range(count)]


def test_a_local_folder_is_loaded_without_a_network(encoder: Encoder) -> None:
    frames, texts = encoder.encode_frames(pictures(3)), encoder.encode_text(["a dog", "a cat"])
    assert (frames.shape, texts.shape) == ((3, 24), (2, 24))
    assert frames.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.concatenate((frames, texts)), axis=1), 1, rtol=1e-5)
    assert (encoder.frame_size, encoder.fingerprint.dimension) == (32, 24)


def test_vectors_are_those_of_open_clip(encoder: Encoder, folder: Path) -> None:
    import open_clip
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    image, words = pictures(1)[0], open_clip.get_tokenizer(f"local-dir:{folder}")(["a dog"])
    with torch.inference_mode():
        frame = model.eval().encode_image(preprocess(Image.fromarray(image))[None], normalize=True)
        text = model.encode_text(words, normalize=True)
    np.testing.assert_allclose(encoder.encode_frames([image]), frame, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_text(["a dog"]), text, atol=1e-6)


def test_branches_of_training_become_one_without_changing_a_vector(tmp_path: Path) -> None:
    vision = {"timm_model_name": "fastvit_t8", "timm_model_pretrained": False, "timm_proj": "linear", "image_size": 64}
    save_model(tmp_path, CONFIG | {"vision_cfg": vision})
    import open_clip
    from PIL import Image

    encoder = load_encoder(f"local-dir:{tmp_path}")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    images = pictures(3)
    with torch.inference_mode():
        rows = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        expected = model.eval().encode_image(rows, normalize=True)
    np.testing.assert_allclose(encoder.encode_frames(images), expected, atol=1e-5)
    branched, joined = (sum(1 for _ in m.modules()) for m in (model.visual, encoder._model.visual))
    assert joined < branched / 2


def test_batches_do_not_change_a_vector(folder: Path, encoder: Encoder) -> None:
    small = load_encoder(f"local-dir:{folder}", batch_size=2)
    np.testing.assert_allclose(small.encode_frames(pictures(5)), encoder.encode_frames(pictures(5)), atol=1e-6)
    assert encoder.encode_frames([]).shape == encoder.encode_text([]).shape == (0, 24)


def test_a_weights_file_has_the_fingerprint_of_its_numbers(folder: Path, encoder: Encoder) -> None:
    by_file = load_encoder(f"tiny-clip/{folder / 'open_clip_model.safetensors'}")
    assert by_file.fingerprint.weights_hash == encoder.fingerprint.weights_hash
    pickled = folder / "weights.pt"
    changed = {name: value.clone() for name, value in _weights(folder).items()}
    changed["logit_scale"] += 1
    torch.save(changed, pickled)
    assert load_encoder(f"tiny-clip/{pickled}").fingerprint.weights_hash != encoder.fingerprint.weights_hash


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "open_clip_model.safetensors")


def test_bf16_is_near_fp32_and_comparable(folder: Path, encoder: Encoder) -> None:
    half = load_encoder(f"local-dir:{folder}", precision="bf16")
    cosine = (half.encode_frames(pictures(4)) * encoder.encode_frames(pictures(4))).sum(axis=1)
    assert cosine.min() > 0.999
    assert half.fingerprint == encoder.fingerprint


def test_phrases_are_the_default_tokens(encoder: Encoder) -> None:
    found = encoder.encode_query("a dog catches a frisbee")
    assert found.names == ("a dog catches a frisbee", "a dog catches", "a frisbee")
    np.testing.assert_allclose(found.tokens[2], encoder.encode_text(["a frisbee"])[0], atol=1e-6)


def test_states_are_the_projected_word_pieces(encoder: Encoder) -> None:
    found = encoder.encode_query("a dog runs", "states")
    assert found.names == ("a", "dog", "runs")
    assert found.tokens.shape == (3, 24)
    np.testing.assert_allclose(found.sentence, encoder.encode_text(["a dog runs"])[0], atol=1e-6)
    assert not np.allclose(found.tokens[0], found.tokens[1])


@pytest.mark.parametrize("tokens", ["phrases", "states"])
def test_an_empty_query_is_refused(encoder: Encoder, tokens: str) -> None:
    with pytest.raises(DataError, match="the query is empty"):
        encoder.encode_query(" ", tokens)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-23/openai", "no encoder 'ViT-B-23/openai', did you mean 'ViT-B-"),
        ("offline/x", "no encoder 'offline/x', did you mean 'offline'"),
        ("what is this", r"no encoder 'what is this'; write ARCHITECTURE/TAG, .*ARCHITECTURE/FILE, .*offline.*fake"),
        ("ofline", "no encoder 'ofline', did you mean 'offline'"),
        ("ViT-B-32", r"'ViT-B-32' names no weights; write ViT-B-32/FILE or ViT-B-32/TAG \(.*openai"),
        ("ViT-B-32/opnai", "weights 'opnai', which are neither a file nor a known tag"),
    ],
)
def test_a_name_that_says_nothing_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder(name)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('ran what a file says')",)


def test_files_that_are_no_weights_of_the_model_are_refused(folder: Path) -> None:
    other = folder / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    torch.save({"state_dict": Trap()}, folder / "trap.pt")
    (folder / "noise.safetensors").write_bytes(b"\xff" * 100)
    (folder / "noise.pt").write_bytes(b"\xff" * 100)
    for name in ("other.safetensors", "trap.pt", "noise.safetensors", "noise.pt"):
        with pytest.raises(CheckpointError, match=f"{name}' cannot be loaded .*pass the file"):
            load_encoder(f"tiny-clip/{folder / name}")


def test_a_precision_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no precision 'fp16'; use fp32 or bf16"):
        load_encoder(f"local-dir:{folder}", precision="fp16")
