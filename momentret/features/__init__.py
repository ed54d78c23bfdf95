"""Features by id: packages of the community read as they are, and our packed, memory-mapped store.

`open_store(FeatureConfig(...))` gives a `FeatureStore`. Rows are as they are on file; `momentret.inputs` prepares them.
"""

from __future__ import annotations

from momentret.features.layouts import LAYOUTS
from momentret.features.maintenance import check_store, pack_store, summarise_store
from momentret.features.manifest import SourceManifest, StoreManifest
from momentret.features.packed import PackedSource, staged_folder, write_family
from momentret.features.sources import FeatureSource
from momentret.features.store import FeatureConfig, FeatureStore, find_families, open_store

__all__ = [
    "LAYOUTS",
    "FeatureConfig",
    "FeatureSource",
    "FeatureStore",
    "PackedSource",
    "SourceManifest",
    "StoreManifest",
    "check_store",
    "find_families",
    "open_store",
    "pack_store",
    "staged_folder",
    "summarise_store",
    "write_family",
]
