"""A pass over the queries as a folder of results: matrix, report, table, picture, TREC run; all of it, or nothing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import numpy as np

from momentret.errors import ConfigError, OutputExistsError
from momentret.files import atomic_write, refuse_existing, stage_for, write_json
from momentret.plots.hubness import plot_hubness, plot_lorenz, plot_tuning
from momentret.progress import Progress, silent
from momentret.search.hubness.checking import worse_than_chance
from momentret.search.hubness.counting import PassResult, run_pass
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.opening import Inputs
from momentret.search.hubness.report import (
    compare,
    hub_table,
    parameters,
    require_words,
    summary,
    tune_report,
    tune_table,
    write_trec,
)
from momentret.search.hubness.retrieval import TIES
from momentret.search.hubness.state import library_version
from momentret.search.hubness.tuning import Trial, TuneResult

__all__ = ["Wanted", "results_folder", "write_pass", "write_tuning"]

OURS = ("report.json", "tune.json", "world.json")  # a folder without one of these is never replaced


class Wanted:
    """What a pass is to write.

    Args:
        output: folder for the results, or None for the report alone.
        matrix: write the corrected similarities.
        trec: length of the lists of the TREC run; 0: none.
        lengths: list lengths whose k-occurrence is counted.
        ties: rank of a positive among items of its score, a name of `retrieval.TIES`.
    """

    def __init__(
        self,
        output: Path | None,
        lengths: Sequence[int],
        matrix: bool = False,
        trec: int = 0,
        ties: str = "average",
    ) -> None:
        if trec and output is None:
            raise ConfigError("--trec needs --output, a folder to write the run to")
        if ties not in TIES:
            raise ConfigError(f"--ties is {ties!r}, expected one of {', '.join(TIES)}")
        self.output, self.lengths, self.matrix, self.trec = output, tuple(lengths), matrix, trec
        self.ties = ties


@contextmanager
def results_folder(output: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder that takes the place of `output` when all is written; nothing is left of a failure.

    Raises:
        OutputExistsError: it is there and `overwrite` is off, or it is not a folder of results.
    """
    refuse_existing(output, overwrite)
    if output.exists() and not (output.is_dir() and (_is_ours(output) or not any(output.iterdir()))):
        raise OutputExistsError(output)
    with stage_for(output) as stage:
        yield stage
        if output.exists():
            shutil.rmtree(output)
        stage.chmod(0o755)
        stage.rename(output)


def _is_ours(folder: Path) -> bool:
    return any((folder / name).is_file() for name in OURS)


