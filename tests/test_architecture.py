"""The house rules that a machine can check: imports go down only, each outside library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import momentret

ROOT = Path(momentret.__file__).parent

# A room may import rooms of a lower level; siblings never import each other. Level 0 is ordered: left to right.
LEVELS = [
    ["errors", "words", "files", "spans", "records", "config", "progress", "machine"],
    ["video", "encoders", "features", "plots"],
    ["inputs", "extract"],
    ["datasets", "models", "postprocess", "metrics"],
    ["predict"],
    ["training", "search"],
    ["app", "report"],
    ["cli"],
]
LEVEL = {room: (level, place) for level, rooms in enumerate(LEVELS) for place, room in enumerate(rooms)}

# outside library -> the only modules that may import it
DOORS = {
    "av": {"video"},
    "decord": {"video"},
    "faiss": {"search"},
    "fastapi": {"app"},
    "h5py": {"features", "search"},
    "jinja2": {"report"},
    "jsonargparse": {"training"},
    "lightning": {"training"},
    "matplotlib": {"plots"},
    "open_clip": {"encoders"},
    "pandas": {"datasets", "metrics.report", "search"},
    "qdrant_client": {"search.qdrant.client"},
    "ray": {"extract.cluster"},
    "rich": {"cli"},
    "scipy": {"models.matching"},
    "timm": {"encoders"},
    "torchvision": {"encoders"},
    "typer": {"cli"},
    "yaml": {"training"},
}
HEAVY = [
    "torch",
    "lightning",
    "pandas",
    "scipy",
    "matplotlib",
    "av",
    "decord",
    "faiss",
    "open_clip",
    "h5py",
    "qdrant_client",
]

MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or not path.stem.startswith("__"))


def module_name(path: Path) -> str:
    """Return the dotted name below momentret: ``metrics.report``, ``features``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Return every absolute name imported anywhere in a file, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_there_are_modules_to_check() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down_only(path: Path) -> None:
    room = module_name(path).split(".")[0]
    assert room in LEVEL, f"room {room!r} has no level: add it to LEVELS"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "momentret" or len(parts) == 1 or parts[1] == room or parts[1] not in LEVEL:
            continue
        own, other = LEVEL[room], LEVEL[parts[1]]
        allowed = other[0] < own[0] or (own[0] == other[0] == 0 and other[1] < own[1])
        assert allowed, f"{module_name(path)} (level {own[0]}) must not import {name} (level {other[0]})"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_each_outside_library_has_one_door(path: Path) -> None:
    module = module_name(path)
    for name in imports(path):
        doors = DOORS.get(name.split(".")[0])
        if doors is not None:
            assert any(module == door or module.startswith(door + ".") for door in doors), f"{module} imports {name}"


def test_importing_momentret_loads_nothing_heavy() -> None:
    code = f"import momentret, momentret.cli, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_what_the_list_says() -> None:
    assert momentret.__all__ == sorted(momentret.__all__)
    for name in momentret.__all__:
        value = getattr(momentret, name)
        assert value.__doc__, f"{name} has no docstring"


def test_public_names_are_typed_as_they_are_loaded() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    typed = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names if a.asname}
    assert typed == set(momentret.__all__)
