"""The feature store: all sources of a run behind one door, opened from a config, packed and checked as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from momentret.config import nearest
from momentret.errors import ConfigError, FeatureError, MismatchError
from momentret.features.folder import FolderSource, Pattern
from momentret.features.hdf5 import Hdf5Source
from momentret.features.layouts import ANY, LAYOUTS, PACKED, Families, Family
from momentret.features.manifest import SourceManifest, StoreManifest, same_fact
from momentret.features.packed import PackedSource
from momentret.features.sources import FeatureSource

__all__ = ["FeatureConfig", "FeatureStore", "find_families", "open_store"]

OpenSource = FolderSource | Hdf5Source | PackedSource


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Where the features of a run lie."""

    layout: str = "moment_detr"
    """A name of `momentret.features.LAYOUTS`. A packed store is recognised whatever is written here."""
    root: Path
    """The folder that the layout's paths start from; for ``hdf5`` also the file itself."""
    video: tuple[str, ...] = ("clip",)
    """Video families, in the order in which their columns are joined."""
    text: str | None = "clip"
    """Text family. None: a store without text."""
    clip_length: float | None = None
    """Seconds per row where the layout does not know it, or these features differ. None: as the layout says."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "video", tuple(self.video))
        if self.layout not in LAYOUTS:
            raise ConfigError(f"features.layout {self.layout!r} is unknown{nearest(self.layout, list(LAYOUTS))}")
        if not self.video or len(set(self.video)) != len(self.video):
            raise ConfigError(f"features.video is {list(self.video)}, expected different family names, at least one")
        if self.clip_length is not None and not 0 < self.clip_length < float("inf"):
            raise ConfigError(f"features.clip_length is {self.clip_length}, expected seconds above 0")
        for name in (*self.video, *([] if self.text is None else [self.text])):
            if name in ("", ".", "..") or any(character in name for character in "/\\\0{}"):
                raise ConfigError(f"features: {name!r} cannot name a family")


class FeatureStore:
    """Features of videos and queries by id, as they are on file; preparing them is `momentret.inputs`."""

    def __init__(self, video: Sequence[FeatureSource], text: FeatureSource | None = None) -> None:
        self.video, self.text = tuple(video), text
        self.manifest = StoreManifest(tuple(source.manifest for source in video), text.manifest if text else None)
        _require_one_clip_length(self.manifest.video)

    def read_video(self, video_id: str) -> list[np.ndarray]:
        """Return one array ``(L_i, D_i)`` a source, in the stated order; read-only, not normalised.

        Raises:
            FeatureError: features are missing or damaged.
        """
        return [source.read(video_id) for source in self.video]

    def read_text(self, query_id: int | str) -> np.ndarray:
        """Return the token states ``(T, D)`` of a query; read-only, not normalised.

        Raises:
            FeatureError: features are missing or damaged, or the store has no text.
        """
        if self.text is None:
            raise FeatureError(
                f"query {query_id!r} has no features: the store was opened without text; set features.text"
            )
        return self.text.read(str(query_id))

    def missing(self, video_ids: Iterable[str], query_ids: Iterable[int | str] = ()) -> list[str]:
        """Return a line for every absent item: family, id and the files that were tried. Nothing is read."""
        videos, queries = sorted(set(video_ids)), sorted({str(query_id) for query_id in query_ids})
        absent = [source.where(item) for source in self.video for item in videos if item not in source]
        if self.text is None:
            return absent + [f"features of query {item!r} (the store was opened without text)" for item in queries]
        return absent + [self.text.where(item) for item in queries if item not in self.text]

    def families(self) -> Iterator[tuple[str, FeatureSource]]:
        """Yield ``("video/slowfast", source)``, …, ``("text/clip", source)``."""
        for source in self.video:
            yield f"video/{source.manifest.family}", source
        if self.text is not None:
            yield f"text/{self.text.manifest.family}", self.text


def _require_one_clip_length(sources: Sequence[SourceManifest]) -> None:
    """Refuse sources that cut time differently: their rows are joined."""
    known = [source for source in sources if source.clip_length is not None]
    for source in known[1:]:
        if not same_fact(source.clip_length, known[0].clip_length):
            raise MismatchError(
                f"clip_length of {source.family!r} is {source.clip_length} s, of {known[0].family!r} "
                f"{known[0].clip_length} s; join only families of one clip length"
            )


def open_store(config: FeatureConfig | Path | str, *, clip_length: float | None = None) -> FeatureStore:
    """Open every family that the config names; a folder alone stands for `FeatureConfig` with that root.

    Args:
        config: where they lie.
        clip_length: seconds per row where neither the config nor the files say it, instead of the layout's.

    Raises:
        ConfigError: the layout has no such family.
        FeatureError: a family is not below the root, or holds no readable features.
        MismatchError: `clip_length` contradicts what the features say about themselves.
    """
    if not isinstance(config, FeatureConfig):
        config = FeatureConfig(root=Path(config))
    _require_root(config.root)
    video = [_open_family(config, "video", name, config.clip_length or clip_length) for name in config.video]
    for source in video:
        _state_clip_length(source, config.clip_length)
    if config.text is None:
        return FeatureStore(video)
    return FeatureStore(video, _open_family(config, "text", config.text, None))


def _require_root(root: Path) -> None:
    if not root.exists():
        raise FeatureError(f"features.root {str(root)!r} does not exist; unpack the features there")


def _open_family(
    config: FeatureConfig, kind: Literal["video", "text"], name: str, clip_length: float | None
) -> OpenSource:
    """Open the first alternative of a family that is on disk, our packed format before all others."""
    layout = LAYOUTS[config.layout]
    packed: Families = getattr(PACKED, kind)
    families: Families = getattr(layout, kind)
    usual = layout.clip_length if kind == "video" else None
    known = families.get(name) or families.get(ANY)
    for family in (*packed[ANY], *(known or ())):
        own = replace(family, clip_length=clip_length or family.clip_length or usual)
        source = _kind(family).open(config.root, name, own)
        if source is not None:
            return source
    if known is None:
        raise ConfigError(f"layout {config.layout!r} has no {kind} family {name!r}{nearest(name, list(families))}")
    tried = " or ".join(pattern.replace("{family}", name) for family in known for pattern in family.files)
    raise FeatureError(
        f"{config.root} holds no {kind} features {name!r}: tried {tried}; unpack them there or set features.layout"
    )


def _kind(family: Family) -> type[FolderSource] | type[Hdf5Source] | type[PackedSource]:
    """Return who reads files of this pattern."""
    if "id}" in family.files[0]:
        return FolderSource
    return PackedSource if family.files[0].endswith("manifest.json") else Hdf5Source


def _state_clip_length(source: OpenSource, clip_length: float | None) -> None:
    """Fill in what the user says where the features do not say it; refuse a contradiction."""
    found = source.manifest.clip_length
    if clip_length is None or (found is not None and same_fact(found, clip_length)):
        return
    if found is not None:
        raise MismatchError(
            f"features.clip_length is {clip_length} s, but the {source.manifest.family!r} features say {found} s; "
            "leave the option out"
        )
    source.manifest = replace(source.manifest, clip_length=clip_length)


def find_families(layout: str, root: Path) -> tuple[tuple[str, ...], str | None]:
    """Return the video families and the text family that lie below a root.

    Args:
        layout: a name of `LAYOUTS`.
        root: the folder; a packed store is recognised whatever the layout.

    Raises:
        FeatureError: there is none, or the layout leaves the names to the user.
    """
    _require_root(root)
    packed = _packed_names(root, PACKED.video)
    if packed:
        return tuple(packed), next(iter(_packed_names(root, PACKED.text)), None)
    table = LAYOUTS[layout]
    video = tuple(name for name in table.video if _is_there(root, name, table.video))
    text = next((name for name in table.text if _is_there(root, name, table.text)), None)
    if not video:
        raise FeatureError(f"{root} holds no video features in the layout {layout!r}; name layout and families")
    return video, text


def _packed_names(root: Path, families: Families) -> list[str]:
    pattern = Pattern.find(root, families[ANY][0].files[0])
    return sorted(name for _, name in pattern.files()) if pattern else []


def _is_there(root: Path, name: str, families: Families) -> bool:
    return name != ANY and any(_kind(family).open(root, name, family) is not None for family in families[name])
