"""The Chamfer cost against reference values, and the window scores against a plain loop.

Golden: ``chamfer.{json,npz}``, made by running the published implementation of STAL on seeded inputs in float32;
tolerance 2e-5 relative for costs and 5e-5 for gradients, as its ``tolerances`` says.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from momentret.search.chamfer import alignment, chamfer_cost, chamfer_directions, squared_distances, window_scores
from tests.helpers import GOLDEN

VALUES = np.load(GOLDEN / "chamfer.npz", allow_pickle=False)
CASES = [case["case"] for case in json.loads((GOLDEN / "chamfer.json").read_text())["chamfer_cases"]]


def golden(case: int, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(VALUES[f"chamfer/{case}/{name}"]) for name in names]


def assert_costs(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == torch.float32
    assert torch.all((found - expected).abs() <= 2e-5 * expected.abs().clamp(min=1))


def test_there_are_golden_cases() -> None:
    assert len(CASES) == 6


@pytest.mark.parametrize("case", CASES)
def test_costs_match_the_reference(case: int) -> None:
    video, language, mask_v, mask_l = golden(case, "video", "lang", "mask_v", "mask_l")
    unmasked, one_mask, both, to_language, to_video = golden(
        case, "unmasked", "video_masked", "double_masked", "video_to_lang", "lang_to_video"
    )
    assert_costs(chamfer_cost(video, language), unmasked)
    assert_costs(chamfer_cost(video, language, mask_v), one_mask)
    assert_costs(chamfer_cost(video, language, mask_v, mask_l), both)
    directions = chamfer_directions(video, language, mask_v, mask_l)
    assert_costs(directions[0], to_language)
    assert_costs(directions[1], to_video)


@pytest.mark.parametrize("case", CASES)
def test_gradients_match_the_reference(case: int) -> None:
    video, language, mask_v, mask_l, weight = golden(case, "video", "lang", "mask_v", "mask_l", "grad_weight")
    video.requires_grad_()
    language.requires_grad_()
    (weight * chamfer_cost(video, language, mask_v, mask_l)).sum().backward()
    expected = golden(case, "grad_video", "grad_lang")
    torch.testing.assert_close(video.grad, expected[0], atol=5e-5, rtol=0)
    torch.testing.assert_close(language.grad, expected[1], atol=5e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_numpy_and_torch_agree(case: int) -> None:
    tensors = golden(case, "video", "lang", "mask_v", "mask_l")
    found = chamfer_cost(*(tensor.numpy() for tensor in tensors))
    torch.testing.assert_close(torch.from_numpy(found), chamfer_cost(*tensors))


def test_squared_distances_match_the_reference() -> None:
    video, language, expected = golden(1, "video", "lang", "pairwise")
    torch.testing.assert_close(squared_distances(video, language), expected, atol=2e-5, rtol=2e-5)


def test_an_item_without_clips_costs_infinity_and_leaves_the_others_alone() -> None:
    video, language, mask_v, mask_l = (
        torch.from_numpy(VALUES[f"chamfer_empty/{name}"]) for name in ("video", "lang", "mask_v", "mask_l")
    )
    found = chamfer_cost(video, language, mask_v, mask_l)
    assert found[0] == float("inf")
    torch.testing.assert_close(found[1:], chamfer_cost(video[1:], language[1:], mask_v[1:], mask_l[1:]))


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no valid token"):
        chamfer_cost(np.ones((1, 2, 3)), np.ones((1, 2, 3)), None, np.zeros((1, 2)))


def test_cost_does_not_depend_on_padding() -> None:
    rng = np.random.default_rng(0)
    video, language = rng.normal(size=(1, 5, 8)), rng.normal(size=(1, 3, 8))
    padded = np.concatenate([video, rng.normal(size=(1, 4, 8))], axis=1)
    np.testing.assert_allclose(
        chamfer_cost(padded, language, np.arange(9)[None] < 5), chamfer_cost(video, language), rtol=1e-12
    )


def test_window_scores_equal_the_published_cost_of_every_moment() -> None:
    sizes, proposals, owner = (VALUES[f"corpus/{name}"] for name in ("clips_per_video", "proposals", "proposal_video"))
    clips, tokens, counts = (
        VALUES[f"corpus/{name}"] for name in ("clips_concat", "query_tokens_concat", "tokens_per_query")
    )
    first = np.floor(proposals[:, 0] / 3.0).astype(int)
    length = np.floor((proposals[:, 1] - 1e-6) / 3.0).astype(int) - first + 1
    begin = (np.cumsum(sizes) - sizes)[owner] + first
    assert len(counts) == 24
    for query, costs in zip(np.split(tokens, np.cumsum(counts)[:-1]), VALUES["corpus/costs"], strict=True):
        scores = window_scores(query @ clips.T, sizes, range(1, 9))
        np.testing.assert_allclose(4 - 2 * scores[length - 1, begin], costs, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1, 2, 3, 4, 5, 6, 7, 8], [2, 3, 7, 16], [5]])
def test_window_scores_equal_a_plain_loop(lengths: list[int]) -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([7, 1, 20, 4, 5])
    similarities = rng.normal(size=(3, sizes.sum())).astype(np.float32)
    expected = np.full((len(lengths), sizes.sum()), -np.inf)
    for size, begin in zip(sizes, np.cumsum(sizes) - sizes, strict=True):
        for row, length in enumerate(lengths):
            for i in range(size - length + 1):
                expected[row, begin + i] = sum(alignment(similarities[:, begin + i : begin + i + length]))
        if size < lengths[0]:
            expected[0, begin] = sum(alignment(similarities[:, begin : begin + size]))
    np.testing.assert_allclose(window_scores(similarities, sizes, lengths), expected, atol=1e-5)


def test_alignment_worked_by_hand() -> None:
    similarities = np.array([[0.5, 0.1], [0.2, 0.3]])  # 2 tokens x 2 clips
    assert alignment(similarities) == pytest.approx(((0.5 + 0.3) / 2, (0.5 + 0.3) / 2))
    assert alignment(similarities[:, :1]) == pytest.approx((0.35, 0.5))
