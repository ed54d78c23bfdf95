"""torchvision beside a torch that it was not compiled for, with a stand-in that fails as the real one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from momentret.encoders import load_encoder, torchvision
from momentret.encoders.torchvision import require_torchvision
from momentret.errors import ConfigError

FAILING = """
import torch
for name in ("nms", "qnms"):
    torch.library.register_fake(f"torchvision::{name}")(lambda dets, scores, iou_threshold: scores)
"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, which finds the torchvision of a folder first."""
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_its_python_part_works_without_its_compiled_one(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text(FAILING)
    assert "operator torchvision::nms does not exist" in run(tmp_path, "import torchvision").stderr
    code = "from momentret.encoders.torchvision import require_torchvision as r; r(); r(); import torchvision as t"
    done = run(tmp_path, f"{code}; print(t.__file__)")
    assert (done.stdout.strip(), done.stderr) == (str(tmp_path / "torchvision.py"), "")


def test_nothing_is_declared_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision, "_declare_operators", lambda: pytest.fail("needless"))
    monkeypatch.setattr(torchvision, "import_module", lambda name: None)
    require_torchvision()


@pytest.mark.parametrize("name", ["offline", "local-dir:anywhere"])
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (RuntimeError("built for\nanother"), "built for another"),
        (ImportError("No module named 'torchvision'"), "No module named 'torchvision'"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    name: str, reason: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: str) -> None:
        raise reason

    monkeypatch.setattr(torchvision, "_declare_operators", lambda: None)
    monkeypatch.setattr(torchvision, "import_module", fail)
    with pytest.raises(ConfigError) as told:
        load_encoder(name)
    assert str(told.value) == (
        f"torchvision cannot be imported beside torch {torch.__version__} ({said}); install two that belong together: "
        "pip install --upgrade torch torchvision"
    )
