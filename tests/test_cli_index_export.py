"""`momentret index export`: from a folder to Qdrant, again and again, and what is said when it cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from momentret.search.merge import open_corpus
from tests.helpers import momentret
from tests.search.corpus import build, contents, video_of

pytest.importorskip("qdrant_client")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path / "films", range(12), encoder="toy").close()
    return tmp_path / "films"


def export(folder: Path, *options: object) -> int:
    return momentret("index", "export", folder, "--qdrant", folder.parent / "qdrant", *options)


def stored(folder: Path, name: str = "films") -> Any:
    from momentret.search.qdrant import QdrantBackend

    return QdrantBackend.open(str(folder.parent / "qdrant"), name)


def test_an_index_is_brought_over_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(folder) == 0
    assert "collection films: 12 added, 0 unchanged; 12 videos" in capsys.readouterr().out
    assert export(folder, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["collection"], summary["added"], summary["unchanged"], summary["videos"]) == ("films", 0, 12, 12)
    with (
        open_corpus(folder.parent / "qdrant" / "films") as corpus,
        build(folder.parent / "reference", range(12)) as reference,
    ):
        assert corpus.settings.encoder == "toy"
        for name in contents(reference):
            np.testing.assert_allclose(corpus.clips(name), reference.clips(name), atol=4e-5)  # rounded once more


def test_changes_follow_and_what_is_only_there_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from momentret.search.index import CorpusIndex

    assert export(folder, "--collection", "all") == 0
    with CorpusIndex.open(folder, "rw") as index:
        index.remove(["v1"])
        index.move("v2", "/elsewhere")
        index.add(*video_of(50))
    assert export(folder, "--collection", "all") == 0
    assert "collection all: 1 added, 1 replaced, 10 unchanged, 1 other; 13 videos" in capsys.readouterr().out
    assert export(folder, "--collection", "all", "--overwrite", "--replicas", 1, "--shards", 2) == 0
    assert "12 added, 0 unchanged; 12 videos" in capsys.readouterr().out
    with stored(folder, "all") as corpus:
        assert corpus.video("v2").path == "/elsewhere"


def test_what_cannot_be_done_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(folder.parent / "other" / "films", range(2), encoder="another").close()
    other = folder.parent / "other" / "films"
    assert export(folder) == 0
    capsys.readouterr()
    for arguments, message in (
        ([folder.parent / "none"], "is missing; give the folder of an index"),
        ([other], "the source has encoder 'another', the target 'toy'"),
        ([folder, "--collection", "a/b"], "collection 'a/b': the name must not be empty"),
        ([folder, "--qdrant", "http://127.0.0.1:9"], "Qdrant at 'http://127.0.0.1:9'"),
    ):
        assert momentret("index", "export", "--qdrant", folder.parent / "qdrant", *arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_missing_client_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    assert export(folder) == 1
    assert (
        capsys.readouterr().err
        == "momentret: Qdrant needs the package qdrant-client; pip install 'momentret[qdrant]'\n"
    )
