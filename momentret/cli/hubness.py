"""`momentret hubness`: report, normalise, fit, apply, tune; from other files index and simulate.

Rows are queries (or bank elements), columns the gallery. With `--queries` and `--gallery` all inputs are embeddings and
similarities are computed block by block; otherwise all are similarity matrices. `normalise` is `fit`, then `apply`.
"""

from __future__ import annotations

from pathlib import Path

import typer

from momentret.cli.console import print_json, print_table, progress_bar
from momentret.cli.hubness_index import index, simulate
from momentret.cli.hubness_options import (
    ALLOW_OVERLAP,
    ALPHA,
    BANK_DOMAIN,
    BANK_SAMPLE,
    BETA_GALLERY,
    BETA_QUERY,
    CROSS_BANK,
    DEVICE,
    DIRECTION,
    DUPLICATES,
    FAIL_IF_WORSE,
    GALLERY,
    GALLERY_BANK,
    ITERATIONS,
    JSON,
    K_GALLERY,
    K_QUERY,
    LENGTHS,
    LIVE,
    MATRIX,
    METHOD,
    METRIC,
    NAN,
    OUTPUT,
    OVERWRITE,
    PUBLISHED,
    QUERIES,
    QUERY_BANK,
    RESULTS,
    RULE,
    SEED,
    SHRINK,
    SIMILARITIES,
    SKIP,
    TAU,
    THREADS,
    TIES,
    TOP,
    TRANSPOSE,
    TREC,
    TRUTH,
    TUNED,
    UNITS,
    method_config,
)
from momentret.cli.hubness_run import fit_banks, opened, print_fitted, run_queries

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Find hubs in a retrieval matrix and correct for them with banks.")


@app.command("report")
def report(
    similarities: str | None = SIMILARITIES,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    direction: str = DIRECTION,
    transpose: list[str] = TRANSPOSE,
    truth: str | None = TRUTH,
    skip_queries: bool = SKIP,
    k: str = LENGTHS,
    ties: str = TIES,
    trec: int = TREC,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    device: str = DEVICE,
    threads: int | None = THREADS,
    as_json: bool = JSON,
) -> None:
    """Measure the hubness of a retrieval result: who is everybody's neighbour."""
    run_queries(lambda inputs: None, locals())


@app.command("normalise")
def normalise(
    similarities: str | None = SIMILARITIES,
    query_bank: str | None = QUERY_BANK,
    gallery_bank: str | None = GALLERY_BANK,
    cross_bank: str | None = CROSS_BANK,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    direction: str = DIRECTION,
    method: str = METHOD,
    published: bool = PUBLISHED,
    tuned: Path | None = TUNED,
    beta_query: float | None = BETA_QUERY,
    beta_gallery: float | None = BETA_GALLERY,
    shrink: float | None = SHRINK,
    top: int | None = TOP,
    alpha: float | None = ALPHA,
    tau: float | None = TAU,
    iterations: int | None = ITERATIONS,
    k_query: int | None = K_QUERY,
    k_gallery: int | None = K_GALLERY,
    units: str | None = UNITS,
    rule: str | None = RULE,
    bank_domain: str | None = BANK_DOMAIN,
    live: str | None = LIVE,
    transpose: list[str] = TRANSPOSE,
    nan: str = NAN,
    duplicates: str = DUPLICATES,
    bank_sample: int | None = BANK_SAMPLE,
    seed: int = SEED,
    allow_overlap: bool = ALLOW_OVERLAP,
    truth: str | None = TRUTH,
    skip_queries: bool = SKIP,
    k: str = LENGTHS,
    ties: str = TIES,
    trec: int = TREC,
    allow_transductive: bool = typer.Option(False, "--allow-transductive", help="Allow dsl and sn."),
    matrix: bool = MATRIX,
    output: Path = RESULTS,
    overwrite: bool = OVERWRITE,
    fail_if_worse: bool = FAIL_IF_WORSE,
    device: str = DEVICE,
    threads: int | None = THREADS,
    as_json: bool = JSON,
) -> None:
    """Correct similarities by banks; write the matrix, a report and pictures."""
    options = locals()
    from momentret.search.hubness.checking import require_allowed

    config, chosen_by = method_config(options)
    require_allowed(config, allow_transductive)
    run_queries(lambda inputs: fit_banks(config, inputs, chosen_by), options, config.traits.cross_bank)


