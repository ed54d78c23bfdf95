"""`momentret predict`: a checkpoint answers queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from momentret.cli.console import progress_bar
from momentret.cli.features import LayoutName
from momentret.words import count_of

__all__ = ["predict"]


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file from train or checkpoint convert.")],
    annotations: Annotated[Path, typer.Argument(help="Queries and videos; labels are not looked at.")],
    features: Annotated[Path, typer.Option("--features", help="Folder of the features; a packed store is recognised.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the predictions go, as JSON lines.")],
    dataset: Annotated[str | None, typer.Option(help="Format of the annotations. Default: as trained.")] = None,
    durations: Annotated[list[Path] | None, typer.Option(help="Tables of video durations; repeatable.")] = None,
    layout: LayoutName = "moment_detr",
    video: Annotated[str | None, typer.Option(help="Video families in order. Default: as trained.")] = None,
    text: Annotated[str | None, typer.Option(help="Text family. Default: as trained.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Queries, or views of a long video, at once.")] = 100,
    top: Annotated[int | None, typer.Option(min=1, help="Moments kept of each query. Default: all.")] = None,
    nms: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Drop moments whose IoU with a better one is larger; 0.99: repeats. Default: as trained."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Find the moments of every query: best first, with a score, and a saliency score for every clip of the video.

    Videos of any length: where they are longer than what the model saw in training, overlapping views are merged.
    """
    from momentret.datasets import read_annotations
    from momentret.features import FeatureConfig, open_store
    from momentret.files import refuse_existing
    from momentret.predict import Predictor
    from momentret.records import write_predictions

    refuse_existing(output, overwrite)
    predictor = Predictor.load(checkpoint, batch_size=batch_size, top=top, device=device)
    if nms is not None:
        predictor.postprocess = replace(predictor.postprocess, nms_threshold=nms)
    trained = predictor.features
    families = tuple(source.family for source in trained.video) if trained else ("clip",)
    text_family = trained.text.family if trained and trained.text else "clip"
    store = open_store(
        FeatureConfig(
            layout=layout,
            root=features,
            video=tuple(video.split(",")) if video else families,
            text=text or text_family,
        ),
        clip_length=predictor.clip_length,
    )
    queries = read_annotations(annotations, dataset or predictor.dataset, durations or ())
    write_predictions(output, predictor.predict(queries, store, progress_bar))
    typer.echo(f"{count_of(len(queries), 'prediction')} -> {output}", err=True)
