"""What a set of features is: the facts that a model was trained on and that later features must share.

A manifest says; it does not read files. Where rows come from is `sources` and `packed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from momentret.errors import FeatureError, MismatchError

__all__ = ["FORMAT_VERSION", "NORMALISATIONS", "SourceManifest", "StoreManifest", "same_fact"]

FORMAT_VERSION = 1
NORMALISATIONS = ("none", "l2")

COMPARED = ("dimension", "clip_length", "encoder", "weights_hash", "layer", "normalisation")
_OPTIONAL_TEXT = ("encoder", "weights_hash", "layer")
_OPTIONAL_NUMBER = ("clip_length", "fps")


@dataclass(frozen=True)
class SourceManifest:
    """The facts about one feature family. None means unknown; an unknown fact is never compared.

    Raises:
        FeatureError: a value of the wrong type or out of range, at construction.
    """

    family: str
    """Name of the family: ``clip``, ``slowfast``."""
    dimension: int
    """Width D of a row."""
    clip_length: float | None = None
    """Seconds per row; None for text and where it differs between videos."""
    encoder: str | None = None
    """Network and its weights by name: ``ViT-B-32/openai``."""
    weights_hash: str | None = None
    """Hash of the encoder's weights file."""
    layer: str | None = None
    """Where in the network the rows were taken."""
    fps: float | None = None
    """Frames per second that the encoder saw."""
    normalisation: str = "none"
    """What the rows on file already are: ``none`` or ``l2``."""
    dtype: str = "float32"
    """Number format on file."""
    format_version: int = FORMAT_VERSION
    """Version of the packed format."""

    def __post_init__(self) -> None:
        if not isinstance(self.family, str) or not self.family:
            raise FeatureError(f"family is {self.family!r}, expected a name")
        for name in ("dimension", "format_version"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise FeatureError(f"{name} of {self.family!r} is {value!r}, expected a whole number from 1")
        for name in _OPTIONAL_NUMBER:
            value = getattr(self, name)
            if value is not None and not (type(value) in (int, float) and math.isfinite(value) and value > 0):
                raise FeatureError(f"{name} of {self.family!r} is {value!r}, expected a number above 0 or null")
        for name in _OPTIONAL_TEXT:
            if not isinstance(getattr(self, name), str | None):
                raise FeatureError(f"{name} of {self.family!r} is {getattr(self, name)!r}, expected a name or null")
        if self.normalisation not in NORMALISATIONS:
            raise FeatureError(f"normalisation of {self.family!r} is {self.normalisation!r}, expected 'none' or 'l2'")
        if self.dtype not in ("float16", "float32"):
            raise FeatureError(f"dtype of {self.family!r} is {self.dtype!r}, expected 'float16' or 'float32'")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> SourceManifest:
        """Read what `to_dict` wrote.

        Raises:
            FeatureError: not a mapping, a key missing or unknown, a value out of range.
        """
        if not isinstance(values, Mapping):
            raise FeatureError(f"a feature manifest is a {type(values).__name__}, expected an object")
        known = {field.name for field in fields(cls)}
        unknown, absent = sorted(map(str, set(values) - known)), sorted(known - set(values))
        if unknown or absent:
            raise FeatureError(f"feature manifest: unknown keys {unknown}, missing keys {absent}; write it again")
        return cls(**values)

    def require_match(self, found: SourceManifest, name: str) -> None:
        """Raise `MismatchError` for the first known fact in which `found` differs; `name` says which source it is."""
        for field in COMPARED:
            own, other = getattr(self, field), getattr(found, field)
            if own is not None and other is not None and not same_fact(own, other):
                raise MismatchError(
                    f"{name}: {field} is {other!r}, but the model was trained with {own!r}; "
                    "use features made the same way, or a model trained on these"
                )


def same_fact(own: Any, other: Any) -> bool:
    """Compare, numbers up to rounding: packages write 1/6 s as 0.166666."""
    if isinstance(own, float) or isinstance(other, float):
        return math.isclose(own, other, rel_tol=1e-4)
    return bool(own == other)


@dataclass(frozen=True)
class StoreManifest:
    """The facts about a store: its video sources in the order in which they are joined, and its text."""

    video: tuple[SourceManifest, ...]
    text: SourceManifest | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` takes them back."""
        return {"video": [source.to_dict() for source in self.video], "text": self.text and self.text.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> StoreManifest:
        """Read what `to_dict` wrote.

        Raises:
            FeatureError: the values are not those of a manifest.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("video"), list):
            raise FeatureError("a store manifest must be an object with a list 'video'; write it again")
        text = values.get("text")
        return cls(
            video=tuple(SourceManifest.from_dict(source) for source in values["video"]),
            text=None if text is None else SourceManifest.from_dict(text),
        )

    def require_match(self, found: StoreManifest) -> None:
        """Refuse features that a model trained on `self` must not be given.

        Compared: number, order and families of the video sources; for each of them and for the text, dimension,
        clip length, encoder, weights hash, layer and normalisation, where both sides know them.

        Raises:
            MismatchError: naming the source and the field.
        """
        trained, given = [s.family for s in self.video], [s.family for s in found.video]
        if len(trained) != len(given):
            raise MismatchError(
                f"number of video sources is {len(given)} ({', '.join(given)}), but the model was trained with "
                f"{len(trained)}; set features.video to {','.join(trained)}"
            )
        if trained != given:
            what = "order" if sorted(trained) == sorted(given) else "family"
            raise MismatchError(
                f"{what} of video sources is {','.join(given)}, but the model was trained with {','.join(trained)}; "
                f"set features.video to {','.join(trained)}"
            )
        for own, other in zip(self.video, found.video, strict=True):
            own.require_match(other, f"video source {own.family!r}")
        if self.text is not None and found.text is not None:
            self.text.require_match(found.text, "text source")
