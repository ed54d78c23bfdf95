"""`momentret index export`: an index folder -> a collection on Qdrant, for a corpus that one machine cannot carry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from momentret.cli.console import print_json, progress_bar
from momentret.words import count_of

__all__ = ["export"]


def export(
    index: Annotated[Path, typer.Argument(help="Folder of the index.")],
    qdrant: Annotated[
        str, typer.Option("--qdrant", help="URL of a server or of any node of a cluster; or a folder, to try it out.")
    ],
    collection: Annotated[str | None, typer.Option(help="Name there. Default: that of the index folder.")] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Parts of a new collection, spread over the nodes. Default: one a node.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Nodes that keep each part of a new collection: 2 survive a loss.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete a collection of that name first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring the videos of an index to a Qdrant collection, which is made if it is not there.

    What is there already is left, so run it again after an interruption or when the index has changed. Videos that the
    index does not have stay there. A server's key is read from the environment variable QDRANT_API_KEY.
    """
    from momentret.search.backend import copy_videos
    from momentret.search.index import CorpusIndex
    from momentret.search.qdrant import QdrantBackend

    with CorpusIndex.open(index) as source:
        name = collection or index.resolve().name
        target = QdrantBackend.create(
            qdrant, name, source.settings, shards=shards, replicas=replicas, resume=True, overwrite=overwrite
        )
        with target:
            copied, videos = copy_videos(source, target, progress_bar), len(target)
    if as_json:
        print_json({"index": str(index), "qdrant": qdrant, "collection": name, "videos": videos, **asdict(copied)})
        return
    counts = {"added": copied.added, "replaced": copied.replaced, "unchanged": copied.unchanged, "other": copied.other}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what in ("added", "unchanged"))
    typer.echo(f"{qdrant}, collection {name}: {said}; {count_of(videos, 'video')}")
