"""What the sub-commands of `momentret hubness` share: inputs from options, the pass over the queries, the printing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.console import one_line, print_json, print_table, progress_bar
from momentret.cli.extraction import choose_device
from momentret.cli.hubness_options import list_lengths
from momentret.config import find_device
from momentret.files import write_json
from momentret.words import count_of

if TYPE_CHECKING:
    from pathlib import Path

    from momentret.search.hubness.config import HubnessConfig
    from momentret.search.hubness.normaliser import HubnessNormaliser
    from momentret.search.hubness.opening import Inputs

__all__ = ["WORSE", "fit_banks", "opened", "print_fitted", "run_queries"]

WORSE = 3  # exit status: a quality gate failed
SPECS = (
    "similarities",
    "queries",
    "gallery",
    "metric",
    "query_bank",
    "gallery_bank",
    "cross_bank",
    "live",
    "transpose",
    "allow_overlap",
    "paired_banks",
)


def opened(options: dict[str, Any], cross: bool = False, **more: Any) -> Inputs:
    """Open what a verb's options name; `cross`: banks of embeddings are compared with each other too."""
    from momentret.search.hubness.opening import open_inputs
    from momentret.search.hubness.preparing import Preparing

    device, threads = options["device"], options["threads"]
    preparing = Preparing(
        nan=options.get("nan", "error"),
        duplicates=options.get("duplicates", "auto"),
        sample=options.get("bank_sample"),
        seed=options.get("seed", 0),
        cross=cross,
        device=choose_device(device, threads) if threads else find_device(device),
        progress=progress_bar,
    )
    return open_inputs(**{name: options[name] for name in SPECS if name in options}, preparing=preparing, **more)


def fit_banks(config: HubnessConfig, inputs: Inputs, chosen_by: str) -> HubnessNormaliser:
    """Fit the banks that the method takes, and say what is odd about them."""
    from momentret.search.hubness.checking import odd_settings, odd_temperatures
    from momentret.search.hubness.normaliser import HubnessNormaliser

    fitted = {"query_bank": inputs.S} if config.traits.transductive and inputs.S is not None else inputs.banks
    for warning in [*odd_settings(config, inputs.banks), *odd_temperatures(config, fitted)]:
        inputs.warn(warning)
    inputs.chosen_by = chosen_by
    with inputs.timed("fit_s"):
        normaliser = HubnessNormaliser(config).fit(
            inputs.banks.get("query_bank"),
            inputs.banks.get("gallery_bank"),
            inputs.banks.get("cross_bank"),
            inputs.live,
            progress=progress_bar,
        )
    if normaliser.facts.duplicates:
        rows = count_of(normaliser.facts.duplicates, "row")
        inputs.warn(f"the query bank: {rows} that seem to repeat another, and so count as often (--duplicates)")
    if normaliser.facts.masked_items:
        items = count_of(normaliser.facts.masked_items, "gallery item")
        inputs.warn(f"{items} without a similarity to any row of a bank: not corrected by it")
    return normaliser


def run_queries(
    make: Callable[[Inputs], HubnessNormaliser | None], options: dict[str, Any], cross: bool = False
) -> None:
    """Do the pass over the queries in the directions asked for, write what was asked for, print the reports."""
    from momentret.errors import ConfigError
    from momentret.files import refuse_existing
    from momentret.search.hubness.opening import BACKWARD, FORWARD
    from momentret.search.hubness.results import Wanted, results_folder, write_pass
    from momentret.search.hubness.truth import match_truth

    output, truth, direction = options["output"], options["truth"], options["direction"]
    worse = options.get("fail_if_worse", False)
    wanted = Wanted(output, list_lengths(options["k"]), options.get("matrix", False), options["trec"], options["ties"])
    both = direction == "both"
    if both:
        _require_two_ways(options)
    if worse and truth is None:
        raise ConfigError("--fail-if-worse compares R@1, so --truth is needed too")
    if output is not None:
        refuse_existing(output, options["overwrite"])
    found: dict[str, dict[str, Any]] = {}
    with nullcontext() if output is None else results_folder(output, options["overwrite"]) as folder:
        for name in (FORWARD, BACKWARD) if both else (direction,):
            inputs = opened(options, cross, direction=name, said=found[FORWARD]["warnings"] if found else None)
            pairs = None if truth is None else match_truth(inputs, truth, options["skip_queries"])
            normaliser = make(inputs)
            place = folder / name if both and folder is not None else folder
            if place is not None:
                place.mkdir(exist_ok=True)
            found[name] = write_pass(inputs, normaliser, pairs, wanted, place, progress_bar)
        if both and folder is not None:
            write_json(folder / "report.json", found)
    _print_reports(found, output, options["as_json"])
    if worse:
        _require_no_loss(found)


def _require_two_ways(options: dict[str, Any]) -> None:
    from momentret.errors import ConfigError

    reasons = {"state": "a state is", "live": "live queries are", "similarities": "banks of similarities are"}
    for name, text in reasons.items():
        if options.get(name):
            raise ConfigError(
                f"--direction both is for embeddings without a state or --live ({text} of one direction); "
                "run each direction by itself"
            )


def _print_reports(found: dict[str, dict[str, Any]], output: Path | None, as_json: bool) -> None:
    from momentret.search.hubness.opening import BACKWARD
    from momentret.search.hubness.report import summary

    if as_json:
        print_json(found if len(found) > 1 else next(iter(found.values())))
        return
    for name, report in found.items():
        columns, rows, sentences = summary(report)
        print_table(f"hubness, {name}" if len(found) > 1 or name == BACKWARD else "hubness", columns, rows)
        typer.echo("\n".join(one_line(sentence) for sentence in sentences))
    if output is not None:
        typer.echo(f"written to {output}")


def _require_no_loss(found: dict[str, dict[str, Any]]) -> None:
    for name, report in found.items():
        change = report["difference"]
        if change["lost"] > change["gained"]:
            typer.echo(
                f"momentret: R@1 fell by {-change['R1']:.1f} points ({name}), so --fail-if-worse fails", err=True
            )
            raise typer.Exit(WORSE)


def print_fitted(normaliser: HubnessNormaliser, output: Path, as_json: bool, more: dict[str, Any]) -> None:
    """Print what a fitted state came to."""
    from momentret.search.hubness.report import short

    if as_json:
        print_json({"state": str(output), "items": normaliser.items, **more})
        return
    values = {**more["params"], **more["bank"]}
    rows = [(name.replace("_", " "), short(value)) for name, value in values.items() if value is not None]
    print_table(f"fitted {normaliser.config.method}, kept in {output}", ["", ""], rows)
