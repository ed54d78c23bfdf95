from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from momentret.errors import DataError, MismatchError
from momentret.search.hubness import arrays, methods
from momentret.search.hubness.arrays import TurnedArray, as_tensor, top_k
from momentret.search.hubness.config import METHODS
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.reading import read_source
from momentret.search.hubness.rows import JoinedRows, MatrixRows, ProductRows
from momentret.search.hubness.streaming import collect, half_biases, merge, sample_sigma, sinkhorn_bias
from momentret.search.hubness.validity import valid_rows
from tests.search.hubness_helpers import matrices, world


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_an_array_on_disk_is_turned_some_rows_at_a_time(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, path = np.random.default_rng(0).random((50, 31), dtype=np.float32), tmp_path / f"s.{kind}"
    if kind == "npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as file:
            file["s"] = values
    monkeypatch.setattr(arrays, "TILE_BYTES", 7 * arrays.AROUND_BYTES)
    turned = read_source(str(path), "the similarities").turned().array
    assert isinstance(turned, TurnedArray)
    assert turned.shape == (31, 50)
    np.testing.assert_array_equal(np.concatenate([turned[start : start + 4] for start in range(0, 31, 4)]), values.T)
    rows = np.array([0, 2, 3, 30])
    np.testing.assert_array_equal(MatrixRows(turned).pick(rows).read(0, 4), values.T[rows])
    picked = read_source(str(path), "the similarities").picked(rows).turned()
    np.testing.assert_array_equal(picked.array, values[rows].T)


def plain_top_k(scores: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("k", [1, 3, 10, 200])
@pytest.mark.parametrize("width", [5, 64, 700, 3001])
def test_top_k_gives_ties_to_the_lowest_index(width: int, k: int) -> None:
    scores = np.random.default_rng(width + k).integers(0, 60, (40, width)).astype(np.float32)
    values, places = top_k(torch.from_numpy(scores), k)
    np.testing.assert_array_equal(places, plain_top_k(scores, k))
    np.testing.assert_array_equal(values, np.take_along_axis(scores, places.numpy(), 1))


def test_top_k_of_distinct_numbers_and_masks() -> None:
    scores = np.random.default_rng(0).standard_normal((50, 5000)).astype(np.float32)
    scores[:, ::3] = -np.inf
    np.testing.assert_array_equal(top_k(torch.from_numpy(scores), 10)[1], plain_top_k(scores, 10))


@pytest.mark.parametrize("block_bytes", [1, 1000, 40_000, 1 << 24])
@pytest.mark.parametrize("split", [True, False])
def test_the_streaming_form_equals_the_matrix_form(block_bytes: int, split: bool) -> None:
    _, P, _ = matrices()
    found = collect(MatrixRows(P), (3.0, 50.0, 1000.0), 7, 2, split, block_bytes)
    for i, beta in enumerate((3.0, 50.0, 1000.0)):
        np.testing.assert_allclose(found.bias(i), methods.inverted_softmax_bias(P.astype(float), beta), atol=1e-6)
    np.testing.assert_allclose(found.top_mean(7), methods.top_mean(P, 7), atol=1e-6)
    assert found.hits is not None
    np.testing.assert_array_equal(found.hits > 0, methods.activation_set(P, 2))


def test_products_of_embeddings_equal_their_matrix() -> None:
    made = world()
    found = collect(ProductRows(made["bank_text"] * 3, made["video"] * 2), (50.0,), block_bytes=9999)
    expected = methods.inverted_softmax_bias(made["bank_text"] @ made["video"].T, 50.0)
    np.testing.assert_allclose(found.bias(), expected, atol=1e-6)


def test_a_memory_map_is_read_like_an_array(tmp_path) -> None:
    _, P, _ = matrices()
    np.save(tmp_path / "p.npy", P)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    assert torch.equal(collect(MatrixRows(mapped), (20.0,)).bias(), collect(MatrixRows(P), (20.0,)).bias())


def test_a_later_block_may_be_far_above_the_first() -> None:
    P = np.array([[-1000.0, 0.0], [1000.0, 0.0], [-1000.0, 5.0]], np.float32)
    found = collect(MatrixRows(P), (1.0,), block_bytes=8).bias()
    np.testing.assert_allclose(found, methods.inverted_softmax_bias(P.astype(float), 1.0), atol=1e-6)


def test_masked_entries_contribute_nothing() -> None:
    P = np.array([[-np.inf, -np.inf, 0.1], [-np.inf, 0.4, -np.inf]])
    found = collect(MatrixRows(P), (20.0,), block_bytes=24)
    np.testing.assert_allclose(found.bias(), [0.25, 0.4, 0.1], atol=1e-12)
    np.testing.assert_allclose(methods.inverted_softmax_bias(P, 20.0), [0.25, 0.4, 0.1], atol=1e-12)
    np.testing.assert_allclose(methods.top_mean(P, 5), [0.25, 0.4, 0.1], atol=1e-12)


def test_merged_halves_equal_the_whole_bank() -> None:
    _, P, _ = matrices()
    parts = [collect(MatrixRows(part), (3.0, 50.0), 5, 1) for part in (P[:100], P[100:])]
    both, whole = merge(*parts), collect(MatrixRows(P), (3.0, 50.0), 5, 1)
    for i in (0, 1):
        torch.testing.assert_close(both.bias(i), whole.bias(i), atol=1e-7, rtol=0)
    torch.testing.assert_close(both.top_mean(5), whole.top_mean(5))
    assert torch.equal(both.hits, whole.hits)
    assert both.rows == whole.rows == 300


def test_temperature_limits_are_the_mean_and_the_maximum() -> None:
    P = matrices()[1].astype(float)
    cold = collect(MatrixRows(P), (1e6,)).bias()
    np.testing.assert_allclose(cold, P.max(0), atol=1e-5)
    warm = collect(MatrixRows(P), (1e-4,)).bias() - np.log(len(P)) / 1e-4
    np.testing.assert_allclose(warm, P.mean(0), atol=1e-5)


def test_equal_rows_fall_into_one_half_and_are_counted() -> None:
    _, P, _ = matrices(bank=20)
    found = collect(MatrixRows(np.concatenate([P, P])), (20.0,), block_bytes=500)
    assert found.duplicates == 20
    np.testing.assert_array_equal(found.members[:20], found.members[20:])
    assert len(half_biases(found)) == 35


@pytest.mark.parametrize("block_bytes", [300, 1 << 24])
def test_streaming_sinkhorn_equals_the_matrix_form(block_bytes: int) -> None:
    _, P, R = matrices(40, 100)
    X = P @ R.T
    for rows, cross in ((MatrixRows(P), None), (JoinedRows(MatrixRows(P), MatrixRows(X)), X)):
        for iterations in (0, 1, 10):
            found = sinkhorn_bias(rows, 0.02, iterations, P.shape[1], block_bytes)
            if iterations or cross is None:
                expected = methods.bank_sinkhorn_bias(P.astype(float), 0.02, iterations, cross)
                np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sigma_is_the_mean_of_column_deviations() -> None:
    _, P, _ = matrices()
    assert sample_sigma(MatrixRows(P)) == pytest.approx(P.std(0).mean(), rel=1e-5)
    masked = np.array([[0.0, -np.inf], [2.0, -np.inf]])
    assert sample_sigma(MatrixRows(masked)) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number_is_refused_with_count_and_first_place(bad: float) -> None:
    P = np.tile(matrices()[1], (6, 1))
    P[900, 3] = P[901:1400, 2] = bad
    with pytest.raises(DataError, match=r"row 900, column 3; 500 in all"):
        collect(MatrixRows(P, "the query bank"), (20.0,), block_bytes=2000)
    with pytest.raises(DataError, match=r"row 900, column 3; 500 in all"):
        sample_sigma(MatrixRows(P, "the query bank"))  # sees only some of the rows


def test_embeddings_that_are_no_numbers_are_refused_by_name() -> None:
    left, right = np.ones((4, 3), np.float32), np.ones((5, 3), np.float32)
    left[2, 1] = -np.inf  # in similarities a masked entry, here nonsense
    with pytest.raises(DataError, match=r"the bank: NaN or .inf .first at row 2, column 1; 1 in all"):
        ProductRows(left, right, name="the bank").read(0, 4)
    with pytest.raises(DataError, match="the gallery: NaN"):
        ProductRows(right, left)
    with pytest.raises(DataError, match="no numbers; scale"):
        collect(ProductRows(np.full((4, 3), 1e30, np.float32), np.full((5, 3), 1e30, np.float32), "dot"), (1.0,))


@pytest.mark.parametrize("kind", ["memory", "mapped", "hdf5", "embeddings"])
def test_picked_rows_are_those_rows(kind: str, tmp_path) -> None:
    array = matrices()[1]
    if kind == "mapped":
        np.save(tmp_path / "P.npy", array)
        source = MatrixRows(np.load(tmp_path / "P.npy", mmap_mode="r"))
    elif kind == "hdf5":
        with h5py.File(tmp_path / "P.h5", "w") as file:
            file["P"] = array
        source = MatrixRows(h5py.File(tmp_path / "P.h5")["P"])
    else:
        source = ProductRows(array, array[:40]) if kind == "embeddings" else MatrixRows(array)
    for kept in (np.arange(3, 50), np.array([2, 7, 200]), np.delete(np.arange(len(array)), [5, 90])):
        picked, expected = source.pick(kept), source.read(0, len(array))[kept]
        torch.testing.assert_close(torch.cat([block.clone() for _, block in picked.blocks(4000)]), expected)
        assert kind != "mapped" or isinstance(picked.array.array, np.memmap)  # still on disk
        torch.testing.assert_close(picked.sample(np.array([1]), np.array([0, 4])), expected[[1]][:, [0, 4]])
        np.testing.assert_array_equal(picked.keys(0, len(kept)), source.keys(0, len(array))[kept])
        torch.testing.assert_close(picked.pick(np.array([0, 2])).read(0, 2), expected[[0, 2]])


def test_rows_with_a_hole_can_be_left_out() -> None:
    P = matrices()[1].copy()
    P[[3, 200], [1, 4]] = np.nan, np.inf
    P[7, 7] = -np.inf  # masked, which is no hole
    kept = valid_rows(MatrixRows(P))
    assert np.flatnonzero(~kept).tolist() == [3, 200]
    found = collect(MatrixRows(P).pick(np.flatnonzero(kept)), (20.0,), block_bytes=2000).bias()
    assert torch.equal(found, collect(MatrixRows(P[kept]), (20.0,), block_bytes=2000).bias())


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (lambda: MatrixRows(np.zeros((0, 3))), "none of them empty"),
        (lambda: MatrixRows(np.zeros(3)), "expected two axes"),
        (lambda: ProductRows(np.ones((2, 3)), np.zeros((2, 3))), "zero vectors"),
        (lambda: as_tensor(np.array(["a"])), "expected real numbers"),
        (lambda: as_tensor(np.zeros(2, complex)), "expected real numbers"),
    ],
)
def test_unusable_arrays_are_refused(made, word: str) -> None:
    with pytest.raises(DataError, match=word):
        made()


