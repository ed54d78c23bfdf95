"""Annotations of the public datasets, as their files are downloaded, to one value: `Annotation`.

One file per dataset; what differs between them is in its `DatasetInfo`. Training examples are in `examples` and
`targets`, which need torch and are not imported here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from momentret.config import nearest
from momentret.datasets import activitynet, charades_sta, qvhighlights, tacos, tvsum, youtube_highlights
from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import Finding, Reading
from momentret.errors import AnnotationError, ConfigError
from momentret.records import Annotation
from momentret.words import count_of, first_few

__all__ = ["DATASETS", "DatasetInfo", "detect_dataset", "examine", "group_findings", "read_annotations"]

# sets with labels of their own come first: a row tells them for certain, the others by the form of their video ids
_INFOS = [module.INFO for module in (qvhighlights, tvsum, youtube_highlights, charades_sta, activitynet, tacos)]
DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _INFOS}

logger = logging.getLogger(__name__)
_LEVELS = {"note": logging.INFO, "dropped": logging.WARNING, "warning": logging.WARNING}


def read_annotations(
    path: Path | str, dataset: str, durations: Sequence[Path | str] = (), subset: str = "full"
) -> list[Annotation]:
    """Read one annotation file; known flaws of the release are repaired by the dataset's own rule, and logged.

    Args:
        path: the file, as downloaded.
        dataset: a name of `DATASETS`.
        durations: Charades tables or ``{video id: seconds}`` JSON, for the Charades-STA text.
        subset: ``full``, or ``inside`` (Charades-STA text): only windows that end inside their video before the repair.

    Raises:
        AnnotationError: with the file, the row and the key; `momentret data check` lists all such errors.
        ConfigError: an unknown dataset or subset, or durations for a dataset whose files have them.
    """
    reading = examine(path, dataset, durations, subset)
    if reading.errors:
        more = f" ({len(reading.errors) - 1} more: momentret data check)" if len(reading.errors) > 1 else ""
        raise AnnotationError(f"{path}, {reading.errors[0]}{more}")
    for rule, findings in group_findings(reading.findings).items():
        level = _LEVELS[findings[0].level]
        logger.log(level, "%s: %s in %s: %s", path, rule, count_of(len(findings), "row"), first_few(findings, "; "))
    return reading.annotations


def examine(path: Path | str, dataset: str, durations: Sequence[Path | str] = (), subset: str = "full") -> Reading:
    """Read one annotation file and return all that was found, good and bad; takes what `read_annotations` takes.

    Raises:
        ConfigError: as `read_annotations`.
        AnnotationError: the durations, or a file that is one JSON value, cannot be read at all.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"dataset {dataset!r} is unknown{nearest(dataset, list(DATASETS))}")
    info = DATASETS[dataset]
    if subset not in info.subsets:
        raise ConfigError(f"{dataset} has no subset {subset!r}; known: {', '.join(info.subsets)}")
    if durations and not info.needs_durations:
        raise ConfigError(f"{dataset} files have durations of their own; leave out {', '.join(map(str, durations))}")
    reading = Reading(Path(path), [Path(file) for file in durations], subset)
    info.read(reading)
    return reading


def detect_dataset(path: Path | str) -> str | None:
    """Return which dataset a file comes from, judged by its name and its first row; None if nothing tells."""
    for info in _INFOS:
        if Path(path).name.endswith(info.suffixes):
            return info.name
    first = next(Reading(Path(path)).json_rows(), None)
    names = (info.name for info in _INFOS if first is not None and info.recognise(first.values))
    return next(names, None)


def group_findings(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return what is no error by the rule that was applied."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.level != "error":
            groups[finding.rule].append(finding)
    return dict(groups)
