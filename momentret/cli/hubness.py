"""`momentret hubness`: report, tune, fit, normalise.

Rows are queries (or bank elements), columns the gallery. With `--queries` and `--gallery` all inputs are embeddings and
similarities are computed block by block; otherwise all are similarity matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.console import print_json, print_table, progress_bar

if TYPE_CHECKING:
    from momentret.search.hubness.config import HubnessConfig
    from momentret.search.hubness.normaliser import HubnessNormaliser
    from momentret.search.hubness.opening import Inputs
    from momentret.search.hubness.tuning import Trial, TuneResult

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Find hubs in a retrieval matrix and correct for them with banks.")

SIMILARITIES = typer.Argument(None, help="Similarities, queries × gallery: .npy .npz .h5 .csv .parquet .pt, path:key.")
QUERIES = typer.Option(None, "--queries", help="Embeddings of the queries, instead of similarities.")
GALLERY = typer.Option(None, "--gallery", help="Embeddings of the gallery; banks are embeddings too then.")
QUERY_BANK = typer.Option(None, "--query-bank", help="Training queries × gallery, or their embeddings.")
GALLERY_BANK = typer.Option(None, "--gallery-bank", help="Training gallery × gallery, or embeddings.")
METRIC = typer.Option("cosine", "--metric", help="Of embeddings: cosine or dot.")
TRUTH = typer.Option(None, "--truth", help="diag, captions:N, or a .csv of query_id,gallery_id.")
LENGTHS = typer.Option("1,5,10", "--k", help="List lengths whose k-occurrence is counted.")
METHOD = typer.Option(
    "is", "--method", "-m", help="raw is dis gis dualis dualdis nnn csls gc bank-sinkhorn dbsn dsl sn."
)
PUBLISHED = typer.Option(False, "--published", help="The values of the method's paper or code, unshrunk.")
BETA_QUERY = typer.Option(None, "--beta-query", help="Inverse temperature of the query bank [2.5 / deviation].")
BETA_GALLERY = typer.Option(None, "--beta-gallery", help="Inverse temperature of the gallery bank [0.25 / deviation].")
SHRINK = typer.Option(None, "--shrink", help="0 raw to 1 the published method [as reliable as the bank is].")
TUNED = typer.Option(None, "--tuned", help="Settings that `hubness tune` wrote.")
TOP = typer.Option(None, "--top", help="Bank similarities averaged by nnn [64] and csls [10].")
TAU = typer.Option(None, "--tau", help="Sinkhorn regulariser [0.3 deviations].")
RULE = typer.Option(None, "--rule", help="monotone, or product as published (dualdis, dsl).")
LIVE = typer.Option(None, "--live", help="Unlabelled live queries, at least 30: checks the bank against them.")
CROSS_BANK = typer.Option(None, "--cross-bank", help="Query bank × gallery bank (dbsn); from embeddings by itself.")
TRANSPOSE = typer.Option(
    [], "--transpose", help="Turn an input: similarities, query-bank or gallery-bank (repeatable)."
)
OUTPUT = typer.Option(None, "--output", "-o", help="Folder for the results.")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace the output folder.")
JSON = typer.Option(False, "--json", help="Print the report as JSON.")


@app.command("report")
def report(
    similarities: str | None = SIMILARITIES,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    truth: str | None = TRUTH,
    k: str = LENGTHS,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Measure the hubness of a retrieval result: who is everybody's neighbour."""
    from momentret.search.hubness.opening import open_inputs

    inputs = open_inputs(similarities, queries=queries, gallery=gallery, metric=metric)
    _finish(inputs, None, _lengths(k), truth, output, overwrite, as_json, write_matrix=False, trec=0)


