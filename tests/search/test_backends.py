"""Every backend through the same tests, and what only one of them can get wrong."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from momentret.errors import ConfigError, DataError
from momentret.search.backend import copy_videos
from momentret.search.index import CorpusIndex, IndexSettings, SearchOptions
from momentret.search.index.memory import MemoryCorpus
from tests.search.conformance import SETTINGS, Conformance, Maker, query_of
from tests.search.corpus import video_of

needs_qdrant = pytest.mark.skipif(
    not importlib.util.find_spec("qdrant_client"), reason="qdrant-client is not installed"
)


class Folder:
    """Makes index folders."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, settings: IndexSettings) -> CorpusIndex:
        return CorpusIndex.create(self.path, settings)

    def open(self, encoder: str | None = None) -> CorpusIndex:
        return CorpusIndex.open(self.path, "rw", encoder)


class Qdrant:
    """Makes collections: in a folder, or on the server that MOMENTRET_QDRANT_URL names."""

    name = "momentret_conformance"

    def __init__(self, path: Path) -> None:
        self.place = os.environ.get("MOMENTRET_QDRANT_URL") or str(path)

    def create(self, settings: IndexSettings) -> Any:
        from momentret.search.qdrant import QdrantBackend

        return QdrantBackend.create(self.place, self.name, settings, overwrite=True)

    def open(self, encoder: str | None = None) -> Any:
        from momentret.search.qdrant import QdrantBackend

        return QdrantBackend.open(self.place, self.name, encoder)


class TestFolder(Conformance):
    @pytest.fixture
    def maker(self, tmp_path: Path) -> Maker:
        return Folder(tmp_path / "index")


@needs_qdrant
class TestQdrant(Conformance):
    @pytest.fixture
    def maker(self, tmp_path: Path) -> Maker:
        return Qdrant(tmp_path / "qdrant")


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[Any]:
    pytest.importorskip("qdrant_client")
    with Qdrant(tmp_path / "qdrant").create(SETTINGS) as backend:
        backend.add_many(video_of(number) for number in range(10))
        yield backend


def test_a_chapter_that_is_removed_meanwhile_does_no_harm(qdrant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(range(10), key=lambda number: len(video_of(number)[1]))
    options = SearchOptions(candidates=1, top=1)
    expected = qdrant.search(query_of(longest), options=options).hits[0].video
    points = qdrant._reader.points
    monkeypatch.setattr(qdrant._reader, "points", lambda chapters: points(chapters)[1:])
    (hit,) = qdrant.search(query_of(longest), options=options).hits
    assert hit.video == expected
    monkeypatch.setattr(qdrant._reader, "points", lambda chapters: [])
    assert qdrant.search(query_of(longest), options=options).hits == ()


def test_a_video_of_which_only_a_part_arrived_is_sent_again(qdrant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momentret.search.qdrant.backend.pages", lambda points, _: [[point] for point in points])
    longest = max(range(10, 30), key=lambda number: len(video_of(number)[1]))
    client, source = qdrant._collection._client, MemoryCorpus(SETTINGS, [video_of(longest)])
    upsert, sent = client.upsert, 0

    def breaks_off(**arguments: Any) -> None:
        nonlocal sent
        sent += 1
        if sent > 2:
            raise KeyboardInterrupt
        upsert(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "upsert", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            copy_videos(source, qdrant)
    assert f"v{longest}" not in qdrant
    assert copy_videos(source, qdrant).added == 1
    assert len(qdrant.clips(f"v{longest}")) == len(video_of(longest)[1])


def test_a_full_disk_is_one_line(qdrant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Mock(side_effect=sqlite3.OperationalError("database or disk is full"))
    monkeypatch.setattr(qdrant._collection._client, "upsert", full)
    with pytest.raises(DataError, match="database or disk is full; make room on its disk"):
        qdrant.add(*video_of(11))


def test_a_collection_that_is_there_is_left_alone(qdrant: Any, tmp_path: Path) -> None:
    from momentret.search.qdrant import QdrantBackend

    client = qdrant._collection._client
    with pytest.raises(DataError, match="'momentret_conformance' exists already"):
        QdrantBackend.create(client, Qdrant.name, SETTINGS)
    with pytest.raises(DataError, match="there is no collection 'films'"):
        QdrantBackend.open(client, "films")
    client.create_collection("foreign", vectors_config={})
    with pytest.raises(DataError, match="'foreign' was not made by this version of momentret"):
        QdrantBackend.open(client, "foreign")
    with pytest.raises(ConfigError, match="must not be empty or have one of"):
        QdrantBackend.open(client, "../films")
    assert len(qdrant) == 10


@needs_qdrant
def test_a_folder_that_was_refused_is_let_go_of(tmp_path: Path) -> None:
    from momentret.search.qdrant import QdrantBackend
    from momentret.search.qdrant.client import Collection

    foreign = Collection(str(tmp_path), "foreign")
    foreign.create_collection(vectors_config={})
    foreign.close()
    with pytest.raises(DataError, match="was not made by this version") as refused:
        QdrantBackend.create(str(tmp_path), "foreign", SETTINGS, resume=True)
    QdrantBackend.create(str(tmp_path), "ours", SETTINGS).close()
    assert refused.tb, "keeps what is not closed alive"


# the client leaves its own lock file open when it cannot lock it
@pytest.mark.filterwarnings("ignore:.*lock:pytest.PytestUnraisableExceptionWarning")
def test_a_folder_in_use_is_one_line(qdrant: Any, tmp_path: Path) -> None:
    from momentret.search.qdrant import QdrantBackend

    with pytest.raises(DataError, match="is in use by another process"):
        QdrantBackend.open(str(tmp_path / "qdrant"), Qdrant.name)


@needs_qdrant
def test_a_server_that_does_not_answer_is_one_line() -> None:
    from momentret.search.qdrant import QdrantBackend

    with pytest.raises(DataError, match=r"Qdrant at 'http://127.0.0.1:9', collection 'films': .*check the address"):
        QdrantBackend.open("http://127.0.0.1:9", "films")


@needs_qdrant
@pytest.mark.parametrize("place", ["", "localhost:6333", "ftp://host"])
def test_what_is_neither_a_url_nor_a_folder_is_refused(place: str) -> None:
    from momentret.search.qdrant import QdrantBackend

    with pytest.raises(ConfigError, match=f"'{place}' is no place for Qdrant; give http"):
        QdrantBackend.open(place, "films")


def test_without_the_client_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from momentret.search.qdrant import QdrantBackend

    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'momentret\[qdrant\]'"):
        QdrantBackend.open(":memory:", "films")


def test_first_stages_of_folders_are_refused(qdrant: Any) -> None:
    with pytest.raises(ValueError, match="first_stage 'fde' is for index folders"):
        qdrant.search(query_of(1), options=SearchOptions(first_stage="fde"))


def test_a_proof_that_would_cost_too_much_is_given_up(qdrant: Any) -> None:
    options = SearchOptions(exact="certified", proof_limit=5, candidates=3, top=2)
    result = qdrant.search(query_of(1), options=options)
    assert (result.videos, result.certified) == (10, False)
