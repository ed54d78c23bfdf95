"""`momentret hubness`: report, normalise, fit, tune, index, simulate.

Rows are queries (or bank elements), columns the gallery. With `--queries` and `--gallery` all inputs are embeddings and
similarities are computed block by block; otherwise all are similarity matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.console import print_json, print_table, progress_bar
from momentret.files import write_json

if TYPE_CHECKING:
    from momentret.search.hubness.config import HubnessConfig
    from momentret.search.hubness.normaliser import HubnessNormaliser
    from momentret.search.hubness.opening import Inputs
    from momentret.search.hubness.results import Wanted

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Find hubs in a retrieval matrix and correct for them with banks.")

SIMILARITIES = typer.Argument(
    None, help="Similarities, queries × gallery: .npy .npz .h5 .csv .tsv .parquet .pt, path:key."
)
QUERIES = typer.Option(None, "--queries", help="Embeddings of the queries, instead of similarities.")
GALLERY = typer.Option(None, "--gallery", help="Embeddings of the gallery; banks are embeddings too then.")
QUERY_BANK = typer.Option(None, "--query-bank", help="Training queries × gallery, or their embeddings.")
GALLERY_BANK = typer.Option(None, "--gallery-bank", help="Training gallery × gallery, or embeddings.")
TREC = typer.Option(0, "--trec", min=0, help="Write the top so many of every query as a TREC run.")
METRIC = typer.Option("cosine", "--metric", help="Of embeddings: cosine or dot.")
TRUTH = typer.Option(None, "--truth", help="diag, captions:N, or a .csv of query_id,gallery_id.")
LENGTHS = typer.Option("1,5,10", "--k", help="List lengths whose k-occurrence is counted.")
METHOD = typer.Option(
    "is", "--method", "-m", help="raw is dis gis dualis dualdis nnn csls gc bank-sinkhorn dbsn; transductive: dsl sn."
)
PUBLISHED = typer.Option(False, "--published", help="The values of the method's paper or code, unshrunk.")
BETA_QUERY = typer.Option(None, "--beta-query", help="Inverse temperature of the query bank [2.5 / deviation].")
BETA_GALLERY = typer.Option(None, "--beta-gallery", help="Inverse temperature of the gallery bank [0.25 / deviation].")
SHRINK = typer.Option(None, "--shrink", help="0 raw to 1 the published method [as reliable as the bank is].")
TUNED = typer.Option(None, "--tuned", help="Settings that `hubness tune` wrote.")
TOP = typer.Option(None, "--top", help="Bank similarities averaged by nnn [64] and csls [10].")
ALPHA = typer.Option(None, "--alpha", help="Weight of the nnn bias [1].")
TAU = typer.Option(None, "--tau", help="Sinkhorn regulariser [0.3 deviations].")
ITERATIONS = typer.Option(None, "--iterations", help="Sinkhorn iterations [10].")
K_QUERY = typer.Option(None, "--k-query", help="Items that a query bank row activates (dis, dualdis) [1].")
K_GALLERY = typer.Option(None, "--k-gallery", help="Items that a gallery bank row activates (dualdis) [1].")
UNITS = typer.Option(None, "--units", help="Of beta and tau: inverse, or std: in deviations of the bank.")
RULE = typer.Option(None, "--rule", help="monotone, or product as published (dualdis, dsl).")
LIVE = typer.Option(None, "--live", help="Unlabelled live queries, at least 30: checks the bank against them.")
CROSS_BANK = typer.Option(None, "--cross-bank", help="Query bank × gallery bank (dbsn); from embeddings by itself.")
TRANSPOSE = typer.Option(
    [], "--transpose", help="Turn an input: similarities, query-bank or gallery-bank (repeatable)."
)
DIRECTION = typer.Option(
    "query-to-gallery", "--direction", help="query-to-gallery, gallery-to-query, or (of embeddings) both."
)
ALLOW_OVERLAP = typer.Option(False, "--allow-overlap", help="Allow banks that hold ids or rows of the test set.")
OUTPUT = typer.Option(None, "--output", "-o", help="Folder for the results.")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace the output folder.")
JSON = typer.Option(False, "--json", help="Print the report as JSON.")


@app.command("report")
def report(
    similarities: str | None = SIMILARITIES,
    queries: str | None = QUERIES,
    gallery: str | None = GALLERY,
    metric: str = METRIC,
    direction: str = DIRECTION,
    transpose: list[str] = TRANSPOSE,
    truth: str | None = TRUTH,
    k: str = LENGTHS,
    trec: int = TREC,
    output: Path | None = OUTPUT,
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Measure the hubness of a retrieval result: who is everybody's neighbour."""
    from momentret.search.hubness.results import Wanted

    specs = {"queries": queries, "gallery": gallery, "metric": metric, "transpose": transpose}
    wanted = Wanted(output, _lengths(k), trec=trec)
    _run(lambda inputs: None, similarities, specs, direction, truth, wanted, overwrite, as_json)


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
    state: Path | None = typer.Option(None, "--state", help="A folder that `hubness fit` wrote, instead of banks."),
    method: str | None = METHOD,
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
    live: str | None = LIVE,
    transpose: list[str] = TRANSPOSE,
    allow_overlap: bool = ALLOW_OVERLAP,
    truth: str | None = TRUTH,
    k: str = LENGTHS,
    trec: int = TREC,
    allow_transductive: bool = typer.Option(False, "--allow-transductive", help="Allow dsl and sn."),
    matrix: bool = typer.Option(True, "--matrix/--no-matrix", help="Write the corrected matrix as .npy."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for matrix, report.json, hubness.png, hubs.csv."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Correct similarities by banks; write the matrix, a report and a picture."""
    from momentret.errors import ConfigError
    from momentret.search.hubness.checking import require_allowed
    from momentret.search.hubness.results import Wanted
    from momentret.search.hubness.state import load_normaliser

    settings = _settings(locals())
    config = None if state is not None else _config(method, published, tuned, settings)
    if config is not None:
        require_allowed(config, allow_transductive)
    elif settings or published or tuned:
        raise ConfigError("--state has its settings inside; leave out the others, or fit again with them")

    def make(inputs: Inputs) -> HubnessNormaliser:
        if config is not None:
            return _fitted(config, inputs)
        assert state is not None
        if inputs.banks:
            raise ConfigError("both --state and a bank were given; a state has its banks inside")
        return load_normaliser(state, inputs.gallery_ids)

    specs: dict[str, Any] = {"queries": queries, "gallery": gallery, "metric": metric, "transpose": transpose}
    specs |= {"query_bank": query_bank, "gallery_bank": gallery_bank, "cross_bank": cross_bank, "live": live}
    specs["allow_overlap"] = allow_overlap
    _run(make, similarities, specs, direction, truth, Wanted(output, _lengths(k), matrix, trec), overwrite, as_json)


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
    live: str | None = LIVE,
    transpose: list[str] = TRANSPOSE,
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the state."),
    overwrite: bool = OVERWRITE,
    as_json: bool = JSON,
) -> None:
    """Fit banks once and store one number per gallery item, to apply with `normalise --state` or from Python."""
    from momentret.files import refuse_existing
    from momentret.search.hubness.opening import open_inputs
    from momentret.search.hubness.state import save_normaliser

    config = _config(method, published, tuned, _settings(locals()))
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
    normaliser = _fitted(config, inputs)
    save_normaliser(normaliser, output, inputs.gallery_ids, overwrite)
    _print_fitted(normaliser, output, as_json)


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
    from momentret.files import refuse_existing
    from momentret.search.hubness.opening import open_inputs
    from momentret.search.hubness.results import results_folder, write_tuning
    from momentret.search.hubness.tuning import tune as tune_settings
    from momentret.search.hubness.tuning import tune_unpaired

    if output is not None:
        refuse_existing(output, overwrite)
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
        pairs, bank = _truth(truth, inputs), inputs.banks.get("gallery_bank")
        result = tune_settings(inputs.S, inputs.banks["query_bank"], pairs, method, bank, progress_bar)
    if output is None:
        found = write_tuning(result, inputs, None)
    else:
        with results_folder(output, overwrite) as folder:
            found = write_tuning(result, inputs, folder)
    if as_json:
        print_json(found)
        return
    chosen = found["selection"]["chosen"]
    print_table(f"chosen by {result.rule}", ["", ""], [(n, _short(v)) for n, v in chosen.items() if v is not None])


