"""`momentret features pack | check | info`: from a package of feature files to one store, and what is in either."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.features import FeatureStore

__all__ = ["app"]

app = typer.Typer(help="Pack, check and describe feature files.", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(help="Folder of the features; a packed store is recognised.")]
LayoutName = Annotated[str, typer.Option("--layout", help="Feature package the files come from.")]
Video = Annotated[str | None, typer.Option(help="Video families in order, as slowfast,clip. Default: all there are.")]
Text = Annotated[str | None, typer.Option(help="Text family, or none. Default: the one there is.")]
ClipLength = Annotated[float | None, typer.Option(help="Seconds per row, where the layout does not know.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def pack(
    root: Root,
    output: Annotated[Path, typer.Argument(help="Packed store to make.")],
    layout: LayoutName = "moment_detr",
    video: Video = None,
    text: Text = None,
    clip_length: ClipLength = None,
    ids: Annotated[Path | None, typer.Option(help="File of the video and query ids to keep, one a line.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Convert rows to float16 or float32.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a packed store at OUTPUT.")] = False,
) -> None:
    """Pack feature files into one memory-mapped store: 20 times as fast to read, every item checked on the way."""
    from momentret.cli.console import progress_bar
    from momentret.features import pack_store, summarise_store
    from momentret.files import refuse_existing

    if dtype not in (None, "float16", "float32"):
        raise typer.BadParameter(f"{dtype!r} is neither float16 nor float32", param_hint="--dtype")
    refuse_existing(output, overwrite)
    kept = None if ids is None else _read_ids(ids)
    store = open_features(root, layout, video, text, clip_length)
    pack_store(store, output, ids=kept, dtype=dtype, overwrite=overwrite, progress=progress_bar)
    _print_summary(f"packed into {output}", summarise_store(open_features(output, "packed", None, None, None)))


@app.command()
def check(
    root: Root,
    layout: LayoutName = "moment_detr",
    video: Video = None,
    text: Text = None,
    clip_length: ClipLength = None,
    as_json: AsJson = False,
) -> int:
    """Read every feature file and print each bad one with the reason; exit 1 if there is any."""
    from momentret.cli.console import print_json, progress_bar
    from momentret.features import check_store

    store = open_features(root, layout, video, text, clip_length)
    problems = check_store(store, progress_bar)
    counts = {name: len(source.ids()) for name, source in store.families()}
    if as_json:
        print_json({"items": counts, "problems": problems})
    else:
        for problem in problems:
            typer.echo(problem)
        items = ", ".join(f"{count_of(count, 'item')} in {name}" for name, count in counts.items())
        typer.echo(f"{items}: {count_of(len(problems), 'problem') if problems else 'no problems'}")
    return 1 if problems else 0


@app.command()
def info(
    root: Root,
    layout: LayoutName = "moment_detr",
    video: Video = None,
    text: Text = None,
    clip_length: ClipLength = None,
    as_json: AsJson = False,
) -> None:
    """Say what the features are: encoder, sizes, clip length, numbers of items, rows per item."""
    from momentret.cli.console import print_json, progress_bar
    from momentret.features import summarise_store

    summary = summarise_store(open_features(root, layout, video, text, clip_length), progress_bar)
    if as_json:
        print_json(summary)
    else:
        _print_summary(str(root), summary)


def open_features(
    root: Path, layout: str, video: str | None, text: str | None, clip_length: float | None
) -> FeatureStore:
    """Open the named families, or all that are there."""
    from momentret.features import FeatureConfig, find_families, open_store

    config = FeatureConfig(layout=layout, root=root, clip_length=clip_length)  # refuses an unknown layout
    found = (None, None) if video is not None and text is not None else find_families(config.layout, root)
    families = found[0] if video is None else tuple(video.split(","))
    text_family = found[1] if text is None else text
    return open_store(
        FeatureConfig(
            layout=layout,
            root=root,
            video=families or (),
            text=None if text_family == "none" else text_family,
            clip_length=clip_length,
        )
    )


def _read_ids(path: Path) -> set[str]:
    from momentret.errors import DataError

    try:
        return {line for line in path.read_text(encoding="utf-8").splitlines() if line}
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file: {error}") from error


def _print_summary(title: str, summary: dict[str, dict[str, Any]]) -> None:
    from momentret.cli.console import print_table

    facts = ("dimension", "dtype", "clip_length", "encoder", "weights_hash", "layer", "normalisation")
    columns = [
        [
            f"{family['items']:,}",
            f"{family['rows']:,}",
            " / ".join(f"{family['rows_per_item'][key]:g}" for key in ("min", "median", "max")),
            f"{family['bytes'] / 1e6:,.1f}",
            *("unknown" if family["manifest"][fact] is None else family["manifest"][fact] for fact in facts),
        ]
        for family in summary.values()
    ]
    names = ["items", "rows", "rows an item: least / median / most", "MB", *facts]
    print_table(title, ["", *summary], zip(names, *columns, strict=True))
