"""The options that the sub-commands of `momentret hubness` share, and the settings that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from momentret.search.hubness.config import HubnessConfig

__all__ = [
    "ALLOW_OVERLAP",
    "ALPHA",
    "BANK_DOMAIN",
    "BANK_SAMPLE",
    "BETA_GALLERY",
    "BETA_QUERY",
    "CROSS_BANK",
    "DEVICE",
    "DIRECTION",
    "DUPLICATES",
    "FAIL_IF_WORSE",
    "GALLERY",
    "GALLERY_BANK",
    "ITERATIONS",
    "JSON",
    "K_GALLERY",
    "K_QUERY",
    "LENGTHS",
    "LIVE",
    "MATRIX",
    "METHOD",
    "METRIC",
    "NAN",
    "OUTPUT",
    "OVERWRITE",
    "PUBLISHED",
    "QUERIES",
    "QUERY_BANK",
    "RESULTS",
    "RULE",
    "SEED",
    "SHRINK",
    "SIMILARITIES",
    "SKIP",
    "TAU",
    "THREADS",
    "TIES",
    "TOP",
    "TRANSPOSE",
    "TREC",
    "TRUTH",
    "TUNED",
    "UNITS",
    "list_lengths",
    "method_config",
]

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
NAN = typer.Option("error", "--nan", help="Bank rows with NaN or +inf: error, or drop-bank-rows.")
DUPLICATES = typer.Option(
    "auto", "--duplicates", help="Bank rows that repeat another: drop, keep, or auto: drop those of embeddings."
)
BANK_SAMPLE = typer.Option(None, "--bank-sample", min=1, help="Use so many rows of each bank, at random [all].")
SEED = typer.Option(0, "--seed", min=0, help="Of --bank-sample.")
BANK_DOMAIN = typer.Option(None, "--bank-domain", help="other: a weaker nnn (alpha 0.5, top 16), for a foreign bank.")
SKIP = typer.Option(False, "--skip-queries-without-truth", help="Leave queries without a positive out.")
TIES = typer.Option("average", "--ties", help="A positive among equal scores: average optimistic pessimistic index.")
MATRIX = typer.Option(True, "--matrix/--no-matrix", help="Write the corrected matrix as .npy.")
RESULTS = typer.Option(..., "--output", "-o", help="Folder for matrix, report, pictures and hubs.csv.")
FAIL_IF_WORSE = typer.Option(False, "--fail-if-worse", help="Exit with 3 if R@1 falls (needs --truth).")
DEVICE = typer.Option("cpu", "--device", help="auto, cpu or cuda.")
THREADS = typer.Option(None, "--threads", min=1, max=1024, help="Threads of the CPU [OMP_NUM_THREADS, or all cores].")
ALLOW_OVERLAP = typer.Option(False, "--allow-overlap", help="Allow banks that hold ids or rows of the test set.")
OUTPUT = typer.Option(None, "--output", "-o", help="Folder for the results.")
OVERWRITE = typer.Option(False, "--overwrite", help="Replace the output folder.")
JSON = typer.Option(False, "--json", help="Print the report as JSON.")

FOREIGN = {"alpha": 0.5, "top": 16}  # of nnn, for a bank of another domain
SETTINGS = (
    "beta_query",
    "beta_gallery",
    "shrink",
    "top",
    "alpha",
    "tau",
    "iterations",
    "k_query",
    "k_gallery",
    "units",
    "rule",
)


def method_config(options: dict[str, Any]) -> tuple[HubnessConfig, str]:
    """Return the settings of a verb's options, and where they come from.

    Tuned or published ones, or defaults, with single options laid over.

    Raises:
        ConfigError: options contradict one another.
    """
    from dataclasses import replace

    from momentret.errors import ConfigError
    from momentret.search.hubness.config import HubnessConfig

    method, tuned, published = options["method"], options["tuned"], options["published"]
    given = {name: options[name] for name in SETTINGS if options[name] is not None}
    if published and tuned:
        raise ConfigError("both --published and --tuned were given; choose one")
    if tuned is not None:
        if set(given) - {"shrink", "rule"}:
            raise ConfigError("--tuned has its own temperatures and k; beside it give only --shrink and --rule")
        from momentret.search.hubness.report import read_tuned

        return replace(read_tuned(tuned), **given), f"tuned ({tuned})"
    base = HubnessConfig(method=method)  # raises with the nearest name
    if options["bank_domain"] is not None:
        if options["bank_domain"] not in ("same", "other") or method != "nnn":
            raise ConfigError(f"--bank-domain is {options['bank_domain']!r}; expected same or other, with --method nnn")
        given = {**(FOREIGN if options["bank_domain"] == "other" else {}), **given}
    if published:
        return replace(HubnessConfig.published(method), **given), "published"
    return replace(base, **given), "given" if given else "automatic"


def list_lengths(text: str) -> list[int]:
    """Return the list lengths of ``1,5,10``; `ConfigError` if they are none."""
    from momentret.errors import ConfigError

    try:
        lengths = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise ConfigError(f"--k is {text!r}, expected whole numbers as in 1,5,10") from error
    if lengths[0] < 1:
        raise ConfigError(f"--k is {text!r}, expected numbers from 1")
    return lengths