@app.command("index")
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
    from momentret.search.hubness.config import HubnessConfig
    from momentret.search.hubness.corpus import (
        CorpusHubness,
        clips_of_videos,
        encode_bank,
        hubness_folder,
        read_texts,
    )
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
    _print_fitted(state.normaliser, output, as_json)


@app.command("simulate")
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


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, of all options of a verb."""
    names = ("beta_query", "beta_gallery", "shrink", "top", "alpha", "tau", "iterations", "k_query", "k_gallery")
    return {name: options[name] for name in (*names, "units", "rule") if options[name] is not None}


def _config(method: str | None, published: bool, tuned: Path | None, given: dict[str, Any]) -> HubnessConfig:
    """Return the settings: tuned or published ones, or defaults, with single options laid over."""
    from dataclasses import replace

    from momentret.errors import ConfigError
    from momentret.search.hubness.config import HubnessConfig

    if published and tuned:
        raise ConfigError("both --published and --tuned were given; choose one")
    if tuned is not None:
        if set(given) - {"shrink", "rule"}:
            raise ConfigError("--tuned has its own temperatures and k; beside it give only --shrink and --rule")
        from momentret.search.hubness.report import read_tuned

        return replace(read_tuned(tuned), **given)
    if published:
        HubnessConfig(method=method or "is")  # raises with the nearest name
        return replace(HubnessConfig.published(method or "is"), **given)
    return HubnessConfig(method=method or "is", **given)


def _fitted(config: HubnessConfig, inputs: Inputs) -> HubnessNormaliser:
    """Fit the banks that the method takes, and say which one it ignores."""
    from momentret.search.hubness.normaliser import HubnessNormaliser

    for name in sorted(set(inputs.banks) - {"cross_bank"}):
        if not getattr(config.traits, name):
            inputs.warn(f"method {config.method} does not use the {name.replace('_', ' ')}")
    bank = inputs.banks.get("query_bank")
    if bank is not None and config.method in ("nnn", "csls") and config.top_rows > bank.shape[0]:
        inputs.warn(f"top is {config.top_rows}, the query bank has {bank.shape[0]} rows: all of them are averaged")
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
    from momentret.search.hubness.opening import BACKWARD
    from momentret.search.hubness.reading import read_truth
    from momentret.search.hubness.retrieval import check_pairs

    if truth is None or inputs.S is None:
        return None
    queries, items = inputs.S.shape
    if inputs.direction == BACKWARD:  # the truth is always written as (query, item)
        pairs = read_truth(truth, (items, queries), inputs.gallery_ids, inputs.query_ids)[:, ::-1].copy()
    else:
        pairs = read_truth(truth, (queries, items), inputs.query_ids, inputs.gallery_ids)
    check_pairs(pairs, inputs.S.shape)
    return pairs


def _run(
    make: Callable[[Inputs], HubnessNormaliser | None],
    similarities: str | None,
    specs: dict[str, Any],
    direction: str,
    truth: str | None,
    wanted: Wanted,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Do the pass over the queries in the directions asked for, write what was asked for, print the reports."""
    from momentret.errors import ConfigError
    from momentret.files import refuse_existing
    from momentret.search.hubness.opening import BACKWARD, FORWARD, open_inputs
    from momentret.search.hubness.results import results_folder, write_pass

    both = direction == "both"
    if both and (similarities or specs.get("live")):
        what = (
            "live queries are of one direction" if specs.get("live") else "banks of similarities are of one direction"
        )
        raise ConfigError(f"--direction both is for embeddings without --live ({what}); run each direction by itself")
    if wanted.output is not None:
        refuse_existing(wanted.output, overwrite)
    found = {}
    with nullcontext() if wanted.output is None else results_folder(wanted.output, overwrite) as folder:
        for name in (FORWARD, BACKWARD) if both else (direction,):
            inputs = open_inputs(similarities, **specs, direction=name)
            normaliser, pairs = make(inputs), _truth(truth, inputs)
            place = folder / name if both and folder is not None else folder
            if place is not None:
                place.mkdir(exist_ok=True)
            found[name] = write_pass(inputs, normaliser, pairs, wanted, place, progress_bar)
        if both and folder is not None:
            write_json(folder / "report.json", found)
    if as_json:
        print_json(found if both else found[direction])
        return
    for name, report in found.items():
        _print(report, f"hubness, {name}" if both or name == BACKWARD else "hubness")
    if wanted.output is not None:
        typer.echo(f"written to {wanted.output}")


