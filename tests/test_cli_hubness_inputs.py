"""`momentret hubness`: what it accepts, warns of and refuses, beyond the files of test_cli_hubness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from momentret.encoders import load_encoder
from momentret.extract import ExtractConfig
from momentret.search.hubness.corpus import CorpusHubness
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.index import CorpusIndex, SearchOptions, Video
from momentret.search.recipe import Recipe
from tests.helpers import momentret
from tests.search.corpus import build
from tests.search.hubness_helpers import world
from tests.test_cli_hubness import P, R, S, failure, files

__all__ = ["files"]  # a fixture


def normalise(files: Path, capsys, *arguments: object) -> dict:
    """Normalise S by P into `out`; returns the report."""
    options = ["--query-bank", files / "P.npy", "--json", "-o", files / "out", "--overwrite"]
    assert momentret("hubness", "normalise", *arguments, *options) == 0
    return json.loads(capsys.readouterr().out)


def named(rows: list[str], columns: list[str], array: np.ndarray = S) -> pd.DataFrame:
    table = pd.DataFrame(array[: len(rows), : len(columns)], columns=columns)
    table.insert(0, "id", rows)
    return table


def test_masked_entries_stay_masked(files: Path, capsys) -> None:
    masked = S.copy()
    masked[0, 1] = masked[7] = -np.inf
    np.save(files / "masked.npy", masked)
    normalise(files, capsys, files / "masked.npy", "--trec", "50")
    found = np.load(files / "out" / "normalised.npy")
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(masked))
    lists = [line.split()[0] for line in (files / "out" / "run.trec").read_text().splitlines()]
    assert (lists.count("0"), lists.count("7"), lists.count("8")) == (49, 0, 50)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (S.astype(np.float16), "float16 values are computed with as float32"),
        ((100 * S).astype(np.int32), "int32 values are computed with as float32"),
        (S > 0.3, "bool values are computed with as float32"),
        (100 * S, "are no cosines"),
    ],
)
def test_other_numbers_are_used_and_said_so(array: np.ndarray, word: str, files: Path, capsys) -> None:
    np.save(files / "other.npy", array)
    assert any(word in text for text in normalise(files, capsys, files / "other.npy")["warnings"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--k", "1,80"], "lists of 80 were asked for, the gallery has 50 items"),
        (["-m", "nnn", "--top", "999"], "top is 999, the query bank has 320 rows"),
        (["-m", "dis", "--k-query", "80"], "k_query is 80, the gallery has 50 items"),
        (["-m", "dis", "--gallery-bank", "R.npy"], "does not use the gallery bank"),
        (["-m", "dualis", "--gallery-bank", "P2.npy"], "looks cross-modal"),
        (["--beta-query", "1e9"], "over the standard deviation of the query bank (usual: 2.5): so sharp"),
        (["--beta-query", "0.005", "--units", "std"], "that is 0.005 over the standard deviation"),
        (["-m", "gis", "--gallery-bank", "R.npy", "--beta-gallery", "1e6"], "of the gallery bank (usual: 0.25): so sh"),
        (["-m", "bank-sinkhorn", "--tau", "1e-5"], "times the standard deviation of the query bank (usual: 0.3): so s"),
        (["-m", "bank-sinkhorn", "--tau", "1e3"], "so flat that all rows count alike"),
        (["-m", "sn", "--allow-transductive", "--tau", "1e3"], "of the similarities (usual: 0.3): so flat"),
    ],
)
def test_what_is_odd_is_done_with_a_warning(options: list[str], word: str, files: Path, capsys) -> None:
    np.save(files / "P2.npy", P[::-1])
    options = [str(files / part) if part.endswith(".npy") else part for part in options]
    report = normalise(files, capsys, files / "S.npy", *options)
    assert any(word in text for text in report["warnings"])


@pytest.mark.parametrize("beta", ["0.01", "2.5", "25"])
def test_a_temperature_on_the_scale_of_the_bank_is_no_cause_for_a_warning(beta: str, files: Path, capsys) -> None:
    options = ["-m", "dualis", "--gallery-bank", files / "R.npy", "--units", "std", "--beta-query", beta]
    assert normalise(files, capsys, files / "S.npy", *options, "--beta-gallery", "0.25")["warnings"] == []
    assert normalise(files, capsys, files / "S.npy", "-m", "nnn", "--beta-query", "1e9")["warnings"] == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--alpha", "-1"], "alpha is -1.0"),
        (["-m", "bank-sinkhorn", "--tau", "0"], "tau is 0.0"),
        (["--beta-query", "inf"], "beta_query is inf"),
        (["--beta-query", "1e12"], "beta_query 1e+12: too far outside the scale of the similarities"),
        (["-m", "bank-sinkhorn", "--iterations", "-1"], "iterations is -1"),
        (["-m", "dis", "--k-query", "0"], "k_query is 0"),
        (["-m", "nnn", "--top", "0"], "top is 0"),
        (["--units", "kelvin"], "units is 'kelvin'"),
        (["--rule", "sum"], "rule is 'sum'"),
        (["--direction", "up"], "--direction is 'up'"),
        (["--direction", "both"], "is for embeddings"),
        (["-m", "dualis"], "needs a gallery bank"),
        (["-m", "dbsn"], "needs a cross bank"),
        (["-m", "sn"], "--allow-transductive"),
    ],
)
def test_bad_settings_are_refused_and_nothing_written(options: list[str], word: str, files: Path, capsys) -> None:
    bank = ["--query-bank", files / "P.npy", "-o", files / "out"]
    assert word in failure(capsys, "normalise", files / "S.npy", *bank, *options)
    assert not (files / "out").exists()


def test_ids_that_come_twice_are_refused(files: Path, capsys) -> None:
    named(["a", "b", "a"], ["x", "y"]).to_csv(files / "rows.csv", index=False)
    (files / "columns.csv").write_text("id,x,x\na,1,2\n")
    (files / "long.csv").write_text("query_id,gallery_id,score\na,x,1\na,y,0\na,x,2\n")
    assert "row id 'a' comes twice" in failure(capsys, "report", files / "rows.csv")
    assert "column id 'x' comes twice" in failure(capsys, "report", files / "columns.csv")
    assert "1 pair given twice (first: a, x)" in failure(capsys, "report", files / "long.csv")


@pytest.mark.parametrize("form", ["dense", "long"])
def test_columns_are_put_in_the_order_of_their_ids(form: str, files: Path, capsys) -> None:
    items, bank = [f"v{i}" for i in range(50)], [f"b{i}" for i in range(320)]
    named([f"q{i}" for i in range(50)], items).to_csv(files / "s.csv", index=False)
    table = named(bank, items[::-1], P[:, ::-1])
    if form == "long":
        table = table.melt("id", var_name="gallery_id", value_name="score").rename(columns={"id": "query_id"})
    table.to_csv(files / "p.csv", index=False)
    assert momentret("hubness", "normalise", files / "s.csv", "--query-bank", files / "p.csv", "-o", files / "out") == 0
    expected = HubnessNormaliser().fit(P).transform(S)
    np.testing.assert_allclose(np.load(files / "out" / "normalised.npy"), expected, atol=1e-6)
    assert momentret("hubness", "fit", "--query-bank", files / "p.csv", "-o", files / "state") == 0
    capsys.readouterr()
    assert "other ids or order" in failure(capsys, "apply", files / "state", files / "s.csv", "-o", files / "again")


def test_a_bank_of_other_items_is_refused(files: Path, capsys) -> None:
    items, bank = [f"v{i}" for i in range(50)], [f"b{i}" for i in range(50)]
    named([f"q{i}" for i in range(50)], items).to_csv(files / "s.csv", index=False)
    named(bank, [f"w{i}" for i in range(50)], P[:50]).to_csv(files / "w.csv", index=False)
    named(items, bank, P[:50].T).to_csv(files / "turned.csv", index=False)
    normalise = ["normalise", files / "s.csv", "-o", files / "out", "--query-bank"]
    assert "no column for 50 gallery items (first: 'v0'); give" in failure(capsys, *normalise, files / "w.csv")
    assert "pass --transpose query-bank" in failure(capsys, *normalise, files / "turned.csv")
    assert momentret("hubness", *normalise, files / "turned.csv", "--transpose", "query-bank") == 0


def test_ids_are_text_as_they_are_written(files: Path, capsys) -> None:
    rows = [(f"{i:03d}", f"{j:03d}", float(S[i, j])) for i in range(50) for j in range(50)]
    pd.DataFrame(rows, columns=["query_id", "gallery_id", "score"]).to_csv(files / "s.csv", index=False)
    (files / "truth.csv").write_text("query_id,gallery_id\n" + "".join(f"{i:03d},{i:03d}\n" for i in range(50)))
    assert momentret("hubness", "report", files / "s.csv", "--truth", files / "truth.csv") == 0


@pytest.mark.parametrize("index", [True, False])
def test_the_numbers_that_pandas_names_rows_and_columns_are_names(index: bool, files: Path, capsys) -> None:
    pd.DataFrame(S).to_csv(files / "s.csv", index=index)
    normalise(files, capsys, files / "s.csv")
    expected = HubnessNormaliser().fit(P).transform(S)
    np.testing.assert_allclose(np.load(files / "out" / "normalised.npy"), expected, atol=1e-6)


def test_ids_that_a_run_cannot_hold_are_refused_there_alone(files: Path, capsys) -> None:
    named(["q 0", "q1"], ["v0", "v1"]).to_csv(files / "s.csv", index=False)
    report = ["report", files / "s.csv", "-o", files / "out"]
    assert "query id 'q 0' holds white space" in failure(capsys, *report, "--trec", "5")
    assert momentret("hubness", *report) == 0


def test_lists_with_few_entries_are_not_taken_for_one_another(files: Path, capsys) -> None:
    random = np.random.default_rng(0)
    for name, size in (("s", 60), ("p", 400)):
        places = np.stack([random.choice(1000, 10, replace=False) for _ in range(size)])
        sparse = np.full((size, 1000), -np.inf, np.float32)
        np.put_along_axis(sparse, places, random.random((size, 10), np.float32), 1)
        np.save(files / f"{name}.npy", sparse)
    arguments = ["normalise", files / "s.npy", "--query-bank", files / "p.npy", "--json", "-o", files / "out"]
    assert momentret("hubness", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["bank"]["duplicates"] == 0


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (torch.nn.Parameter(torch.from_numpy(S)), None),
        ({0: torch.from_numpy(S)}, None),
        ({0: torch.from_numpy(S), 1: torch.from_numpy(P)}, "holds 0, 1: no array was named"),
        (torch.from_numpy(S).to_sparse(), "save it dense"),
        (torch.from_numpy(S).to(torch.float8_e4m3fn), None),
    ],
)
def test_tensors_of_every_kind(value: object, word: str | None, files: Path, capsys) -> None:
    torch.save(value, files / "s.pt")
    if word is None:
        assert momentret("hubness", "report", files / "s.pt") == 0
    else:
        assert word in failure(capsys, "report", files / "s.pt")


def test_a_bank_that_shares_ids_with_the_test_is_refused(files: Path, capsys) -> None:
    columns = [f"v{i}" for i in range(50)]
    named([f"q{i}" for i in range(50)], columns).to_csv(files / "s.csv", index=False)
    named([f"q{i}" for i in range(49, 369)], columns, P).to_csv(files / "p.csv", index=False)
    arguments = ["normalise", files / "s.csv", "--query-bank", files / "p.csv", "-o", files / "out"]
    assert "holds 1 id of the test set (first: 'q49')" in failure(capsys, *arguments)
    assert momentret("hubness", *arguments, "--allow-overlap") == 0


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ("q0,v0\nq1,nobody\n", "gallery_id 'nobody' is unknown"),
        ("q0,v0\n", "1 query without a positive"),
        ("q0\n", "gallery_id '' is unknown"),
    ],
)
def test_ground_truth_that_does_not_fit_is_refused(lines: str, word: str, files: Path, capsys) -> None:
    named(["q0", "q1"], ["v0", "v1"]).to_csv(files / "s.csv", index=False)
    (files / "truth.csv").write_text("query_id,gallery_id\n" + lines)
    line = failure(capsys, "report", files / "s.csv", "--truth", files / "truth.csv")
    assert word in line


def test_a_state_of_another_gallery_or_version_is_refused(files: Path, capsys) -> None:
    assert momentret("hubness", "fit", "--query-bank", files / "P.npy", "-o", files / "state") == 0
    np.save(files / "narrow.npy", S[:, :7])
    output = ["-o", files / "out"]
    capsys.readouterr()
    apply = ["apply", files / "state"]
    assert "fitted for 50 gallery items" in failure(capsys, *apply, files / "narrow.npy", *output)
    assert "the state comes first" in failure(capsys, "apply", files / "S.npy", files / "state", *output)
    assert "of one direction" in failure(capsys, *apply, files / "S.npy", *output, "--direction", "both")
    manifest = files / "state" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 99}))
    assert "version 99" in failure(capsys, *apply, files / "S.npy", *output)
    assert not (files / "out").exists()


@pytest.mark.parametrize("form", ["dense", "long"])
def test_parquet_tables_are_read(form: str, files: Path, capsys) -> None:
    pytest.importorskip("pyarrow")
    table = named([f"q{i}" for i in range(50)], [f"v{i}" for i in range(50)])
    if form == "long":
        table = table.melt("id", var_name="gallery_id", value_name="score").rename(columns={"id": "query_id"})
    table.to_parquet(files / "s.parquet")
    normalise(files, capsys, files / "s.parquet")
    expected = HubnessNormaliser().fit(P).transform(S)
    np.testing.assert_allclose(np.load(files / "out" / "normalised.npy"), expected, atol=1e-6)
    (files / "broken.parquet").write_bytes(b"PAR1")
    assert "not a readable table" in failure(capsys, "report", files / "broken.parquet")


def test_both_directions_at_once_are_each_by_itself(files: Path, capsys) -> None:
    banks = ["--query-bank", files / "bank_text.npy", "--gallery-bank", files / "bank_video.npy"]
    common = ["-m", "dualis", "--truth", "diag", "--json"]
    forward = ["--queries", files / "text.npy", "--gallery", files / "video.npy", *banks]
    assert momentret("hubness", "normalise", *forward, *common, "--direction", "both", "-o", files / "both") == 0
    found = json.loads(capsys.readouterr().out)
    made = world(50, 320)
    P2, R2 = made["bank_video"] @ made["text"].T, made["bank_text"] @ made["text"].T
    expected = HubnessNormaliser(method="dualis").fit(P2, R2).transform(S.T.copy())
    written = np.load(files / "both" / "gallery-to-query" / "normalised.npy")
    np.testing.assert_allclose(written, expected, atol=1e-5)
    for name, array in (("P2", P2), ("R2", R2)):
        np.save(files / f"{name}.npy", array)
    matrices = ["--query-bank", files / "P2.npy", "--gallery-bank", files / "R2.npy", "-o", files / "back"]
    back = ["normalise", files / "S.npy", *matrices, *common, "--direction", "gallery-to-query"]
    assert momentret("hubness", *back) == 0
    assert json.loads(capsys.readouterr().out)["retrieval"] == found["gallery-to-query"]["retrieval"]


def test_what_both_directions_warn_of_is_said_once(files: Path, capsys) -> None:
    banks = ["--query-bank", files / "bank_text.npy", "--gallery-bank", files / "bank_video.npy"]
    forward = ["--queries", files / "text.npy", "--gallery", files / "video.npy", *banks, "-m", "is", "--published"]
    ask = ["hubness", "normalise", *forward, "--beta-query", "1e4", "--direction", "both", "--json"]
    assert momentret(*ask, "-o", files / "both") == 0
    shown = capsys.readouterr()
    shared, forward_only, backward_only = shown.err.splitlines()
    assert shared == "warning: method is does not use the gallery bank"
    assert forward_only.startswith("warning: beta_query is 10000, that is")
    assert backward_only.startswith("warning: gallery-to-query: beta_query is 10000, that is")
    assert [len(report["warnings"]) for report in json.loads(shown.out).values()] == [2, 2]


def test_a_simulated_set_is_ready_to_be_normalised(tmp_path: Path, capsys) -> None:
    assert momentret("hubness", "simulate", tmp_path / "set", "--size", "60", "--bank", "400") == 0
    capsys.readouterr()
    made = tmp_path / "set"
    arguments = [made / "similarities.npy", "--query-bank", made / "query_bank.npy", "--truth", "diag", "--json"]
    assert momentret("hubness", "normalise", *arguments, "-o", tmp_path / "out") == 0
    found = json.loads(capsys.readouterr().out)["retrieval"]
    assert found["normalised"]["R1"] > found["raw"]["R1"]
    assert "did you mean 'clean'" in failure(capsys, "simulate", tmp_path / "x", "--world", "cleam")
    assert not (tmp_path / "x").exists()


def test_an_index_is_a_gallery_of_clips(tmp_path: Path, capsys) -> None:
    with build(tmp_path / "index", range(5)) as index:
        clips = sum(len(index.clips(video.video_id)) for video in index.videos())
    np.save(tmp_path / "q.npy", np.random.default_rng(0).normal(size=(20, 24)).astype(np.float32))
    arguments = ["--queries", tmp_path / "q.npy", "--gallery", tmp_path / "index", "--json"]
    assert momentret("hubness", "report", *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["inputs"]["gallery"]["shape"] == [clips, 24]
    assert ":" in report["hubness"]["raw"]["10"]["top_hubs"][0]["id"]


def make_index(folder: Path, colours: list[str]) -> Path:
    """Make an index of films in one colour each, as the fake encoder sees them."""
    encoder = load_encoder("fake")
    with CorpusIndex.create(folder, Recipe(encoder.fingerprint, ExtractConfig()).settings()) as index:
        for colour in colours:
            clips = encoder.encode_text([colour, f"a {colour} car", f"{colour} and grey"])
            index.add(Video(colour, f"{colour}.mp4", colour, 6.0, 2.0), clips)
    return folder


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    return make_index(tmp_path / "index", ["red", "green", "blue", "black", "white"])


def test_an_index_gets_its_biases(coloured: Path, tmp_path: Path, capsys) -> None:
    lines = [f"a red {noun}\n" for noun in ("bus", "hat", "door", "bike", "flag", "boat")] + ["a blue sea\n"]
    (tmp_path / "train.txt").write_text("".join(lines) + "\n")
    arguments = ["index", coloured, tmp_path / "train.txt", "--shrink", "1", "--json"]
    assert momentret("hubness", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["bank"]["n_query"] == 7
    with CorpusIndex.open(coloured) as index:
        state = CorpusHubness.load(coloured / "hubness", index)
        tokens = load_encoder("fake").encode_query("a red car").tokens
        found = state.search(index, tokens, options=SearchOptions(exact=True))
    assert found.certified
    assert max(found.hits, key=lambda hit: hit.bias).hit.video.video_id == "red"
    search = ["search", coloured, "a red car", "--exact", "--json", "--as-scored", "--encoder", "fake"]
    assert momentret(*search, "--hubness", coloured / "hubness") == 0
    moments = json.loads(capsys.readouterr().out)["moments"]
    assert moments
    assert [moment["score"] for moment in moments] == pytest.approx([hit.score for hit in found.hits[: len(moments)]])
    assert "exists already" in failure(capsys, *arguments)
    assert momentret("hubness", *arguments, "--overwrite", "-m", "dis", "--exact") == 0


@pytest.mark.parametrize(("count", "warned"), [(299, True), (300, False)])
def test_few_queries_are_warned_of_when_an_index_is_fitted(
    count: int, warned: bool, coloured: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "train.txt").write_text("".join(f"a red bus {number}\n" for number in range(count)))
    assert momentret("hubness", "index", coloured, tmp_path / "train.txt", "--json") == 0
    captured = capsys.readouterr()
    expected = [f"the query bank has {count} rows; below 300 a correction is mostly noise: use more"] * warned
    assert json.loads(captured.out)["warnings"] == expected
    assert captured.err.splitlines() == [f"warning: {text}" for text in expected]


def test_a_bank_of_few_rows_is_warned_of_without_queries_too(files: Path, capsys) -> None:
    np.save(files / "few.npy", P[:4])
    assert momentret("hubness", "fit", "--query-bank", files / "few.npy", "-o", files / "state", "--json") == 0
    assert "has 4 rows" in json.loads(capsys.readouterr().out)["warnings"][0]


@pytest.mark.parametrize(
    ("content", "word"), [(b"\n \n", "holds no queries"), (b"\xff\xfe", "not UTF-8"), (None, "No such file")]
)
def test_an_unusable_list_of_queries_is_refused(content, word: str, coloured: Path, tmp_path: Path, capsys) -> None:
    if content is not None:
        (tmp_path / "train.txt").write_bytes(content)
    assert word in failure(capsys, "index", coloured, tmp_path / "train.txt")
    assert not (coloured / "hubness").exists()


def test_the_gallery_bank_makes_the_dual_methods(files: Path, capsys) -> None:
    normalise(files, capsys, files / "S.npy", "--gallery-bank", files / "R.npy", "-m", "dualis", "--units", "std")
    expected = HubnessNormaliser(method="dualis", units="std").fit(P, R).transform(S)
    np.testing.assert_array_equal(np.load(files / "out" / "normalised.npy"), expected)


def test_an_index_of_training_videos_is_a_gallery_bank(coloured: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "train.txt").write_text("a red bus\na blue sea\na green tree\n")
    arguments = ["index", coloured, tmp_path / "train.txt", "-m", "dualdis", "--json", "--gallery-bank"]
    assert "share 5 videos (first: 'red')" in failure(capsys, *arguments, coloured)
    other = make_index(tmp_path / "other", ["cyan", "orange"])
    assert momentret("hubness", *arguments, other) == 0
    assert json.loads(capsys.readouterr().out)["bank"]["n_gallery"] == 2
