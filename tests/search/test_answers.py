"""Answers as JSON: a round trip, and malformed rows refused by part."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from momentret.errors import DataError
from momentret.search.answers import Answer, AnswerError, Curve, FoundMoment, read_answers


def answer(**changes: Any) -> Answer:
    moments = (
        FoundMoment(1, "dogs", "films/dogs.mp4", 30.0, 4.0, 8.0, 1.5, 0.9, 1000, 1.7e9 + 0.25),
        FoundMoment(2, "cats", os.fsdecode(b"\xff.mp4"), 12.0, 0.0, 2.0, 0.5, 0.2),
    )
    curves = {"dogs": Curve(0.0, 2.0, (0.1, 0.2, 0.9)), "cats": Curve(0.5, 2.0, (0.4,))}
    values: dict[str, Any] = {"query": "a dog", "index": "films.index", "encoder": "fake", "presence": 0.9}
    values |= {"present": True, "min_confidence": 0.5, "moments": moments, "curves": curves}
    return Answer(**{**values, **changes})


def test_an_answer_survives_json() -> None:
    found = answer()
    assert Answer.from_row(json.loads(json.dumps(found.to_row()))) == found


def test_keys_of_a_later_version_are_passed_over() -> None:
    row = answer().to_row()
    row["moments"][0]["thumbnail"] = row["later"] = "x"
    assert Answer.from_row(row) == answer()


def test_an_answer_of_an_earlier_version_says_nothing_of_the_file() -> None:
    row = answer().to_row()
    for name in ("size", "modified"):
        del row["moments"][0][name]
    assert (Answer.from_row(row).moments[0].size, Answer.from_row(row).moments[0].modified) == (None, None)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("presence", 1.5, "presence is 1.5"),
        pytest.param("presence", 10**400, "presence is 10*, expected a finite number", id="a whole number past all"),
        ("presence", "0.9", "presence is '0.9'"),
        ("present", 1, "present is 1"),
        ("index", 3, "index is 3"),
        ("moments", {}, "a list 'moments'"),
        ("moments", ["x"], "a moment is a str"),
        ("moments", [{"rank": 1}], "a moment has no 'video_id'"),
        ("curves", {"dogs": {"start": 0, "clip_length": 0, "values": []}}, "clip_length of a curve is 0"),
        ("curves", {"dogs": {"start": 0, "clip_length": 2, "values": "12"}}, "values of a curve"),
        ("curves", {"dogs": {"start": 0, "clip_length": 2, "values": [True]}}, "values of a curve"),
    ],
)
def test_a_malformed_answer_is_refused_by_part(part: str, value: Any, message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        Answer.from_row({**answer().to_row(), part: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 3),
        ("end", 1.0),
        ("confidence", -0.1),
        ("path", b"x"),
        ("score", float("nan")),
        ("size", "1"),
        ("modified", "1"),
    ],
)
def test_a_malformed_moment_is_refused(name: str, value: Any) -> None:
    row = answer().to_row()
    row["moments"][0][name] = value
    with pytest.raises(AnswerError):
        Answer.from_row(row)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    for content, message in [
        ("[]", " holds no answer"),
        ('[3, {"query": "a"}]', ", answer 1: an answer is a int"),
        ("{", " is not JSON"),
        (f"{json.dumps(answer().to_row())} x", " is not JSON"),
    ]:
        path.write_text(content)
        with pytest.raises(DataError, match=r"found\.json" + message):
            read_answers(path)


def test_a_video_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"\0\0\0\x20ftypisom")
    with pytest.raises(AnswerError, match=r"film\.mp4 is not JSON \(it is no text\); write it with"):
        read_answers(path)


@pytest.mark.parametrize("how", ["one after the other", "indented", "a list"])
def test_several_answers_are_read(tmp_path: Path, how: str) -> None:
    rows = [answer().to_row(), answer(query="a cat").to_row()]
    indent = 2 if how == "indented" else None
    content = json.dumps(rows) if how == "a list" else "\n".join(json.dumps(row, indent=indent) for row in rows)
    (tmp_path / "found.json").write_text(content)
    assert read_answers(tmp_path / "found.json") == [answer(), answer(query="a cat")]


def test_nothing_searched_is_told_from_nothing_chosen() -> None:
    assert answer(moments=(), curves={}, presence=None, present=False).judged(0.3).chosen().searched_nothing
    for presence in (0.4, None):
        found = answer(presence=presence).judged(0.5)
        assert not found.searched_nothing
        assert not found.chosen().searched_nothing


def test_moments_that_are_sure_enough_are_chosen_with_their_ranks() -> None:
    first = answer().moments[0]
    known = enumerate((0.4, 0.9, None), start=1)
    found = answer(moments=tuple(replace(first, rank=rank, confidence=sure) for rank, sure in known))
    assert [moment.rank for moment in found.chosen().moments] == [2, 3], "one of which it is not known is taken"
    assert [moment.rank for moment in found.chosen(top=1).moments] == [2]
    assert [moment.rank for moment in found.chosen(nearest=True, top=2).moments] == [1, 2]
    assert [moment.rank for moment in found.judged(0.3).chosen().moments] == [1, 2, 3]
    assert found.judged(0.95).chosen().moments == (), "nothing matches"
    assert Answer.from_row(found.chosen().to_row()) == found.chosen()