def _print(found: dict[str, Any], title: str) -> None:
    sides = list(found["hubness"])
    method = found.get("method", "raw")
    marked = f"{method} (transductive)" if found.get("transductive") else method
    rows: list[list[str]] = []
    if found["retrieval"]["raw"]:
        metrics = ("R1", "R5", "R10", "MdR", "MnR")
        rows += [[name, *(f"{found['retrieval'][side][name]:.1f}" for side in sides)] for name in metrics]
    for k in found["hubness"]["raw"]:
        sets = [found["hubness"][side][k] for side in sides]
        names = ("skewness", "max", "hub_rate", "hub_occupancy", "antihub_rate", "robin_hood")
        rows += [[f"N_{k} {n.replace('_', ' ')}", *(_short(values[n]) for values in sets)] for n in names]
        rows.append([f"N_{k} skewness without hubness", *(_short(values["skewness_baseline"]) for values in sets)])
    print_table(title, ["", *("raw" if side == "raw" else marked for side in sides)], rows)
    hubs = [f"{hub['id']} ({hub['occurrences']})" for hub in found["hubness"]["raw"][k]["top_hubs"][:5]]
    typer.echo(f"worst hubs, in so many lists of {k}: {', '.join(hubs)}")
    change = found["difference"] or {}
    if "R1" in change:
        low, high = change["ci95"]
        typer.echo(
            f"R1 {change['R1']:+.1f} (95 % interval {low:+.1f} to {high:+.1f}): {change['gained']} queries gained, "
            f"{change['lost']} lost, p {change['mcnemar_p']:.2g}"
        )


def _print_fitted(normaliser: HubnessNormaliser, output: Path, as_json: bool) -> None:
    from momentret.search.hubness.report import parameters

    found = {"state": str(output), "items": normaliser.items, **parameters(normaliser.config, normaliser)}
    if as_json:
        print_json(found)
        return
    rows = [(name, _short(value)) for name, value in found["bank"].items() if value is not None]
    print_table(f"fitted {normaliser.config.method}, kept in {output}", ["", ""], rows)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
