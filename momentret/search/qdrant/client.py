"""The door to Qdrant: the only module that loads its client, and the place where its errors become ours."""

from __future__ import annotations

import os
import re
import sqlite3
import warnings
from collections.abc import Callable
from typing import Any

from momentret.errors import ConfigError, DataError

__all__ = ["Collection", "Place"]

Place = Any
"""``http(s)://…``, a folder, ``":memory:"``, or a `qdrant_client.QdrantClient` of your own (gRPC, TLS, time limits)."""

_SECONDS = 60


def _load() -> Any:
    try:
        import qdrant_client
    except ImportError as error:
        raise ConfigError("Qdrant needs the package qdrant-client; pip install 'momentret[qdrant]'") from error
    return qdrant_client


def _connect(place: str) -> Any:
    """Open a client; the key of a server comes from the environment, so that no list of processes shows it."""
    client = _load().QdrantClient
    if place == ":memory:":
        return client(location=place)
    if (
        not place
        or "://" in place.replace("http://", "").replace("https://", "")
        or re.fullmatch(r"[\w.-]+:\d+", place)
    ):
        raise ConfigError(f"{place!r} is no place for Qdrant; give http(s)://HOST:PORT, or a folder to try it out")
    if place.startswith(("http://", "https://")):
        key = os.environ.get("QDRANT_API_KEY")
        return client(url=place, api_key=key, timeout=_SECONDS, check_compatibility=False)
    try:
        return client(path=place)
    except RuntimeError as error:  # what the client raises when another process has the folder
        raise DataError(f"Qdrant folder {place!r} is in use by another process; wait, or run a server") from error


class Collection:
    """One collection. Its attributes are the client's methods, called with the name of the collection.

    Args:
        place: see `Place`.
        name: of the collection, which need not exist yet.

    Raises:
        ConfigError: qdrant-client is not installed.
        DataError: from any call: the server does not answer, or refuses; the disk of a folder is full.
    """

    def __init__(self, place: Place, name: str) -> None:
        if not name or set(name) & set('/\\:*?"<>|\0'):
            raise ConfigError(f'collection {name!r}: the name must not be empty or have one of / \\ : * ? " < > |')
        self.models = _load().models
        self.name = name
        self._place = place if isinstance(place, str) else "the client given"
        self._client = _connect(place) if isinstance(place, str) else place
        self._owned = isinstance(place, str)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        target = getattr(self._client, method)

        def call(**arguments: Any) -> Any:
            try:
                return target(collection_name=self.name, **arguments)
            except _errors() as error:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                step = "check the address and that the server runs; a key is read from QDRANT_API_KEY"
                if isinstance(error, sqlite3.Error):  # what a folder is kept in
                    step = "make room on its disk if that is full, and run the same command again"
                raise DataError(f"Qdrant at {self._place!r}, collection {self.name!r}: {reason}; {step}") from error

        return call

    def index_payload(self, field: str, schema: str) -> None:
        """Make filters on a payload field fast."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Payload indexes have no effect")  # without a server
            self.create_payload_index(field_name=field, field_schema=self.models.PayloadSchemaType(schema))

    def close(self) -> None:
        """Close the client if it was opened here."""
        if self._owned:
            self._client.close()


def _errors() -> tuple[type[Exception], ...]:
    import grpc
    from qdrant_client.http.exceptions import ApiException

    return ApiException, grpc.RpcError, sqlite3.Error
