"""`momentret data check | simulate`: what is wrong with annotations and their features, and a small set to try."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from momentret.cli.features import AsJson, ClipLength, LayoutName, Text, Video
from momentret.cli.simulate import simulate
from momentret.words import count_of, first_few

if TYPE_CHECKING:
    from momentret.datasets.check import Check

__all__ = ["app"]

app = typer.Typer(help="Check annotations and features, simulate small ones.", no_args_is_help=True)
app.command("simulate")(simulate)


@app.command()
def check(
    annotations: Annotated[Path, typer.Argument(help="Annotation file, as downloaded.")],
    dataset: Annotated[str | None, typer.Option(help="Its dataset. Default: told from the file.")] = None,
    durations: Annotated[
        list[Path] | None, typer.Option(help="Charades table with durations, for the Charades-STA text; repeatable.")
    ] = None,
    features: Annotated[Path | None, typer.Option(help="Folder of the features, to check them as well.")] = None,
    layout: LayoutName = "moment_detr",
    video: Video = None,
    text: Text = None,
    clip_length: ClipLength = None,
    as_json: AsJson = False,
) -> int:
    """Print everything that is wrong with an annotation file, by row; exit 1 if anything is.

    Flaws that are known of a released file are repaired when it is read; they are counted and do not fail the check.
    """
    from momentret.cli.console import print_json, progress_bar
    from momentret.cli.features import open_features
    from momentret.datasets import detect_dataset
    from momentret.datasets.check import check_annotations

    # a file that nothing tells is read by the rules of the common format, which repair nothing
    name = dataset or detect_dataset(annotations) or "qvhighlights"
    store = None if features is None else open_features(features, layout, video, text, clip_length)
    found = check_annotations(annotations, name, durations=durations or (), store=store, progress=progress_bar)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found, annotations)
    return 0 if found.ok else 1


def _print(found: Check, path: Path) -> None:
    """Print every error, the other findings by kind, and a summary."""
    from momentret.datasets import group_findings

    errors = [finding for finding in found.findings if finding.level == "error"]
    for finding in errors:
        typer.echo(f"error: {finding}")
    for rule, findings in group_findings(found.findings).items():
        typer.echo(f"{findings[0].level}: {rule} ({len(findings)}): {first_few(findings, '; ')}")
    numbers = {"query": found.queries, "video": found.videos, "window": found.windows}
    counts = ", ".join(count_of(number, noun) for noun, number in numbers.items())
    state = "ok" if found.ok else f"{count_of(len(errors), 'error')}; the rest"
    typer.echo(
        f"{path.name}, read as {found.dataset}: {state}: {counts}, videos of {found.seconds[0]:g} to "
        f"{found.seconds[1]:g} s"
    )
