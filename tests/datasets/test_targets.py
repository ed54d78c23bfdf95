"""Targets against the reference's values (golden/moment_detr_targets.json, exact up to float32) and its rules."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from momentret import Annotation
from momentret.datasets.targets import TargetConfig, clip_range, saliency_pairs, span_targets
from momentret.errors import ConfigError

from ..helpers import GOLDEN

REFERENCE = json.loads((GOLDEN / "moment_detr_targets.json").read_text())


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def annotation(**values: Any) -> Annotation:
    return Annotation(**{"query_id": 1, "video_id": "v", "query": "q", "duration": 150.0, **values})


@pytest.mark.parametrize("golden", REFERENCE["spans"])
def test_spans_are_fractions_of_what_the_features_cover(golden: dict[str, Any]) -> None:
    spans = span_targets(golden["windows"], golden["ctx_l"], 2.0, TargetConfig(), generator())
    torch.testing.assert_close(spans, torch.tensor(golden["expected"]), atol=1e-7, rtol=0)


@pytest.mark.parametrize("golden", REFERENCE["ce"])
def test_clip_targets_are_inclusive_indices(golden: dict[str, Any]) -> None:
    indices = span_targets(golden["windows"], golden["ctx_l"], 2.0, TargetConfig(span="ce"), generator())
    assert indices.tolist() == golden["expected"]
    assert indices.dtype == torch.long


@pytest.mark.parametrize("golden", REFERENCE["window_bounds"])
def test_a_window_covers_these_clips(golden: dict[str, Any]) -> None:
    assert list(clip_range(golden["window"], golden["ctx_l"], golden["clip_length"])) == golden["expected"]


@pytest.mark.parametrize("golden", [*REFERENCE["hard_pairs"]])
def test_the_hard_pair_is_the_best_and_the_worst_relevant_clip(golden: dict[str, Any]) -> None:
    labels = annotation(relevant_clips=tuple(golden["relevant_clip_ids"]), saliency=tuple(golden["saliency_scores"]))
    positive, negative = saliency_pairs(labels, golden["ctx_l"], 2.0, TargetConfig(), generator())
    assert (positive[0], negative[0]) == (golden["hard_pos"], golden["hard_neg"])
    assert positive[1] in golden["relevant_clip_ids"]
    assert negative[1] not in golden["relevant_clip_ids"]


def test_a_video_that_is_relevant_throughout_repeats_the_hard_pair() -> None:
    golden = REFERENCE["full_coverage"]
    labels = annotation(relevant_clips=tuple(golden["relevant_clip_ids"]), saliency=tuple(golden["saliency_scores"]))
    assert saliency_pairs(labels, golden["ctx_l"], 2.0, TargetConfig(), generator()) == (golden["pos"], golden["neg"])


def test_a_window_gives_clips_inside_against_clips_outside() -> None:
    labels, config = annotation(windows=((10.0, 20.0),)), TargetConfig(saliency="window")
    for seed in range(20):
        positive, negative = saliency_pairs(labels, 75, 2.0, config, np.random.default_rng(seed))
        assert set(positive) <= set(range(5, 10))
        assert len(set(positive)) == 2
        assert not set(negative) & set(range(5, 10))


def test_a_window_that_fills_the_video_gives_no_contrast() -> None:
    labels = annotation(windows=((0.0, 150.0),))
    positive, negative = saliency_pairs(labels, 75, 2.0, TargetConfig(saliency="window"), generator())
    assert positive == negative


def test_labels_of_every_clip_give_the_pair_of_most_and_least_agreement() -> None:
    labels = annotation(clip_labels=((1.0, 2.0), (5.0, 5.0), (1.0, 1.0), (3.0, 4.0)))
    assert saliency_pairs(labels, 4, 2.0, TargetConfig(saliency="labels"), generator()) == ([1], [2])


@pytest.mark.parametrize("kind", ["l1", "ce"])
def test_highlights_alone_have_no_spans(kind: str) -> None:
    assert span_targets([], 75, 2.0, TargetConfig(span=kind), generator()).shape == (0, 2)


def test_more_windows_than_allowed_are_a_random_choice_of_them() -> None:
    windows = [(2.0 * i, 2.0 * i + 2) for i in range(9)]
    chosen = [span_targets(windows, 75, 2.0, TargetConfig(), np.random.default_rng(seed)) for seed in range(8)]
    assert {len(spans) for spans in chosen} == {5}
    assert len({tuple(sorted(spans[:, 0].tolist())) for spans in chosen}) > 1


@pytest.mark.parametrize("options", [{"saliency": "score"}, {"span": "l2"}])
def test_unknown_kinds_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        TargetConfig(**options)
