"""Frames and texts -> vectors of one space: the only door to open_clip. `FakeEncoder` ships for tests.

`load_encoder` takes what a user writes: ``fake``, ``offline``, ``ViT-B-32/openai``, ``ViT-B-32/clip.safetensors``.
"""

from __future__ import annotations

from momentret.encoders.base import Encoder, Fingerprint, QueryVectors
from momentret.encoders.fake import FakeEncoder
from momentret.encoders.phrases import split_phrases
from momentret.errors import ConfigError
from momentret.machine import keep_freed_memory

__all__ = ["Encoder", "FakeEncoder", "Fingerprint", "QueryVectors", "load_encoder", "split_phrases"]

PRECISIONS = ("fp32", "bf16")


def load_encoder(name: str, *, device: str = "cpu", precision: str = "fp32", batch_size: int = 32) -> Encoder:
    """Load an encoder by name; from then on the process keeps the memory that it frees, see `keep_freed_memory`.

    Args:
        name: ``fake`` (colours, for tests), ``offline`` (objects only, for trying out; extra ``offline``), or an
            open_clip model: ``ARCHITECTURE/TAG``, ``ARCHITECTURE/FILE`` or ``local-dir:FOLDER``.
        device: where it runs.
        precision: ``fp32`` or ``bf16``; of open_clip models.
        batch_size: images or texts at once.

    Raises:
        ConfigError: an unknown name, or a package is missing.
        CheckpointError: the weights cannot be had, or are not what they should be.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"no precision {precision!r}; use {' or '.join(PRECISIONS)}")
    if name == "fake":
        return FakeEncoder()
    keep_freed_memory()
    if name == "offline":
        from momentret.encoders.offline import OfflineEncoder

        return OfflineEncoder(device=device, batch_size=batch_size)
    from momentret.encoders.openclip import OpenClipEncoder

    return OpenClipEncoder(name, device=device, precision=precision, batch_size=batch_size)