@app.command("normalise")
def normalise(
    similarities: str | None = SIMILARITIES,
    query_bank: str | None = QUERY_BANK,
    gallery_bank: str | None = GALLERY_BANK,
    cross_bank: str | None = CROSS_BANK,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    state: Path | None = typer.Option(None, "--state", help="A folder that `hubness fit` wrote, instead of banks."),
    method: str | None = METHOD,
    published: bool = PUBLISHED,
    tuned: Path | None = TUNED,
    beta_query: float | None = BETA_QUERY,
    beta_gallery: float | None = BETA_GALLERY,
    shrink: float | None = SHRINK,
    top: int | None = TOP,
    tau: float | None = TAU,
    rule: str | None = RULE,
    live: str | None = LIVE,
    transpose: list[str] = TRANSPOSE,
    truth: str | None = TRUTH,
    k: str = LENGTHS,
    trec: int = typer.Option(0, "--trec", min=0, help="Write the top so many of every query as a TREC run."),
    allow_transductive: bool = typer.Option(False, "--allow-transductive", help="Allow dsl and sn."),
    matrix: bool = typer.Option(True, "--matrix/--no-matrix", help="Write the corrected matrix as .npy."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for matrix, report.json, hubness.png, hubs.csv."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Correct similarities by banks; write the matrix, a report and a picture."""
    from momentret.errors import ConfigError
    from momentret.files import refuse_existing
    from momentret.search.hubness.checking import require_allowed
    from momentret.search.hubness.opening import open_inputs
    from momentret.search.hubness.state import load_normaliser

    refuse_existing(output, overwrite)
    inputs = open_inputs(
        similarities,
        queries=queries,
        gallery=gallery,
        metric=metric,
        query_bank=query_bank,
        gallery_bank=gallery_bank,
        cross_bank=cross_bank,
        live=live,
        transpose=transpose,
    )
    if state is not None:
        if inputs.banks:
            raise ConfigError("both --state and a bank were given; a state has its banks inside")
        normaliser = load_normaliser(state, inputs.gallery_ids)
    else:
        config = _config(method, published, tuned, locals())
        require_allowed(config, allow_transductive)
        normaliser = _fitted(config, inputs)
    _finish(inputs, normaliser, _lengths(k), truth, output, overwrite, as_json, matrix, trec)


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
    tau: float | None = TAU,
    rule: str | None = RULE,
    live: str | None = LIVE,
    transpose: list[str] = TRANSPOSE,
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the state."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Fit banks once and store one number per gallery item, to apply with `normalise --state` or from Python."""
    from momentret.files import refuse_existing
    from momentret.search.hubness.opening import open_inputs
    from momentret.search.hubness.report import parameters
    from momentret.search.hubness.state import save_normaliser

    refuse_existing(output / "manifest.json", overwrite)
    inputs = open_inputs(
        gallery=gallery,
        metric=metric,
        query_bank=query_bank,
        gallery_bank=gallery_bank,
        cross_bank=cross_bank,
        live=live,
        transpose=transpose,
    )
    config = _config(method, published, tuned, locals())
    normaliser = _fitted(config, inputs)
    save_normaliser(normaliser, output, inputs.gallery_ids, overwrite)
    found: dict[str, Any] = {"state": str(output), "items": normaliser.items, **parameters(config, normaliser)}
    if as_json:
        print_json(found)
    else:
        print_table(
            f"fitted {config.method}", ["", ""], [(name, _short(value)) for name, value in found["bank"].items()]
        )


@app.command("tune")
def tune(
    similarities: str | None = typer.Argument(
        None, help="Validation queries × validation gallery; none: without pairs."
    ),
    query_bank: str = typer.Option(..., "--query-bank", help="Bank × validation gallery, or embeddings."),
    gallery_bank: str | None = GALLERY_BANK,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    method: str = typer.Option("auto", "--method", "-m", help="A bank method, or auto."),
    truth: str = typer.Option("diag", "--truth", help="diag, captions:N, or a .csv of query_id,gallery_id."),
    transpose: list[str] = TRANSPOSE,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Choose method, temperature, k and shrinkage on validation queries, or on held-out bank rows if there are none."""
    from momentret.search.hubness.opening import open_inputs
    from momentret.search.hubness.report import tune_report, tune_table
    from momentret.search.hubness.tuning import tune as tune_settings
    from momentret.search.hubness.tuning import tune_unpaired

    inputs = open_inputs(
        similarities,
        queries=queries,
        gallery=gallery,
        metric=metric,
        query_bank=query_bank,
        gallery_bank=gallery_bank,
        transpose=transpose,
    )
    if inputs.S is None:
        result = tune_unpaired(inputs.banks["query_bank"], "is" if method == "auto" else method, progress_bar)
    else:
        pairs = _truth(truth, inputs)
        bank = inputs.banks.get("gallery_bank")
        result = tune_settings(inputs.S, inputs.banks["query_bank"], pairs, method, bank, progress_bar)
    found: dict[str, Any] = {"schema_version": 1, "inputs": inputs.facts, "selection": tune_report(result)}
    if output is not None:
        from momentret.files import write_json

        with _staged(output, overwrite) as stage:
            write_json(stage / "tune.json", found)
            tune_table(result).to_csv(stage / "tune.csv", index=False)
            _plot_tuning(stage / "tune.png", result)
    if as_json:
        print_json(found)
        return
    chosen = found["selection"]["chosen"]
    print_table(f"chosen by {result.rule}", ["", ""], [(n, _short(v)) for n, v in chosen.items() if v is not None])


def _config(method: str | None, published: bool, tuned: Path | None, options: dict[str, Any]) -> HubnessConfig:
    """Return the settings: tuned or published ones, or defaults, with single options laid over."""
    from dataclasses import replace

    from momentret.errors import ConfigError
    from momentret.search.hubness.config import HubnessConfig

    names = ("beta_query", "beta_gallery", "shrink", "top", "tau", "rule")
    given = {name: options[name] for name in names if options[name] is not None}
    if published and tuned:
        raise ConfigError("both --published and --tuned were given; choose one")
    if tuned is not None:
        if set(given) - {"shrink", "rule"}:
            raise ConfigError(
                "--tuned has its own temperatures and k; leave out --beta-query, --beta-gallery, --top, --tau"
            )
        from momentret.search.hubness.report import read_tuned

        return replace(read_tuned(tuned), **given)
    if published:
        HubnessConfig(method=method or "is")  # raises with the nearest name
        return replace(HubnessConfig.published(method or "is"), **given)
    return HubnessConfig(method=method or "is", **given)


def _fitted(config: HubnessConfig, inputs: Inputs) -> HubnessNormaliser:
    """Fit the banks that the method takes, and say which one it ignores."""
    import logging

    from momentret.search.hubness.normaliser import HubnessNormaliser

    for name in sorted(set(inputs.banks) - {"cross_bank"}):
        if not getattr(config.traits, name):
            warning = f"method {config.method} does not use the {name.replace('_', ' ')}"
            logging.getLogger(__name__).warning(warning)
            inputs.warnings.append(warning)
    return HubnessNormaliser(config).fit(
        inputs.banks.get("query_bank"),
        inputs.banks.get("gallery_bank"),
        inputs.banks.get("cross_bank"),
        inputs.live,
        progress=progress_bar,
    )


def _lengths(text: str) -> list[int]:
    from momentret.errors import ConfigError

    try:
        lengths = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise ConfigError(f"--k is {text!r}, expected whole numbers as in 1,5,10") from error
    if lengths[0] < 1:
        raise ConfigError(f"--k is {text!r}, expected numbers from 1")
    return lengths


def _truth(truth: str | None, inputs: Inputs) -> Any:
    from momentret.search.hubness.reading import read_truth
    from momentret.search.hubness.retrieval import check_pairs

    assert inputs.S is not None
    if truth is None:
        return None
    pairs = read_truth(truth, inputs.S.shape, inputs.query_ids, inputs.gallery_ids)
    check_pairs(pairs, inputs.S.shape)
    return pairs


def _finish(
    inputs: Inputs,
    normaliser: HubnessNormaliser | None,
    ks: list[int],
    truth: str | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    write_matrix: bool,
    trec: int,
) -> None:
    """Do the pass over the queries, write what was asked for, print the report."""
    from momentret.errors import ConfigError
    from momentret.search.hubness.report import compare, run_pass

    if inputs.S is None:
        raise ConfigError("no queries: give similarities, or --queries with --gallery")
    pairs = _truth(truth, inputs)
    if output is None:
        result = run_pass(inputs.S, normaliser, ks, pairs, progress=progress_bar)
    else:
        with _staged(output, overwrite) as stage:
            if write_matrix:
                with open(stage / "normalised.npy", "wb") as file:
                    result = run_pass(inputs.S, normaliser, ks, pairs, trec, file, progress_bar)
            else:
                result = run_pass(inputs.S, normaliser, ks, pairs, trec, progress=progress_bar)
            _write_results(stage, inputs, normaliser, result, trec)
    found = {**_head(inputs, normaliser), **compare(result, inputs.gallery_ids)}
    if as_json:
        print_json(found)
    else:
        _print(found, normaliser)


def _write_results(stage: Path, inputs: Inputs, normaliser: HubnessNormaliser | None, result: Any, trec: int) -> None:
    from momentret.files import atomic_write, write_json
    from momentret.plots.hubness import plot_hubness
    from momentret.search.hubness.report import compare, hub_table, write_trec

    write_json(stage / "report.json", {**_head(inputs, normaliser), **compare(result, inputs.gallery_ids)})
    hub_table(result, normaliser, inputs.gallery_ids).to_csv(stage / "hubs.csv", index=False)
    k = max(result.raw.ks)
    counts = {"raw": result.raw.counts[k]}
    if result.corrected is not None and normaliser is not None:
        counts[normaliser.config.method] = result.corrected.counts[k]
    ids = inputs.gallery_ids or [str(i) for i in range(len(result.raw.bad))]
    title = normaliser.config.traits.title if normaliser else "raw similarities"
    plot_hubness(stage / "hubness.png", counts, k, result.raw.queries, ids, title=title)
    if trec:
        with atomic_write(stage / "run.trec") as file:
            tag = f"momentret-{normaliser.config.method}" if normaliser else "momentret-raw"
            write_trec(file, result.corrected or result.raw, tag, inputs.query_ids, inputs.gallery_ids)


def _head(inputs: Inputs, normaliser: HubnessNormaliser | None) -> dict[str, Any]:
    """Return what a report says before its numbers."""
    from momentret.search.hubness.report import parameters
    from momentret.search.hubness.state import library_version

    warnings = list(inputs.warnings)
    head: dict[str, Any] = {"schema_version": 1, "library_version": library_version(), "inputs": inputs.facts}
    if normaliser is not None:
        guard = normaliser.facts.guard
        if guard is not None and not guard.fit:
            warnings.append("the bank is unfit: it does not see the hubs of the live queries; nothing was corrected")
        traits = normaliser.config.traits
        head |= {"method": normaliser.config.method, "transductive": traits.transductive}
        head |= parameters(normaliser.config, normaliser)
    return {**head, "warnings": warnings}


def _print(found: dict[str, Any], normaliser: HubnessNormaliser | None) -> None:
    sides = list(found["hubness"])
    method = "raw" if normaliser is None else normaliser.config.method
    marked = f"{method} (transductive)" if found.get("transductive") else method
    rows: list[list[str]] = []
    for k in found["hubness"]["raw"]:
        sets = [found["hubness"][side][k] for side in sides]
        names = ("skewness", "max", "hub_rate", "hub_occupancy", "antihub_rate", "robin_hood")
        rows += [[f"N_{k} {n.replace('_', ' ')}", *(_short(values[n]) for values in sets)] for n in names]
        rows.append([f"N_{k} skewness without hubness", *(_short(values["skewness_baseline"]) for values in sets)])
    if found["retrieval"]["raw"]:
        metrics = ("R1", "R5", "R10", "MdR", "MnR")
        rows += [[name, *(f"{found['retrieval'][side][name]:.1f}" for side in sides)] for name in metrics]
    print_table("hubness", ["", *("raw" if side == "raw" else marked for side in sides)], rows)
    for warning in found["warnings"]:
        if "unfit" in warning:
            typer.echo(f"momentret: warning: {warning}", err=True)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plot_tuning(path: Path, result: TuneResult) -> None:
    """Draw the best value of every temperature (or k), a line a method."""
    from momentret.plots.hubness import plot_tuning

    best: dict[tuple[str, float], float] = {}
    for trial in result.trials:
        place = (trial.config.method, _place(trial))
        best[place] = max(
            best.get(place, _value(trial)), _value(trial), key=lambda v: v if trial.R1 is not None else -v
        )
    curves: dict[str, list[tuple[float, float]]] = {}
    for (name, x), value in best.items():
        curves.setdefault(name, []).append((x, value))
    ylabel = "R@1" if result.best.R1 is not None else "absolute skewness of N_10"
    plot_tuning(path, curves, (_place(result.chosen), _value(result.chosen)), ylabel)


def _place(trial: Trial) -> float:
    config = trial.config
    return config.beta_query or config.beta_gallery or config.tau or config.top or 0.0


def _value(trial: Trial) -> float:
    return trial.R1 if trial.R1 is not None else abs(trial.skewness or 0.0)


@contextmanager
def _staged(output: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder that takes the place of `output` when all is written; nothing is left of a failure."""
    import shutil
    import tempfile

    from momentret.errors import OutputExistsError
    from momentret.files import refuse_existing

    refuse_existing(output, overwrite)
    if output.exists() and not (output.is_dir() and (_is_ours(output) or not any(output.iterdir()))):
        raise OutputExistsError(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name[:100]}.", suffix=".tmp"))
    try:
        yield stage
        if output.exists():
            shutil.rmtree(output)
        stage.chmod(0o755)
        stage.rename(output)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    return (folder / "report.json").is_file() or (folder / "tune.json").is_file()
