"""Videos -> features: decode and encode at the same time, keep what is finished, end in a feature store.

videos = find_videos([Path("films")])
ledger = Ledger.open(Path("store.partial"), config, encoder.fingerprint)
for outcome in extract(videos, encoder, config, ledger):
    ...
pack(videos, ledger, Path("store"))
"""

from __future__ import annotations

from momentret.extract.config import ExtractConfig
from momentret.extract.ledger import Keeper, Ledger, Outcome, keep_ids, pack, partial_folder, was_extracted
from momentret.extract.pipeline import clip_vectors, extract
from momentret.extract.processes import run_in_processes
from momentret.extract.shards import Job, shards
from momentret.extract.videos import (
    Hidden,
    Video,
    file_facts,
    find_videos,
    is_hidden,
    noted_in,
    path_hash,
    require_paths,
    shown_path,
    take_shard,
    tell_hidden,
)

__all__ = [
    "ExtractConfig",
    "Hidden",
    "Job",
    "Keeper",
    "Ledger",
    "Outcome",
    "Video",
    "clip_vectors",
    "extract",
    "file_facts",
    "find_videos",
    "is_hidden",
    "keep_ids",
    "noted_in",
    "pack",
    "partial_folder",
    "path_hash",
    "require_paths",
    "run_in_processes",
    "shards",
    "shown_path",
    "take_shard",
    "tell_hidden",
    "was_extracted",
]
