"""`momentret hubness` from files to files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.tuning import hold_out_rows, tune
from tests.helpers import momentret
from tests.search.hubness_helpers import matrices, world

S, P, R = matrices(50, 320)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, array in (("S", S), ("P", P), ("R", R)):
        np.save(tmp_path / f"{name}.npy", array)
    made = world(50, 320)
    for name, array in made.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def failure(capsys, *arguments: object) -> str:
    """Run a command that must fail; returns its one line."""
    assert momentret("hubness", *arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip().splitlines()
    assert len([text for text in line if text.startswith("momentret: ")]) == 1
    return line[-1]


def test_two_files_give_matrix_report_and_picture(files: Path, capsys) -> None:
    out = files / "out"
    assert momentret("hubness", "normalise", files / "S.npy", "--query-bank", files / "P.npy", "-o", out) == 0
    expected = HubnessNormaliser().fit(P).transform(S)
    np.testing.assert_array_equal(np.load(out / "normalised.npy"), expected)
    report = json.loads((out / "report.json").read_text())
    assert report["method"] == "is"
    assert report["hubness"]["raw"]["10"]["skewness"] > report["hubness"]["normalised"]["10"]["skewness"]
    assert (out / "hubness.png").read_bytes()[:4] == b"\x89PNG"
    assert list(pd.read_csv(out / "hubs.csv").columns) == ["id", "N_10_raw", "N_10_normalised", "bias"]
    assert "skewness" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "hubness.png",
        "hubness.svg",
        "hubs.csv",
        "lorenz.png",
        "normalised.npy",
        "report.json",
        "report.md",
    ]


def test_embeddings_give_what_their_matrices_give(files: Path, capsys) -> None:
    common = ["--method", "dualdis", "--truth", "diag", "--json"]
    matrix = ["normalise", files / "S.npy", "--query-bank", files / "P.npy", "--gallery-bank", files / "R.npy"]
    assert momentret("hubness", *matrix, *common, "-o", files / "a") == 0
    first = json.loads(capsys.readouterr().out)
    vectors = ["normalise", "--queries", files / "text.npy", "--gallery", files / "video.npy"]
    vectors += ["--query-bank", files / "bank_text.npy", "--gallery-bank", files / "bank_video.npy"]
    assert momentret("hubness", *vectors, *common, "-o", files / "b") == 0
    second = json.loads(capsys.readouterr().out)
    assert first["retrieval"] == second["retrieval"]
    assert first["bank"]["shrink"] == pytest.approx(second["bank"]["shrink"], abs=1e-4)
    a, b = (np.load(files / name / "normalised.npy") for name in "ab")
    np.testing.assert_allclose(a, b, atol=1e-5)


def write(path: Path, array: np.ndarray) -> str:
    """Write an array in the format of the ending; returns how it is named on the command line."""
    match path.suffix:
        case ".npz":
            np.savez(path, sims=array, other=array[:2])
            return f"{path}:sims"
        case ".h5":
            with h5py.File(path, "w") as file:
                file["clip/sims"] = array
                file["clip/other"] = array[:2]
            return f"{path}:/clip/sims"
        case ".csv":
            pd.DataFrame(array).to_csv(path, index=False, header=False)
        case ".tsv":
            table = pd.DataFrame(array, columns=[f"v{i}" for i in range(array.shape[1])])
            table.insert(0, "id", [f"q{i}" for i in range(len(array))])
            table.to_csv(path, index=False, sep="\t")
        case ".pt":
            torch.save(torch.from_numpy(array), path)
    return str(path)


@pytest.mark.parametrize("ending", [".npz", ".h5", ".csv", ".tsv", ".pt"])
def test_every_format_is_read_alike(ending: str, files: Path, capsys) -> None:
    spec = write(files / f"sims{ending}", S)
    arguments = ["--query-bank", files / "P.npy", "-o", files / "out"]
    assert momentret("hubness", "normalise", spec, *arguments) == 0
    np.testing.assert_allclose(
        np.load(files / "out" / "normalised.npy"), HubnessNormaliser().fit(P).transform(S), atol=1e-6
    )


def test_a_long_table_names_queries_and_items(files: Path, capsys) -> None:
    rows = [(f"q{i}", f"v{j}", float(S[i, j])) for i in range(50) for j in range(50)]
    pd.DataFrame(rows, columns=["query_id", "gallery_id", "score"]).to_csv(files / "long.csv", index=False)
    assert momentret("hubness", "report", files / "long.csv", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["hubness"]["raw"]["10"]["top_hubs"][0]["id"].startswith("v")


def test_a_packed_feature_store_is_a_gallery(files: Path, capsys) -> None:
    from momentret.features import SourceManifest
    from momentret.features.packed import write_family

    made = world(50, 320)["video"]
    items = [(f"v{i:02d}", made[i : i + 1]) for i in range(50)]
    write_family(files / "store", SourceManifest(family="clip", dimension=256, clip_length=2.0), items)
    arguments = ["--queries", files / "text.npy", "--gallery", files / "store", "--json"]
    assert momentret("hubness", "report", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["hubness"]["raw"]["10"]["top_hubs"][0]["id"].startswith("v")


def test_tuned_settings_are_applied(files: Path, capsys) -> None:
    banks = ["--query-bank", files / "P.npy"]
    assert momentret("hubness", "tune", files / "S.npy", *banks, "-o", files / "tuned", "--json") == 0
    chosen = json.loads(capsys.readouterr().out)["selection"]["chosen"]
    assert (files / "tuned" / "tune.png").stat().st_size > 1000
    assert len(pd.read_csv(files / "tuned" / "tune.csv")) > 50
    arguments = ["--tuned", files / "tuned", "--truth", "diag", "--json", "-o", files / "out"]
    assert momentret("hubness", "normalise", files / "S.npy", *banks, *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["method"] == chosen["method"]
    assert report["retrieval"]["normalised"]["R1"] == pytest.approx(chosen["R1"])


def test_tuning_without_pairs(files: Path, capsys) -> None:
    assert momentret("hubness", "tune", "--query-bank", files / "P.npy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["selection"]["rule"] == "least-skewness"


def test_tuning_on_pairs_of_the_banks(files: Path, capsys) -> None:
    banks = ["--query-bank", files / "bank_text.npy", "--gallery-bank", files / "bank_video.npy"]
    assert momentret("hubness", "tune", *banks, "--paired-banks", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    held, rest = hold_out_rows(320)
    text, video = (np.load(files / f"bank_{name}.npy") for name in ("text", "video"))
    pairs = np.stack((np.arange(32), np.arange(32)), axis=1)
    gallery = video[held].T
    expected = tune(text[held] @ gallery, text[rest] @ gallery, pairs, gallery_bank=video[rest] @ gallery)
    assert (found["selection"]["rule"], found["selection"]["chosen"]["method"]) == (
        "one-standard-error",
        expected.config.method,
    )
    assert found["selection"]["chosen"]["R1"] == pytest.approx(expected.chosen.R1)


def test_what_pairs_of_banks_need(files: Path, capsys) -> None:
    bank = ["tune", "--query-bank", files / "bank_text.npy", "--paired-banks"]
    assert "give these two and no similarities" in failure(capsys, *bank)
    np.save(files / "few.npy", np.load(files / "bank_video.npy")[:300])
    assert "row i of both must be a pair" in failure(capsys, *bank, "--gallery-bank", files / "few.npy")


def test_a_state_is_fitted_once_and_applied_later(files: Path, capsys) -> None:
    assert momentret("hubness", "fit", "--query-bank", files / "P.npy", "-m", "nnn", "-o", files / "state") == 0
    arguments = [files / "state", files / "S.npy", "-o", files / "out", "--trec", "5"]
    assert momentret("hubness", "apply", *arguments) == 0
    expected = HubnessNormaliser(method="nnn").fit(P).transform(S)
    np.testing.assert_array_equal(np.load(files / "out" / "normalised.npy"), expected)
    lines = [line.split() for line in (files / "out" / "run.trec").read_text().splitlines()]
    assert len(lines) == 250
    assert lines[0][:2] + lines[0][3:4] + lines[0][5:] == ["0", "Q0", "1", "momentret-nnn"]
    assert int(lines[0][2]) == expected[0].argmax()


def test_transductive_methods_must_be_allowed_and_are_marked(files: Path, capsys) -> None:
    arguments = ["normalise", files / "S.npy", "-m", "sn", "-o", files / "out"]
    assert "--allow-transductive" in failure(capsys, *arguments)
    assert momentret("hubness", *arguments, "--allow-transductive") == 0
    assert "sn (transductive)" in capsys.readouterr().out
    assert json.loads((files / "out" / "report.json").read_text())["transductive"] is True


def test_the_guard_reports_an_unfit_bank(files: Path, capsys) -> None:
    np.save(files / "foreign.npy", 0.4 - P)  # its hubs are the items that live queries like least
    arguments = ["--query-bank", files / "foreign.npy", "--live", files / "P.npy", "-o", files / "out"]
    assert momentret("hubness", "normalise", files / "S.npy", *arguments) == 0
    assert "the bank is unfit" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load(files / "out" / "normalised.npy"), S)


def test_published_values_are_one_flag_away(files: Path, capsys) -> None:
    arguments = ["--query-bank", files / "P.npy", "--published", "--json", "-o", files / "out"]
    assert momentret("hubness", "normalise", files / "S.npy", *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["params"]["beta_query"], report["bank"]["shrink"]) == (20.0, 1.0)


def bad_inputs(files: Path) -> dict[str, tuple[list[object], str]]:
    """Return command and expected words by name of what is wrong."""
    holes, infinite = S.copy(), P.copy()
    holes[3, 4], infinite[7, 1] = np.nan, np.inf
    np.save(files / "nan.npy", holes)
    np.save(files / "inf.npy", infinite)
    np.save(files / "empty.npy", P[:0])
    np.save(files / "flat.npy", P[0])
    np.save(files / "narrow.npy", P[:, :7])
    np.save(files / "turned.npy", P.T)
    np.save(files / "text.dat.npy", np.array([["a", "b"]]))
    np.save(files / "complex.npy", S.astype(complex))
    np.save(files / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(files / "many.npz", a=S, b=P)
    (files / "cut.npy").write_bytes((files / "S.npy").read_bytes()[:-9])
    (files / "junk.h5").write_bytes(b"junk")
    (files / "junk.pt").write_bytes(pickle.dumps({"a": 1}))
    (files / "m.pkl").write_bytes(pickle.dumps(S))
    (files / "truth.csv").write_text("query_id,gallery_id\n0,99\n")
    zero = world(50, 320)["text"].copy()
    zero[5] = 0
    np.save(files / "zero.npy", zero)
    s, bank = files / "S.npy", ["--query-bank", files / "P.npy"]
    embeddings = ["--gallery", files / "video.npy"]
    return {
        "nan": ([files / "nan.npy", *bank], "NaN or +inf (first at row 3, column 4"),
        "inf in bank": ([s, "--query-bank", files / "inf.npy"], "the query bank: NaN or +inf (first at row 7"),
        "empty bank": ([s, "--query-bank", files / "empty.npy"], "none of them empty"),
        "one axis": ([files / "flat.npy", *bank], "expected two axes"),
        "narrow bank": ([s, "--query-bank", files / "narrow.npy"], "columns differ"),
        "turned bank": ([s, "--query-bank", files / "turned.npy"], "looks transposed, pass --transpose query-bank"),
        "turned matrix": ([files / "turned.npy", "--query-bank", files / "narrow.npy"], "columns differ"),
        "bank is test": ([s, "--query-bank", s], "a bank must be of training queries"),
        "no bank": ([s], "needs a query bank"),
        "negative beta": ([s, *bank, "--beta-query", "-1"], "beta_query is -1.0"),
        "nan beta": ([s, *bank, "--beta-query", "nan"], "beta_query is nan"),
        "shrink": ([s, *bank, "--shrink", "2"], "shrink is 2.0"),
        "method": ([s, *bank, "-m", "dual"], "method 'dual' is unknown"),
        "k": ([s, *bank, "--k", "0"], "--k is '0'"),
        "k words": ([s, *bank, "--k", "ten"], "whole numbers"),
        "text": ([files / "text.dat.npy", *bank], "expected real numbers"),
        "complex": ([files / "complex.npy", *bank], "expected real numbers"),
        "objects": ([files / "objects.npy", *bank], "not a NumPy array of plain numbers"),
        "cut": ([files / "cut.npy", *bank], "not a NumPy array"),
        "junk h5": ([files / "junk.h5", *bank], "not a whole HDF5 file"),
        "junk pt": ([files / "junk.pt", *bank], "damaged"),
        "pickle": ([files / "m.pkl", *bank], "pickles are never loaded"),
        "parquet": ([files / "missing.parquet", *bank], "does not exist"),
        "no key": ([files / "many.npz", *bank], "holds a, b: no array was named"),
        "wrong key": ([f"{files / 'many.npz'}:c", *bank], "there is no 'c'"),
        "missing": ([files / "nothing.npy", *bank], "does not exist"),
        "truth": ([s, *bank, "--truth", files / "truth.csv"], "99"),
        "truth word": ([s, *bank, "--truth", "captions:3"], "does not fit"),
        "zero vector": (["--queries", files / "zero.npy", *embeddings, "-m", "raw"], "zero vectors (row 5)"),
        "width": (["--queries", s, *embeddings], "widths differ"),
        "two kinds": ([s, *embeddings, *bank], "one kind of input"),
        "queries alone": (["--queries", s], "--gallery is needed"),
        "nothing": ([*bank], "no queries"),
        "metric": ([*embeddings, "--queries", s, "--metric", "l2"], "expected cosine or dot"),
        "transpose": ([s, *bank, "--transpose", "bank"], "is not an input"),
        "both settings": ([s, *bank, "--published", "--tuned", s], "choose one"),
        "no tuning": ([s, *bank, "--tuned", files / "truth.csv"], "not what `momentret hubness tune` writes"),
    }


def test_bad_input_is_one_clear_line_and_writes_nothing(files: Path, capsys) -> None:
    cases = bad_inputs(files)
    before = sorted(files.iterdir())
    for name, (arguments, words) in cases.items():
        line = failure(capsys, "normalise", *arguments, "-o", files / "out")
        assert words in line, (name, line)
        assert sorted(files.iterdir()) == before, name


def test_a_failure_leaves_no_folders_around_the_output(files: Path, capsys) -> None:
    arguments = (files / "S.npy", "--query-bank", files / "S.npy", "-o")
    failure(capsys, "normalise", *arguments, files / "new" / "deep" / "out")
    assert not (files / "new").exists()
    (files / "kept").mkdir()
    failure(capsys, "normalise", *arguments, files / "kept" / "out")
    assert not list((files / "kept").iterdir())


def test_an_existing_output_is_kept(files: Path, capsys) -> None:
    arguments = ["normalise", files / "S.npy", "--query-bank", files / "P.npy", "-o", files / "out"]
    assert momentret("hubness", *arguments) == 0
    capsys.readouterr()
    assert "exists already" in failure(capsys, *arguments)
    assert momentret("hubness", *arguments, "--overwrite", "-m", "raw") == 0
    (files / "mine").mkdir()
    (files / "mine" / "thesis.txt").write_text("years of work")
    capsys.readouterr()
    assert "exists already" in failure(capsys, *arguments[:-1], files / "mine", "--overwrite")
    assert (files / "mine" / "thesis.txt").exists()


def test_a_malicious_pickle_is_not_run(files: Path, capsys) -> None:
    class Canary:
        def __reduce__(self):
            return Path.touch, (files / "canary",)

    torch.save({"sims": Canary()}, files / "evil.pt")
    assert "more than tensors" in failure(capsys, "report", files / "evil.pt")
    assert not (files / "canary").exists()


def test_a_small_bank_and_another_scale_are_warned_of(files: Path, capsys) -> None:
    np.save(files / "small.npy", 100 * P[:50])
    arguments = ["--query-bank", files / "small.npy", "-o", files / "out"]
    assert momentret("hubness", "normalise", files / "S.npy", *arguments) == 0
    warnings = json.loads((files / "out" / "report.json").read_text())["warnings"]
    assert any("has 50 rows" in text for text in warnings)
    assert any("logit scale" in text for text in warnings)
    assert capsys.readouterr().err.splitlines() == [f"warning: {text}" for text in warnings]
