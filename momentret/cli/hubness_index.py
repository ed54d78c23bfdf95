"""`momentret hubness index`: biases for the videos of a search index; `simulate`: a set to try the others on."""

from __future__ import annotations

import logging
from pathlib import Path

import typer

from momentret.cli.console import progress_bar
from momentret.cli.hubness_options import JSON, OVERWRITE, SHRINK
from momentret.cli.hubness_run import print_fitted

__all__ = ["index", "simulate"]

logger = logging.getLogger(__name__)


def index(
    folder: Path = typer.Argument(..., help="An index that `momentret index add` made."),
    texts: Path = typer.Argument(..., help="Training queries, one a line; not the queries that will be asked."),
    live: Path | None = typer.Option(
        None, "--live", help="Unlabelled queries from production, one a line, 30 or more."
    ),
    gallery_bank: Path | None = typer.Option(None, "--gallery-bank", help="An index of training videos (gis, dual…)."),
    method: str = typer.Option("is", "--method", "-m", help="is dis gis dualis dualdis nnn csls bank-sinkhorn."),
    shrink: float | None = SHRINK,
    exact: bool = typer.Option(False, "--exact", help="Score every clip, not the pooled vectors: slower."),
    encoder: str | None = typer.Option(
        None, "--encoder", help="Where the encoder's weights are now [where they were]."
    ),
    output: Path | None = typer.Option(None, "--output", "-o", help="Folder of the state [INDEX/hubness]."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Fit a bias per video of an index on training queries, and keep it with the index for searches to use."""
    from momentret.files import refuse_existing
    from momentret.search.hubness.checking import few_rows
    from momentret.search.hubness.config import HubnessConfig
    from momentret.search.hubness.corpus import (
        CorpusHubness,
        clips_of_videos,
        encode_bank,
        hubness_folder,
        read_texts,
    )
    from momentret.search.hubness.report import parameters
    from momentret.search.index import CorpusIndex, SearchOptions
    from momentret.search.recipe import Recipe

    config = HubnessConfig(method=method, shrink=shrink)
    with CorpusIndex.open(folder) as corpus:
        output = output or hubness_folder(corpus)
        refuse_existing(output / "manifest.json", overwrite)
        bank, queries = read_texts(texts), [] if live is None else read_texts(live)
        model, options = Recipe.of(corpus).load_encoder(encoder), SearchOptions(exact=exact)
        state = CorpusHubness.fit(
            corpus,
            encode_bank(model, bank, progress_bar),
            [] if gallery_bank is None else clips_of_videos(gallery_bank, corpus),
            encode_bank(model, queries, progress_bar),
            config,
            options,
            progress_bar,
        )
    state.save(output, overwrite)
    facts = state.normaliser.facts
    warnings = few_rows(facts.bank_queries, facts.bank_gallery)
    for warning in warnings:
        logger.warning(warning)
    print_fitted(state.normaliser, output, as_json, {**parameters(state.normaliser, "given"), "warnings": warnings})


def simulate(
    output: Path = typer.Argument(..., help="Folder for the files."),
    world: str = typer.Option("clip-like", "--world", help="clean, clip-like or hub-heavy."),
    size: int = typer.Option(1000, "--size", min=1, help="Queries and items, of the test and of the validation split."),
    bank: int = typer.Option(5000, "--bank", min=1, help="Rows of each bank."),
    seed: int = typer.Option(0, "--seed", min=0),
    overwrite: bool = OVERWRITE,
) -> None:
    """Write a small simulated set to try this on: similarities and banks, and the embeddings they come from."""
    from momentret.search.hubness.results import results_folder
    from momentret.search.hubness.simulation import write_world

    with results_folder(output, overwrite) as folder:
        names = write_world(folder, world, size, bank, seed)
    typer.echo(f"{output}: {', '.join(names)}; row i belongs to item i (--truth diag)")
