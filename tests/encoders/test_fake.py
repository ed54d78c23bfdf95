from __future__ import annotations

import numpy as np
import pytest

from momentret.encoders import FakeEncoder, load_encoder, split_phrases
from momentret.errors import ConfigError, DataError


def screen(*colour: int, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def test_a_colour_is_found_by_its_name() -> None:
    encoder = FakeEncoder()
    frames = encoder.encode_frames([screen(250, 5, 5), screen(0, 0, 240), screen(250, 250, 0)])
    texts = encoder.encode_text(["a red screen", "the blue sea", "yellow"])
    assert (texts @ frames.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_vectors_have_length_1_and_depend_on_nothing_but_the_input() -> None:
    encoder = FakeEncoder()
    frames = [np.random.default_rng(i).integers(0, 256, (40 + i, 50, 3), np.uint8) for i in range(3)]
    together = encoder.encode_frames(frames)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    assert np.array_equal(together[1:2], FakeEncoder().encode_frames(frames[1:2]))
    assert encoder.encode_frames([]).shape == encoder.encode_text([]).shape == (0, 32)
    assert not np.array_equal(*encoder.encode_text(["one text", "another"]))


def test_a_query_gives_its_phrases() -> None:
    found = FakeEncoder().encode_query("a red ball on a blue table")
    assert found.names == ("a red ball on a blue table", "a red ball", "a blue table")
    assert found.tokens.shape == (3, 32)
    assert np.array_equal(found.sentence, found.tokens[0])


def test_a_query_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(DataError, match=r"the query 'caf\\udce9' is not UTF-8; use a terminal"):
        FakeEncoder().encode_query("caf\udce9")


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_refused(query: str) -> None:
    with pytest.raises(DataError, match="the query is empty"):
        FakeEncoder().encode_query(query)


def test_tokens_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match="fake has no token states"):
        FakeEncoder().encode_query("red", "states")
    with pytest.raises(ConfigError, match="no query tokens 'words'; known: phrases, states"):
        FakeEncoder().encode_query("red", "words")


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("cat", []),
        ("a man walks his dog", ["a man walks", "his dog"]),
        (
            "Two kids play in the snow while it rains",
            ["two kids play in the snow", "it rains", "two kids play", "the snow", "rains"],
        ),
        ("the", []),
        ("!?", []),
        ("日本 の 猫", []),
    ],
)
def test_a_query_is_cut_into_clauses_and_noun_phrases(query: str, phrases: list[str]) -> None:
    assert split_phrases(query) == [query, *phrases]


def test_a_long_query_has_16_phrases_at_most() -> None:
    assert len(split_phrases(", ".join(f"a thing{i} on a place{i}" for i in range(30)))) == 16


def test_load_encoder_knows_fake() -> None:
    assert load_encoder("fake").fingerprint == FakeEncoder().fingerprint