def test_embeddings_of_different_width_are_refused() -> None:
    with pytest.raises(MismatchError, match="widths differ"):
        ProductRows(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize("dtype", [np.float16, np.int32, ">f4"])
def test_other_number_formats_are_computed_in_float32(dtype) -> None:
    P = (matrices()[1] * 100).astype(dtype)
    found = collect(MatrixRows(P), (0.5,)).bias()
    np.testing.assert_allclose(found, methods.inverted_softmax_bias(P.astype(float), 0.5), atol=1e-4)


def test_a_mapped_file_gives_what_memory_gives_and_can_be_corrected_in_place(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(arrays, "DROP_BYTES", 1 << 12)  # so that pages are given back many times
    S, P, _ = matrices(200, 900)
    for name, array in (("S", S), ("P", P)):
        np.save(tmp_path / f"{name}.npy", array)
    expected = HubnessNormaliser(method="dis").fit(P[100:]).transform(S[5:])
    bank, mapped = np.load(tmp_path / "P.npy", mmap_mode="r"), np.load(tmp_path / "S.npy", mmap_mode="r+")
    hub = HubnessNormaliser(method="dis").fit(bank[100:])  # a view: its pages begin in the middle of the file
    hub.transform(mapped[5:], out=mapped[5:])
    mapped.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "S.npy")[5:], expected)
    np.testing.assert_array_equal(np.load(tmp_path / "S.npy")[:5], S[:5])