def write_pass(
    inputs: Inputs,
    normaliser: HubnessNormaliser | None,
    pairs: np.ndarray | None,
    wanted: Wanted,
    folder: Path | None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Count, correct, and write into `folder` what is wanted; returns the report.

    Raises:
        ConfigError: there are no queries.
    """
    if inputs.S is None:
        raise ConfigError("no queries: give similarities, or --queries with --gallery")
    _warn_of_lengths(inputs, wanted)
    if wanted.trec:
        require_words(inputs.query_ids, "query")
        require_words(inputs.gallery_ids, "gallery")
    write = folder is not None and normaliser is not None and wanted.matrix
    with _matrix_file(folder if write else None) as matrix, inputs.timed("apply_s"):
        result = run_pass(inputs.S, normaliser, wanted.lengths, pairs, wanted.trec, matrix, wanted.ties, progress)
    report = _report(inputs, normaliser, result, wanted.ties)
    if folder is not None:
        write_json(folder / "report.json", report)
        with atomic_write(folder / "report.md") as file:
            file.write(_markdown(report))
        _write_tables(folder, inputs, normaliser, result, wanted.trec)
    return report


@contextmanager
def _matrix_file(folder: Path | None) -> Iterator[IO[bytes] | None]:
    """Open the file of the corrected matrix, or none."""
    if folder is None:
        yield None
    else:
        with open(folder / "normalised.npy", "wb") as file:
            yield file


def _warn_of_lengths(inputs: Inputs, wanted: Wanted) -> None:
    assert inputs.S is not None
    longest, items = max(*wanted.lengths, wanted.trec), inputs.S.shape[1]
    if longest > items:
        inputs.warn(f"lists of {longest} were asked for, the gallery has {items} items: they are of {items}")


def _write_tables(
    folder: Path, inputs: Inputs, normaliser: HubnessNormaliser | None, result: PassResult, trec: int
) -> None:
    hub_table(result, normaliser, inputs.gallery_ids).to_csv(folder / "hubs.csv", index=False)
    k, name, title = max(result.raw.ks), "raw", "raw similarities"
    counts = {"raw": result.raw.counts[k]}
    if result.corrected is not None and normaliser is not None:
        name, traits = normaliser.config.method, normaliser.config.traits
        title = f"{traits.title} (transductive)" if traits.transductive else traits.title
        counts["raw, uncorrected" if name == "raw" else name] = result.corrected.counts[k]
    ids = inputs.gallery_ids or [str(i) for i in range(len(result.raw.bad))]
    plot_hubness(folder / "hubness.png", counts, k, result.raw.queries, ids, title=title)
    plot_lorenz(folder / "lorenz.png", counts, k, result.raw.queries)
    if trec:
        with atomic_write(folder / "run.trec") as file:
            write_trec(file, result.corrected or result.raw, f"momentret-{name}", inputs.query_ids, inputs.gallery_ids)


def _report(inputs: Inputs, normaliser: HubnessNormaliser | None, result: PassResult, ties: str) -> dict[str, Any]:
    report: dict[str, Any] = {**_head(inputs), "direction": inputs.direction}
    if normaliser is not None:
        guard, traits = normaliser.facts.guard, normaliser.config.traits
        if guard is not None and not guard.fit:
            inputs.warn("the bank is unfit: it does not see the hubs of the live queries; nothing was corrected")
        report |= {"method": normaliser.config.method, "transductive": traits.transductive}
        report |= parameters(normaliser, inputs.chosen_by, result)
    report |= compare(result, inputs.gallery_ids)
    assert inputs.S is not None
    for warning in worse_than_chance(report, inputs.S.shape if inputs.content is None else None):
        inputs.warn(warning)
    report |= {"ties": ties, "warnings": list(inputs.warnings), "timing": dict(inputs.seconds)}
    return {**report, "memory": {"peak_mb": _peak_mb()}}


def _head(inputs: Inputs) -> dict[str, Any]:
    """Return what every report begins with."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"schema_version": 2, "created": created, "library_version": library_version(), "inputs": inputs.facts}


def _peak_mb() -> float | None:
    """Return the most memory that this process has held, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _markdown(report: dict[str, Any]) -> str:
    """Return the report as a page for people."""
    columns, rows, sentences = summary(report)
    paths = {name.replace("_", " "): facts["path"] for name, facts in report["inputs"].items() if "path" in facts}
    files = [f"- {name}: `{path}`" for name, path in paths.items()]
    lines = [f"# Hubness, {report['direction']}", "", *files, "", f"| {' | '.join(columns)} |"]
    lines += [f"|---{'|---:' * (len(columns) - 1)}|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    notes = [*sentences, *(f"warning: {text}" for text in report["warnings"])]
    lines += [f"- {' '.join(note.split())}" for note in notes]
    return "\n".join([*lines, "", "![distribution](hubness.svg)", "", "![Lorenz curve](lorenz.png)", ""])


def write_tuning(result: TuneResult, inputs: Inputs, folder: Path | None) -> dict[str, Any]:
    """Write grid, choice and curve of a tuning into `folder`; returns the report."""
    report: dict[str, Any] = {**_head(inputs), "direction": inputs.direction}
    report |= {"selection": tune_report(result), "warnings": list(inputs.warnings)}
    if folder is not None:
        write_json(folder / "tune.json", report)
        tune_table(result).to_csv(folder / "tune.csv", index=False)
        _plot_tuning(folder / "tune.png", result)
    return report


def _plot_tuning(path: Path, result: TuneResult) -> None:
    """Draw the best value of every temperature (or k), a line a method."""
    paired = result.best.R1 is not None
    best: dict[tuple[str, float], float] = {}
    for trial in result.trials:
        place, value = (trial.config.method, _place(trial)), _value(trial)
        best[place] = (max if paired else min)(best.get(place, value), value)
    curves: dict[str, list[tuple[float, float]]] = {}
    for (name, x), value in best.items():
        curves.setdefault(name, []).append((x, value))
    raw = curves.pop("raw", [(0.0, None)])[0][1]
    ylabel = "R@1 on validation queries" if paired else "absolute skewness of $N_{10}$, held-out bank queries"
    chosen = (result.chosen.config.method, _place(result.chosen), _value(result.chosen))
    plot_tuning(path, curves, chosen, ylabel, raw)


def _place(trial: Trial) -> float:
    config = trial.config
    return config.beta_query or config.beta_gallery or config.tau or config.top or 0.0


def _value(trial: Trial) -> float:
    return trial.R1 if trial.R1 is not None else abs(trial.skewness or 0.0)