@app.command("fit")
def fit(
    query_bank: str | None = QUERY_BANK,
    gallery_bank: str | None = GALLERY_BANK,
    cross_bank: str | None = CROSS_BANK,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    method: str = METHOD,
    published: bool = PUBLISHED,
    tuned: Path | None = TUNED,
    beta_query: float | None = BETA_QUERY,
    beta_gallery: float | None = BETA_GALLERY,
    shrink: float | None = SHRINK,
    top: int | None = TOP,
    alpha: float | None = ALPHA,
    tau: float | None = TAU,
    iterations: int | None = ITERATIONS,
    k_query: int | None = K_QUERY,
    k_gallery: int | None = K_GALLERY,
    units: str | None = UNITS,
    rule: str | None = RULE,
    bank_domain: str | None = BANK_DOMAIN,
    live: str | None = LIVE,
    transpose: list[str] = TRANSPOSE,
    nan: str = NAN,
    duplicates: str = DUPLICATES,
    bank_sample: int | None = BANK_SAMPLE,
    seed: int = SEED,
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the state."),
    overwrite: bool = OVERWRITE,
    device: str = DEVICE,
    threads: int | None = THREADS,
    as_json: bool = JSON,
) -> None:
    """Fit banks once and store one number per gallery item, to apply with `apply` or from Python."""
    options = locals()
    from momentret.files import refuse_existing
    from momentret.search.hubness.report import parameters
    from momentret.search.hubness.state import save_normaliser

    config, chosen_by = method_config(options)
    refuse_existing(output / "manifest.json", overwrite)
    inputs = opened(options, config.traits.cross_bank)
    normaliser = fit_banks(config, inputs, chosen_by)
    save_normaliser(normaliser, output, inputs.gallery_ids, overwrite, inputs.content)
    found = {"inputs": inputs.facts, **parameters(normaliser, chosen_by), "warnings": inputs.warnings}
    print_fitted(normaliser, output, as_json, found)


@app.command("apply")
def apply(
    state: Path = typer.Argument(..., help="A folder that `hubness fit` wrote."),
    similarities: str | None = SIMILARITIES,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    direction: str = DIRECTION,
    transpose: list[str] = TRANSPOSE,
    truth: str | None = TRUTH,
    skip_queries: bool = SKIP,
    k: str = LENGTHS,
    ties: str = TIES,
    trec: int = TREC,
    matrix: bool = MATRIX,
    output: Path = RESULTS,
    overwrite: bool = OVERWRITE,
    fail_if_worse: bool = FAIL_IF_WORSE,
    device: str = DEVICE,
    threads: int | None = THREADS,
    as_json: bool = JSON,
) -> None:
    """Correct similarities by a fitted state; write what `normalise` writes."""
    options = locals()
    from momentret.errors import DataError
    from momentret.search.hubness.normaliser import HubnessNormaliser
    from momentret.search.hubness.opening import Inputs
    from momentret.search.hubness.state import load_normaliser

    def make(inputs: Inputs) -> HubnessNormaliser:
        inputs.chosen_by = f"state ({state})"
        return load_normaliser(state, inputs.gallery_ids, inputs.content)

    if not (state / "manifest.json").is_file():
        raise DataError(f"{state} is no folder that `momentret hubness fit` wrote; the state comes first")
    run_queries(make, options)


@app.command("tune")
def tune(
    similarities: str | None = typer.Argument(
        None, help="Validation queries × validation gallery; none: without pairs."
    ),
    query_bank: str = typer.Option(..., "--query-bank", help="Bank × validation gallery, or embeddings."),
    gallery_bank: str | None = GALLERY_BANK,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    paired_banks: bool = typer.Option(
        False,
        "--paired-banks",
        help="Row i of both banks (embeddings) is a pair: a tenth validates.",
    ),
    metric: str = METRIC,
    method: str = typer.Option("auto", "--method", "-m", help="A bank method, or auto."),
    truth: str = typer.Option("diag", "--truth", help="diag, captions:N, or a .csv of query_id,gallery_id."),
    skip_queries: bool = SKIP,
    ties: str = TIES,
    transpose: list[str] = TRANSPOSE,
    nan: str = NAN,
    duplicates: str = DUPLICATES,
    bank_sample: int | None = BANK_SAMPLE,
    seed: int = SEED,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    device: str = DEVICE,
    threads: int | None = THREADS,
    as_json: bool = JSON,
) -> None:
    """Choose method, temperature, k and shrinkage on validation queries, or on held-out bank rows if there are none.

    Without similarities or --queries: with --paired-banks by R@1 of pairs that are held out, else by the skewness of
    N_10 of held-out bank queries.
    """
    options = locals()
    from contextlib import nullcontext

    from momentret.files import refuse_existing
    from momentret.search.hubness.report import short
    from momentret.search.hubness.results import results_folder, write_tuning
    from momentret.search.hubness.truth import match_truth
    from momentret.search.hubness.tuning import tune as tune_settings
    from momentret.search.hubness.tuning import tune_unpaired

    if output is not None:
        refuse_existing(output, overwrite)
    inputs = opened(options)
    if inputs.S is None:
        result = tune_unpaired(inputs.banks["query_bank"], "is" if method == "auto" else method, progress_bar)
    else:
        pairs, bank = match_truth(inputs, truth, skip_queries), inputs.banks.get("gallery_bank")
        result = tune_settings(inputs.S, inputs.banks["query_bank"], pairs, method, bank, progress_bar, ties)
    with nullcontext() if output is None else results_folder(output, overwrite) as folder:
        found = write_tuning(result, inputs, folder)
    if as_json:
        print_json(found)
        return
    chosen = found["selection"]["chosen"]
    print_table(f"chosen by {result.rule}", ["", ""], [(n, short(v)) for n, v in chosen.items() if v is not None])


app.command("index")(index)
app.command("simulate")(simulate)
