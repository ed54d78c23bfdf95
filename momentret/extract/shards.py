"""One extraction as a value that can be sent to other processes and machines, each of which does a part of it.

All of them work in one ledger, on a file system that all can reach. The part of one is a shard, ``"i/n"``; a process
that dies loses at most the videos in work, and doing its shard again does only what is left of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from momentret.encoders import Encoder, load_encoder
from momentret.extract.config import ExtractConfig
from momentret.extract.ledger import Ledger, keep_ids, partial_folder, was_extracted
from momentret.extract.pipeline import extract
from momentret.extract.videos import Hidden, Video, find_videos, take_shard, tell_hidden
from momentret.video import Limits

__all__ = ["Advance", "Job", "shards"]

Advance = Callable[[int], None]
"""Told now and then how many videos the ledger has."""


@dataclass(frozen=True)
class Job:
    """What is extracted, where to, and how."""

    videos: tuple[Path, ...]
    """Files and folders."""
    output: Path
    """The store to be; the ledger lies beside it."""
    encoder: str
    """Name, for `momentret.encoders.load_encoder`."""
    config: ExtractConfig
    limits: Limits
    workers: int = 1
    """Videos that one process decodes at the same time."""
    threads: int = 1
    """Threads of the encoder in one process."""
    device: str = "cpu"
    precision: str = "fp32"
    overwrite: bool = False
    """Begin anew though there is a store; otherwise what it holds is kept."""

    def load(self) -> tuple[Encoder, Ledger]:
        """Load the encoder and open the ledger."""
        encoder = load_encoder(self.encoder, device=self.device, precision=self.precision)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.threads)
        store = None if self.overwrite else self.output
        return encoder, Ledger.open(partial_folder(self.output), self.config, encoder.fingerprint, store)

    def find(self, shard: str | None = None, hidden: Hidden = tell_hidden) -> list[Video]:
        """Return the videos of one shard, or all, with the ids that they have in the store; see `find_videos`.

        Raises:
            ConfigError: there is no such shard.
            DataError: there is no video, or the store's list is damaged.
        """
        found = find_videos(self.videos, hidden)
        if was_extracted(self.output) and not self.overwrite:
            found = keep_ids(found, self.output)
        return found if shard is None else take_shard(found, shard)

    def run(self, shard: str) -> int:
        """Do what is left of one shard, in this process; returns how many videos that were.

        Raises:
            MomentretError: what doing it again would not help.
        """
        encoder, ledger = self.load()
        videos = self.find(shard, lambda path, error: None)  # whoever shares out the work has said it
        limits = self.limits
        return sum(1 for _ in extract(videos, encoder, self.config, ledger, workers=self.workers, limits=limits))

    def finished(self) -> int:
        """Count the videos that the ledger has, of any shard."""
        try:
            return sum(entry.name.endswith(".json") for entry in os.scandir(partial_folder(self.output) / "items"))
        except FileNotFoundError:
            return 0


def shards(count: int) -> list[str]:
    """Return the names of all shards.

    Example:
        >>> shards(3)
        ['1/3', '2/3', '3/3']
    """
    return [f"{i}/{count}" for i in range(1, count + 1)]
