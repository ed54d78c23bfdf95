"""Any open_clip model, by name and weights or from local files; the only place that knows open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from momentret.config import nearest
from momentret.encoders.base import QUERY_TOKENS, Fingerprint, QueryVectors, batches, query_by_phrases, require_text
from momentret.encoders.torchvision import require_torchvision
from momentret.errors import CheckpointError, ConfigError

__all__ = ["OpenClipEncoder"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SCHEMES = ("local-dir:", "hf-hub:")
FORMS = (
    "write ARCHITECTURE/TAG, such as ViT-B-32/openai (open_clip.list_pretrained() tells all), ARCHITECTURE/FILE, "
    "local-dir:FOLDER, or offline, which needs no download; fake is for tests"
)


class OpenClipEncoder:
    """A CLIP-like model behind the `Encoder` protocol.

    Args:
        name: ``ARCHITECTURE/WEIGHTS``, where the weights are a tag that open_clip downloads once (``ViT-B-32/openai``)
            or a local file (``ViT-B-32/clip.safetensors``); or ``local-dir:FOLDER`` with open_clip's own files.
        device: where it runs.
        precision: ``fp32``, or ``bf16`` for weights and activations: four times as fast on CPUs with AMX, and cosine
            0.99995 to fp32. Autocast would be slower than fp32 there.
        batch_size: images or texts at once.

    Raises:
        ConfigError: no such architecture or weights, or torchvision cannot be imported.
        CheckpointError: the weights cannot be had or do not fit.
    """

    def __init__(self, name: str, *, device: str = "cpu", precision: str = "fp32", batch_size: int = 32) -> None:
        require_torchvision()
        import open_clip
        from timm.utils.model import reparameterize_model

        model, self._preprocess, self._tokenize = _create(open_clip, name)
        self._device, self._dtype, self.batch_size = torch.device(device), PRECISIONS[precision], batch_size
        weights_hash = _hash_weights(model)  # before the cast: both precisions make comparable vectors
        reparameterize_model(model.eval(), inplace=True)  # branches that only training needs become one
        self._model = model.to(self._device, self._dtype).requires_grad_(False)
        size = self._model.visual.image_size
        self.frame_size = size if isinstance(size, int) else max(size)
        self.fingerprint = Fingerprint(name, weights_hash, self._dimension())

    @torch.inference_mode()
    def _dimension(self) -> int:
        return int(self._model.encode_text(self._tokenize(["a"]).to(self._device)).shape[-1])

    @torch.inference_mode()
    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Return one vector an image; see `Encoder`."""
        from PIL import Image

        rows = [np.empty((0, self.fingerprint.dimension), np.float32)]
        for batch in batches(frames, self.batch_size):
            images = torch.stack([self._preprocess(Image.fromarray(frame)) for frame in batch])  # (N, 3, H, W)
            rows.append(self._to_rows(self._model.encode_image(images.to(self._device, self._dtype))))
        return np.concatenate(rows)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return one vector a text; see `Encoder`."""
        rows = [np.empty((0, self.fingerprint.dimension), np.float32)]
        for batch in batches(texts, self.batch_size):
            pieces = self._tokenize(list(batch)).to(self._device)  # (N, T)
            rows.append(self._to_rows(self._model.encode_text(pieces)))
        return np.concatenate(rows)

    def _to_rows(self, vectors: torch.Tensor) -> np.ndarray:
        return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()

    def encode_query(self, query: str, tokens: str = "phrases") -> QueryVectors:
        """Return the query with its phrases, or with the projected states of its word pieces; see `Encoder`."""
        if tokens not in QUERY_TOKENS or tokens == "phrases":
            return query_by_phrases(self, query, tokens)
        return self._query_by_states(require_text(query))

    @torch.inference_mode()
    def _query_by_states(self, query: str) -> QueryVectors:
        """Read the states behind the final norm, which the model itself projects at the end token only."""
        tower = getattr(self._model, "text", self._model)
        projection = getattr(tower, "text_projection", None)
        if not hasattr(tower, "ln_final") or projection is None or not hasattr(self._tokenize, "eot_token_id"):
            raise ConfigError(f"{self.fingerprint.name} does not project its token states; use phrases")
        states: list[torch.Tensor] = []
        hook = tower.ln_final.register_forward_hook(lambda module, inputs, output: states.append(output))
        try:
            pieces = self._tokenize([query]).to(self._device)  # (1, T)
            sentence = self._to_rows(self._model.encode_text(pieces))[0]
        finally:
            hook.remove()
        end = int((pieces[0] == self._tokenize.eot_token_id).nonzero()[0, 0])
        words = states[0][0, 1:end]  # (words, H), without the start and the end token
        projected = projection(words) if callable(projection) else words @ projection
        names = tuple(self._tokenize.decode([int(piece)]).strip() for piece in pieces[0, 1:end])
        return QueryVectors(sentence, self._to_rows(projected), names)


def _create(open_clip: Any, name: str) -> tuple[Any, Any, Any]:
    """Return model, preprocessing and tokenizer."""
    architecture, weights = (name, None) if name.startswith(SCHEMES) else _known(open_clip, name)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=weights)
        return model, preprocess, open_clip.get_tokenizer(architecture)
    except Exception as error:  # the loader of a stranger's file may raise anything
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"encoder {name!r} cannot be loaded ({reason}); get the weights where there is a network and pass the "
            f"file: ARCHITECTURE/FILE.safetensors"
        ) from error


def _known(open_clip: Any, name: str) -> tuple[str, str]:
    """Split ``ARCHITECTURE/WEIGHTS``, both checked."""
    architecture, _, weights = name.partition("/")
    if architecture not in open_clip.list_models():
        hint = nearest(architecture, ["offline", "fake", *open_clip.list_models()], FORMS)
        raise ConfigError(f"no encoder {name!r}{hint}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights in tags or Path(weights).is_file():
        return architecture, weights
    what = f"weights {weights!r}, which are neither a file nor a known tag" if weights else "no weights"
    known = f" ({', '.join(tags)})" if tags else ""
    raise ConfigError(f"encoder {name!r} names {what}; write {architecture}/FILE or {architecture}/TAG{known}")


def _hash_weights(model: torch.nn.Module) -> str:
    """Return a hash of every number of the model, in the order of their names."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
