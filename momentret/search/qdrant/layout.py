"""How a collection is laid out, and how it says so of itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from momentret.errors import DataError
from momentret.search.index import IndexSettings
from momentret.search.qdrant.client import Collection

__all__ = ["make_collection", "settings_of"]

_FORMAT = 1
_PAYLOAD_INDEXES = {
    "video_id": "keyword",
    "folders": "keyword",
    "duration": "float",
    "modified": "float",
    "chapter": "integer",
}
"""Payload fields that conditions are about."""


def make_collection(server: Collection, settings: IndexSettings, shards: int | None, replicas: int | None) -> None:
    """Make the collection, which must not exist, and note the settings in it."""
    server.create_collection(
        vectors_config=_layout(server.models, settings),
        shard_number=shards,
        replication_factor=replicas,
        metadata={"momentret": _FORMAT, "settings": asdict(settings)},
    )
    for field, schema in _PAYLOAD_INDEXES.items():
        server.index_payload(field, schema)


def _layout(models: Any, settings: IndexSettings) -> dict[str, Any]:
    """Return the two multivectors of a point. Dot products: clips are unit vectors, pooled ones shorter."""
    largest = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    codes = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    common = {"size": settings.dim, "distance": models.Distance.DOT, "multivector_config": largest, "on_disk": True}
    half = models.Datatype.FLOAT16 if settings.clip_dtype == "int8" else models.Datatype.FLOAT32
    return {
        "seg": models.VectorParams(**common, quantization_config=models.ScalarQuantization(scalar=codes)),
        "clips": models.VectorParams(**common, datatype=half, hnsw_config=models.HnswConfigDiff(m=0)),
    }


def settings_of(server: Collection) -> IndexSettings:
    """Return the settings that a collection was made with."""
    if not server.collection_exists():
        raise DataError(f"there is no collection {server.name!r}; make it with momentret index export")
    noted = server.get_collection().config.metadata or {}
    if noted.get("momentret") != _FORMAT:
        raise DataError(f"collection {server.name!r} was not made by this version of momentret; choose another")
    try:
        return IndexSettings(**noted["settings"])
    except (KeyError, TypeError) as error:
        raise DataError(
            f"collection {server.name!r} has settings that cannot be read ({error}); make it again"
        ) from error
