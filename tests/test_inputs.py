"""Input preparation: the reference's values (golden/moment_detr_targets.json, float32 rounding) and the rules."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from momentret.errors import ConfigError, FeatureError
from momentret.inputs import InputConfig, collate, l2_normalise, pad_spans, prepare_text, prepare_video

from .helpers import GOLDEN

REFERENCE = json.loads((GOLDEN / "moment_detr_targets.json").read_text())


def rows(clips: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((clips, width)).astype(np.float16)


def test_rows_are_normalised_as_the_reference_does() -> None:
    values = l2_normalise(np.array(REFERENCE["l2"]["input"], dtype=np.float32))
    np.testing.assert_allclose(values, REFERENCE["l2"]["expected"], atol=1e-7)


def test_temporal_endpoints_are_the_references() -> None:
    golden = REFERENCE["tef"]
    video = prepare_video([rows(golden["ctx_l"], 3)], InputConfig())
    np.testing.assert_allclose(video[:, -2:], golden["expected"], atol=1e-7)


def test_sources_are_normalised_one_by_one_and_joined_in_order() -> None:
    a, b = rows(6, 4), rows(5, 3, seed=1)
    video = prepare_video([a, b], InputConfig(temporal_endpoints=False))
    np.testing.assert_array_equal(video, np.concatenate((l2_normalise(a[:5]), l2_normalise(b)), axis=1))


def test_nothing_is_changed_in_place() -> None:
    video, text = rows(5, 4).astype(np.float32), rows(3, 4).astype(np.float32)
    before = video.copy(), text.copy()
    off = InputConfig(normalise_video=False, normalise_text=False)
    prepare_video([video], off).zero_()
    prepare_text(text, off).zero_()
    np.testing.assert_array_equal(video, before[0])
    np.testing.assert_array_equal(text, before[1])


def test_long_inputs_are_cut() -> None:
    config = InputConfig(max_clips=7, max_words=2)
    assert prepare_video([rows(9, 4)], config).shape == (7, 6)
    assert prepare_text(rows(5, 4), config).shape == (2, 4)


def test_a_blind_model_sees_only_where_it_is() -> None:
    config = InputConfig(use_video=False)
    assert config.video_dim([512]) == 2
    torch.testing.assert_close(prepare_video([rows(4, 8)], config), prepare_video([rows(4, 8, seed=5)], config))


def test_sources_of_different_clip_lengths_are_refused() -> None:
    with pytest.raises(FeatureError, match="8, 4 clips"):
        prepare_video([rows(8, 4), rows(4, 4)], InputConfig())


@pytest.mark.parametrize(
    "options", [{"max_clips": 0}, {"max_words": -1}, {"use_video": False, "temporal_endpoints": False}]
)
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"inputs\."):
        InputConfig(**options)


def test_a_batch_is_padded_with_zeros_and_masked() -> None:
    items = [{"video": torch.ones(n, 3), "text": torch.ones(m, 2), "duration": 2.0 * n} for n, m in ((4, 1), (2, 3))]
    batch = collate(items)
    assert batch["video"].shape == (2, 4, 3)
    assert batch["video_mask"].tolist() == [[True] * 4, [True, True, False, False]]
    assert batch["text_mask"].tolist() == [[True, False, False], [True] * 3]
    assert batch["video"][1, 2:].abs().sum() == 0
    assert batch["duration"].tolist() == [8.0, 4.0]


def test_targets_are_padded_to_the_longest() -> None:
    padded, counts = pad_spans([torch.ones(1, 2), torch.zeros(0), torch.full((3, 2), 2.0)])
    assert counts == (1, 0, 3)
    assert padded[:, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [2, 2, 2]]
