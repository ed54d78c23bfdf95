"""TACoS: one moment a query in long cooking videos; query ids are strings.

Source: Regneri et al., "Grounding Action Descriptions in Videos", TACL 2013; splits of Gao et al., ICCV 2017, as
cleaned by Zhang et al., "2D-TAN", AAAI 2020.
"""

from __future__ import annotations

import re

from momentret.datasets.info import DatasetInfo
from momentret.datasets.reading import Reading, Row
from momentret.records import Annotation

__all__ = ["INFO"]


def _read(reading: Reading) -> None:
    reading.take(reading.json_rows(), _parse)


def _parse(row: Row) -> Annotation | None:
    duration = row.number("duration")
    return row.annotation(duration, windows=row.windows(duration))


INFO = DatasetInfo(
    name="tacos",
    read=_read,
    recognise=lambda row: re.fullmatch(r"s\d+-d\d+", str(row.get("vid"))) is not None,
    clip_length=2.0,
    saliency="window",
    clamp=None,
    round_to_clips=True,
    has_validation_split=True,
    licence="research use, under the terms of the MPII cooking videos",
)
