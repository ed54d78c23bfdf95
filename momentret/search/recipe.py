"""`Recipe`: what the vectors of an index are made of. The index keeps it, and whoever adds or asks is held to it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from momentret.encoders import Encoder, Fingerprint, load_encoder
from momentret.errors import ConfigError, MismatchError
from momentret.extract import ExtractConfig
from momentret.search.backend import Backend
from momentret.search.index import IndexSettings
from momentret.search.merge import Several

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """The encoder and what is taken from each video."""

    fingerprint: Fingerprint
    config: ExtractConfig

    @classmethod
    def of(cls, index: Backend | Several) -> Recipe:
        """Return the recipe that an index was made with.

        Raises:
            MismatchError: the index was filled by other means and does not say.
        """
        try:
            values = json.loads(index.settings.recipe)
            return cls(Fingerprint(**values["encoder"]), ExtractConfig(**values["config"]))
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise MismatchError(
                "the index does not say which encoder and settings its vectors were made with; "
                "make it with momentret index add"
            ) from error

    def settings(self, **options: Any) -> IndexSettings:
        """Return the settings of a new index; `options` are other fields of `IndexSettings`."""
        values = {"encoder": self.fingerprint.to_dict(), "config": self.config.to_dict()}
        key = f"{self._architecture}:{self.fingerprint.weights_hash}"
        recipe = json.dumps(values, sort_keys=True)
        return IndexSettings(dim=self.fingerprint.dimension, encoder=key, recipe=recipe, **options)

    @property
    def _architecture(self) -> str:
        return self.fingerprint.name.partition("/")[0].partition(":")[0]

    def load_encoder(self, name: str | None = None, **options: Any) -> Encoder:
        """Load the encoder again, and make sure that it is the same.

        Args:
            name: where its weights are now; default: where they were.
            options: of `momentret.encoders.load_encoder`.

        Raises:
            MismatchError: it has other weights.
            ConfigError: it is not there any more.
        """
        own, given = self.fingerprint.name, name or self.fingerprint.name
        kinds = {_plain_architecture(own), _plain_architecture(given)}
        if len(kinds) == 2 and None not in kinds:  # before anything is downloaded
            raise _other_encoder(repr(own), repr(given))
        encoder = load_encoder(given, **options)
        self.require_encoder(encoder.fingerprint)
        return encoder

    def require_encoder(self, found: Fingerprint) -> None:
        """Raise `MismatchError` unless `found` makes the same vectors, whatever its file is called."""
        own = self.fingerprint
        for name, text in (("dimension", "of dimension {}"), ("weights_hash", "with weights {:.12}")):
            mine, other = getattr(own, name), getattr(found, name)
            if mine != other:
                detail = (text.format(mine), text.format(other)) if own.name == found.name else ("", "")
                was, now = f"{own.name!r} {detail[0]}".strip(), f"{found.name!r} {detail[1]}".strip()
                raise _other_encoder(was, now)

    def require_config(self, **given: Any) -> None:
        """Raise `MismatchError` for the first extraction setting that was given (is not None) and differs."""
        for name in (field.name for field in fields(ExtractConfig)):
            own, wanted = getattr(self.config, name), given.get(name)
            if wanted is not None and wanted != own:
                raise MismatchError(
                    f"the index was made with {name} {own!r}, not {wanted!r}; leave it out or make another index"
                )


def _plain_architecture(name: str) -> str | None:
    """Return the architecture that a name says, None for a folder, a hub or what is no encoder's name."""
    architecture, slash, _ = name.partition("/")
    return architecture if ":" not in name and (slash or name in ("fake", "offline")) else None


def _other_encoder(was: str, now: str) -> MismatchError:
    return MismatchError(f"the index was made with encoder {was}, not {now}; use that encoder or make another index")


def lasting_name(encoder: str) -> str:
    """Return an encoder's name that can be loaded from any working folder: a weights file gets its full path.

    Example:
        >>> lasting_name("offline")
        'offline'
    """
    architecture, _, weights = encoder.partition("/")
    if encoder.startswith("local-dir:"):
        return f"local-dir:{Path(encoder.removeprefix('local-dir:')).absolute()}"
    return f"{architecture}/{Path(weights).absolute()}" if weights and Path(weights).is_file() else encoder
