"""`momentret checkpoint convert | info`: from the official code's files to ours, and what is in ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app"]

app = typer.Typer(help="Convert and describe model files.", no_args_is_help=True)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="File of the official Moment-DETR code or of Lighthouse (.ckpt).")],
    output: Annotated[Path, typer.Argument(help="Checkpoint to write (.safetensors).")],
    source: Annotated[
        str | None, typer.Option(help="official or lighthouse: whose feature order it has. Default: told by the file.")
    ] = None,
    feature_order: Annotated[
        str | None, typer.Option(help="Video features of the result, as slowfast,clip. Default: as they are.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
) -> None:
    """Convert a checkpoint of the official code or of Lighthouse; nothing in it is executed."""
    from momentret.files import refuse_existing
    from momentret.models.checkpoint import save_checkpoint
    from momentret.models.moment_detr import MomentDETR
    from momentret.models.official import ORDERS, model_config, read_official, reorder_columns, video_families

    if source not in (None, *ORDERS):
        raise typer.BadParameter(f"{source!r} is neither of {', '.join(ORDERS)}", param_hint="--source")
    refuse_existing(output, overwrite)
    official = read_official(checkpoint)
    config = model_config(official.weights, official.options)
    found = video_families(config, official.options, source or official.source)
    wanted = found if feature_order is None else tuple(feature_order.split(","))
    if sorted(wanted) != sorted(found):
        raise typer.BadParameter(
            f"the checkpoint was trained on {','.join(found) or 'no video features'}", param_hint="--feature-order"
        )
    model = MomentDETR(config)
    model.load_state_dict(reorder_columns(official.weights, found, wanted))
    save_checkpoint(output, model, **_header(official, config, wanted))
    typer.echo(f"converted ({source or official.source}, video features {','.join(wanted)}) -> {output}", err=True)


def _header(official: Any, config: Any, families: tuple[str, ...]) -> dict[str, Any]:
    """Return what a converted checkpoint says about itself."""
    from dataclasses import asdict

    from momentret.datasets import DATASETS
    from momentret.models.official import DATASET_NAMES, feature_manifest, input_fields
    from momentret.postprocess import PostprocessConfig

    options = official.options
    dataset = DATASETS[DATASET_NAMES.get(options.get("dset_name", "hl"), "qvhighlights")]
    clip_length = float(options.get("clip_length", dataset.clip_length))
    round_to = clip_length if dataset.round_to_clips else None
    return {
        "model_name": "moment_detr",
        "config": asdict(config),
        "inputs": input_fields(options),
        "features": feature_manifest(families, config, clip_length),
        "postprocess": asdict(PostprocessConfig(clamp=dataset.clamp, round_to=round_to)),
        "trained_on": {
            "dataset": dataset.name,
            "clip_length": clip_length,
            "epoch": None if official.epoch is None else official.epoch + 1,
            "seed": options.get("seed"),
            "converted_from": official.source,
        },
    }


@app.command()
def info(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint (.safetensors).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a checkpoint holds: model, input preparation, features, post-processing, training."""
    from momentret.cli.console import print_json, print_table
    from momentret.models.checkpoint import build_model, load_checkpoint

    loaded = load_checkpoint(checkpoint)
    parameters = sum(parameter.numel() for parameter in build_model(loaded).parameters())
    described = {**loaded.describe(), "parameters": parameters}
    if as_json:
        print_json(described)
    else:
        print_table(str(checkpoint), ("", "value"), _rows("", described))


def _rows(prefix: str, value: Any) -> list[tuple[str, str]]:
    """Flatten nested values to dotted names."""
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _rows(f"{prefix}.{key}" if prefix else key, item)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [row for i, item in enumerate(value) for row in _rows(f"{prefix}[{i}]", item)]
    return [(prefix, "-" if value is None else str(value))]
