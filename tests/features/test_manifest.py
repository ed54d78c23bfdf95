from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from momentret.errors import FeatureError, MismatchError
from momentret.features import SourceManifest, StoreManifest

SLOWFAST = SourceManifest("slowfast", 2304, clip_length=2.0, encoder="SlowFast", weights_hash="aa", layer="pool")
CLIP = SourceManifest("clip", 512, clip_length=2.0, encoder="ViT-B-32/openai", weights_hash="bb", layer="projection")
TEXT = SourceManifest("clip", 512, encoder="ViT-B-32/openai", weights_hash="bb", layer="last_hidden_state")
TRAINED = StoreManifest((SLOWFAST, CLIP), TEXT)


def test_a_manifest_survives_json() -> None:
    assert StoreManifest.from_dict(TRAINED.to_dict()) == TRAINED
    assert StoreManifest.from_dict(StoreManifest((CLIP,)).to_dict()) == StoreManifest((CLIP,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dimension", 768),
        ("clip_length", 1.0),
        ("encoder", "ViT-L-14/openai"),
        ("weights_hash", "cc"),
        ("layer", "token"),
        ("normalisation", "l2"),
    ],
)
def test_a_video_source_that_differs_is_refused_by_field(field: str, value: Any) -> None:
    found = StoreManifest((SLOWFAST, replace(CLIP, **{field: value})), TEXT)
    with pytest.raises(MismatchError, match=f"video source 'clip': {field} is {value!r}"):
        TRAINED.require_match(found)


@pytest.mark.parametrize(("field", "value"), [("layer", "projection"), ("dimension", 768), ("encoder", "other")])
def test_text_that_differs_is_refused_by_field(field: str, value: Any) -> None:
    found = StoreManifest((SLOWFAST, CLIP), replace(TEXT, **{field: value}))
    with pytest.raises(MismatchError, match=f"text source: {field} is {value!r}"):
        TRAINED.require_match(found)


@pytest.mark.parametrize(
    ("video", "what"),
    [
        ((CLIP, SLOWFAST), "order of video sources is clip,slowfast"),
        ((CLIP,), "number of video sources is 1"),
        ((SLOWFAST, replace(CLIP, family="resnet")), "family of video sources is slowfast,resnet"),
    ],
)
def test_sources_that_differ_as_a_whole_are_refused(video: tuple[SourceManifest, ...], what: str) -> None:
    with pytest.raises(MismatchError, match=f"{what}.*set features.video to slowfast,clip"):
        TRAINED.require_match(StoreManifest(video, TEXT))


def test_what_either_side_does_not_know_is_not_compared() -> None:
    unknown = replace(CLIP, clip_length=None, encoder=None, weights_hash=None, layer=None)
    TRAINED.require_match(StoreManifest((SLOWFAST, unknown), None))
    StoreManifest((SLOWFAST, unknown), None).require_match(TRAINED)


def test_number_format_and_rounding_are_no_difference() -> None:
    third = StoreManifest((replace(CLIP, clip_length=1 / 6),))
    third.require_match(StoreManifest((replace(CLIP, clip_length=0.166666, dtype="float16", format_version=2),)))


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 0},
        {"dimension": True},
        {"dimension": "512"},
        {"clip_length": float("nan")},
        {"clip_length": -1.0},
        {"fps": "25"},
        {"encoder": 3},
        {"normalisation": "max"},
        {"dtype": "object"},
        {"family": ""},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_manifest_that_says_nonsense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FeatureError):
        SourceManifest.from_dict({**CLIP.to_dict(), **change})


@pytest.mark.parametrize("values", [None, [], {}, {"video": {}}, {"video": [3]}, {"video": [{"family": "clip"}]}])
def test_something_else_than_a_manifest_is_refused(values: Any) -> None:
    with pytest.raises(FeatureError):
        StoreManifest.from_dict(values)