def test_what_a_map_holds_in_memory_alone_is_read_and_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(arrays, "DROP_BYTES", 1 << 12)
    S, P, _ = matrices(200, 900)
    np.save(tmp_path / "S.npy", S)
    hub = HubnessNormaliser(method="is").fit(P)
    mapped = np.load(tmp_path / "S.npy", mmap_mode="c")  # copy on write: changes never reach the file
    mapped *= 0.5
    expected = hub.transform(0.5 * S)
    np.testing.assert_array_equal(hub.transform(mapped), expected)
    np.testing.assert_array_equal(mapped, 0.5 * S)
    hub.transform(mapped, out=mapped)
    np.testing.assert_array_equal(mapped, expected)


def test_products_come_in_blocks_that_last_until_the_next() -> None:
    made = world(50, 90)
    rows = ProductRows(made["bank_text"], made["video"])
    parts = [(start, block.clone()) for start, block in rows.blocks(40 * 50 * 4)]
    assert [start for start, _ in parts] == [0, 40, 80]
    torch.testing.assert_close(torch.cat([part for _, part in parts]), rows.read(0, 90))


@pytest.mark.parametrize("method", [name for name, traits in METHODS.items() if traits.query_bank or name == "gis"])
def test_masked_banks_give_the_same_in_blocks_of_any_size(method: str) -> None:
    S, P, R = (array.astype(float) for array in matrices(20, 40))
    for array in (P, R):
        array[np.random.default_rng(0).random(array.shape) < 0.3] = -np.inf
        array[0, :7] = -np.inf  # columns that the first block does not see
    banks = P, R, np.zeros((40, 3))
    small, large = (HubnessNormaliser(method=method, shrink=1.0).fit(*banks, block_bytes=n) for n in (1, 1 << 24))
    np.testing.assert_allclose(small.transform(S), large.transform(S), atol=1e-9)
