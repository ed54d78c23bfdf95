"""The file that remembers what could not be made part of an index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from momentret.errors import DataError
from momentret.search.quarantine import Quarantine, Quarantined


def bad(name: str, error: str = "no film") -> Quarantined:
    return Quarantined(name, 1, 2.5, error)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]


def test_reasons_last_and_the_latest_counts(tmp_path: Path) -> None:
    first = Quarantine(tmp_path)
    for found in (bad("b"), bad("a"), bad("c"), bad("b", "worse\nnow")):
        first.put(found)
    first.drop({"a", "never seen"})
    assert first.all() == Quarantine(tmp_path).all() == [bad("b", "worse\nnow"), bad("c")]
    assert Quarantine(tmp_path).get("a") is None


def test_one_more_file_costs_one_more_line(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.put(bad("a"))
    file = (tmp_path / "quarantine.jsonl").stat().st_ino
    for number in range(20):
        quarantine.put(bad(f"file {number}"))
    assert (tmp_path / "quarantine.jsonl").stat().st_ino == file, "it was not written anew"
    assert len(lines(tmp_path)) == 21


def test_what_is_known_already_is_not_written_again(tmp_path: Path) -> None:
    Quarantine(tmp_path).put(bad("a"))
    before = (tmp_path / "quarantine.jsonl").stat()
    Quarantine(tmp_path).put(bad("a"))
    assert (tmp_path / "quarantine.jsonl").stat() == before


def test_lines_that_no_longer_count_go_with_the_next_change(tmp_path: Path) -> None:
    for error in ("one", "two", "three"):
        Quarantine(tmp_path).put(bad("a", error))
    Quarantine(tmp_path).drop({"a"})
    Quarantine(tmp_path).put(bad("b"))
    assert [row["path"] for row in lines(tmp_path)] == ["b"]


@pytest.mark.parametrize("torn", [b'{"path": "b", "size"', b"\0\0\0\0"])
def test_a_line_that_was_never_finished_is_none(tmp_path: Path, torn: bytes) -> None:
    Quarantine(tmp_path).put(bad("a"))
    with open(tmp_path / "quarantine.jsonl", "ab") as file:
        file.write(torn)
    assert Quarantine(tmp_path).all() == [bad("a")]
    Quarantine(tmp_path).put(bad("c"))
    assert Quarantine(tmp_path).all() == [bad("a"), bad("c")]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"path": "a", "error": "x", "more": 1}'])
def test_damage_is_named_with_the_way_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "quarantine.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"quarantine\.jsonl is damaged .*delete it, and files are tried again"):
        Quarantine(tmp_path)
