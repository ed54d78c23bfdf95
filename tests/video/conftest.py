"""The rendered videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cases import CASES
from .rendering import render


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every video of `CASES`."""
    folder = tmp_path_factory.mktemp("videos")
    for name, (codec, how) in CASES.items():
        render(folder / name, codec, **how)
    return folder
