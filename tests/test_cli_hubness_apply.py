"""`momentret hubness`: states and their use, prepared banks, queries that are left out, what a report holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from momentret.search.hubness.checking import worse_than_chance
from momentret.search.hubness.config import HubnessConfig
from momentret.search.hubness.normaliser import HubnessNormaliser
from momentret.search.hubness.retrieval import compare_ranks, retrieval_metrics
from tests.helpers import momentret
from tests.search.hubness_helpers import matrices, world
from tests.test_cli_hubness import P, S, failure, files
from tests.test_cli_hubness_inputs import normalise

__all__ = ["files"]  # a fixture


def with_holes(files: Path) -> np.ndarray:
    """Write P with three unusable rows as holes.npy; returns the others."""
    holes = P.copy()
    holes[[7, 90, 300], [1, 2, 3]] = np.nan, np.inf, np.nan
    np.save(files / "holes.npy", holes)
    return np.delete(P, [7, 90, 300], axis=0)


@pytest.mark.parametrize(
    ("kind", "option", "kept"), [("emb", "auto", 320), ("emb", "keep", 340), ("sim", "auto", 340), ("sim", "drop", 320)]
)
def test_bank_rows_that_repeat_another(kind: str, option: str, kept: int, files: Path, capsys) -> None:
    embedded = np.load(files / "bank_text.npy")
    np.save(files / "emb.npy", np.concatenate([embedded, embedded[:20]]))
    np.save(files / "sim.npy", np.concatenate([P, P[:20]]))
    embeddings = ["--queries", files / "text.npy", "--gallery", files / "video.npy"]
    test = embeddings if kind == "emb" else [files / "S.npy"]
    arguments = [*test, "--query-bank", files / f"{kind}.npy", "--duplicates", option, "-o", files / "out", "--json"]
    assert momentret("hubness", "normalise", *arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bank"]["n_query"] == kept
    assert any("repeat another" in text for text in report["warnings"])
    assert ("duplicates_removed" in report["inputs"]["query_bank"]) == (kept == 320)


def test_bank_rows_that_differ_in_few_places_do_not_repeat_another(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "test.npy", random.random((20, 200), dtype=np.float32))
    bank = np.repeat(random.random((150, 200), dtype=np.float32), 2, axis=0)
    bank[1::2, 1] += 1
    np.save(tmp_path / "bank.npy", np.concatenate([bank, bank[:1]]))
    arguments = [tmp_path / "test.npy", "--query-bank", tmp_path / "bank.npy", "-o", tmp_path / "out"]
    assert momentret("hubness", "normalise", *arguments, "--duplicates", "drop") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["bank"]["n_query"] == 300


@pytest.mark.parametrize("method", ["is", "dis", "nnn", "gc", "bank-sinkhorn"])
def test_bank_rows_with_holes_can_be_left_out(method: str, files: Path, capsys) -> None:
    rest = with_holes(files)
    arguments = ["normalise", files / "S.npy", "--query-bank", files / "holes.npy", "-m", method, "-o", files / "out"]
    assert "row 7, column 1; 3 in all" in failure(capsys, *arguments)
    assert "expected error or drop-bank-rows" in failure(capsys, *arguments, "--nan", "drop")
    assert momentret("hubness", *arguments, "--nan", "drop-bank-rows", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    expected = HubnessNormaliser(method=method).fit(rest).transform(S)
    np.testing.assert_array_equal(np.load(files / "out" / "normalised.npy"), expected)
    assert report["inputs"]["query_bank"]["dropped_rows"] == {"count": 3, "first": 7}
    assert any("3 of 320 rows hold NaN or +inf (first: row 7)" in text for text in report["warnings"])
    assert report["bank"]["n_query"] == 317


def test_holes_anywhere_else_stay_errors(files: Path, capsys) -> None:
    with_holes(files)
    np.save(files / "none.npy", np.full_like(P, np.nan))
    drop = ["--nan", "drop-bank-rows", "-o", files / "out"]
    queries = ["normalise", files / "holes.npy", "--query-bank", files / "P.npy", "--allow-overlap", *drop]
    assert "the similarities: NaN or +inf (first at row 7" in failure(capsys, *queries)
    live = ["normalise", files / "S.npy", "--query-bank", files / "P.npy", "--live", files / "holes.npy", *drop]
    assert "the live queries: NaN" in failure(capsys, *live)
    empty = ["normalise", files / "S.npy", "--query-bank", files / "none.npy", *drop]
    assert "no bank is left" in failure(capsys, *empty)
    assert not (files / "out").exists()


def test_banks_of_embeddings_lose_the_same_rows(files: Path, capsys) -> None:
    made = world(50, 320)
    bank, other = made["bank_text"].copy(), made["bank_video"].copy()
    bank[4, 0] = other[11, 2] = np.nan
    np.save(files / "bank.npy", bank)
    np.save(files / "other.npy", other)
    arguments = ["normalise", "--queries", files / "text.npy", "--gallery", files / "video.npy", "-m", "dbsn"]
    arguments += ["--query-bank", files / "bank.npy", "--gallery-bank", files / "other.npy", "-o", files / "out"]
    assert " bank: NaN or +inf" in failure(capsys, *arguments)
    assert momentret("hubness", *arguments, "--nan", "drop-bank-rows") == 0
    kept, others = np.delete(bank, 4, axis=0), np.delete(other, 11, axis=0)
    expected = HubnessNormaliser(method="dbsn").fit(kept @ made["video"].T, cross_bank=kept @ others.T).transform(S)
    np.testing.assert_allclose(np.load(files / "out" / "normalised.npy"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("ties", "raw"), [("average", 1.5), ("optimistic", 1.0), ("pessimistic", 2.0), ("index", 4 / 3)]
)
def test_the_tie_rule_can_be_chosen(ties: str, raw: float, tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "s.npy", np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], np.float32))
    (tmp_path / "truth.csv").write_text("query_id,gallery_id\n0,0\n1,1\n2,1\n")
    arguments = ["report", tmp_path / "s.npy", "--truth", tmp_path / "truth.csv", "--json", "--ties"]
    assert momentret("hubness", *arguments, ties) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ties"] == ties
    assert report["retrieval"]["raw"]["MnR"] == pytest.approx(raw)
    assert "expected one of average" in failure(capsys, *arguments, "best")


def test_fit_and_apply_are_what_normalise_does(files: Path, capsys) -> None:
    banks = ["--query-bank", files / "P.npy", "--gallery-bank", files / "R.npy", "-m", "dualdis"]
    assert momentret("hubness", "normalise", files / "S.npy", *banks, "--truth", "diag", "-o", files / "one") == 0
    assert momentret("hubness", "fit", *banks, "-o", files / "state") == 0
    assert momentret("hubness", "apply", files / "state", files / "S.npy", "--truth", "diag", "-o", files / "two") == 0
    np.testing.assert_array_equal(*(np.load(files / name / "normalised.npy") for name in ("one", "two")))
    first, second = (json.loads((files / name / "report.json").read_text()) for name in ("one", "two"))
    for key in ("method", "params", "scale", "bank", "hubness", "retrieval", "difference"):
        assert first[key] == second[key], key


def test_a_state_knows_the_embeddings_it_was_fitted_for(files: Path, capsys) -> None:
    gallery = ["--gallery", files / "video.npy"]
    assert momentret("hubness", "fit", *gallery, "--query-bank", files / "bank_text.npy", "-o", files / "state") == 0
    capsys.readouterr()
    apply = ["apply", files / "state", "--queries", files / "text.npy", "-o", files / "out"]
    np.savez(files / "again.npz", video=np.load(files / "video.npy"))
    np.save(files / "turned.npy", np.load(files / "video.npy")[::-1])
    assert "other gallery embeddings" in failure(capsys, *apply, "--gallery", files / "turned.npy")
    assert "another --metric" in failure(capsys, *apply, *gallery, "--metric", "dot")
    assert momentret("hubness", *apply, "--gallery", files / "again.npz") == 0


def test_queries_without_a_positive_can_be_left_out(files: Path, capsys) -> None:
    (files / "truth.csv").write_text("query_id,gallery_id\n" + "".join(f"{i},{i}\n" for i in range(3, 50)))
    arguments = ["normalise", files / "S.npy", "--query-bank", files / "P.npy", "--truth", files / "truth.csv"]
    arguments += ["--trec", "1", "-o", files / "out"]
    assert "--skip-queries-without-truth" in failure(capsys, *arguments)
    assert momentret("hubness", *arguments, "--skip-queries-without-truth", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["inputs"]["truth"] == {"skipped_queries": 3}
    assert report["retrieval"]["raw"]["n"] == 47
    np.testing.assert_array_equal(
        np.load(files / "out" / "normalised.npy"), HubnessNormaliser().fit(P).transform(S[3:])
    )
    assert (files / "out" / "run.trec").read_text().split()[0] == "3"


def test_a_loss_is_an_exit_status_of_its_own(files: Path, capsys) -> None:
    np.save(files / "foreign.npy", 0.4 - P)
    arguments = [
        "normalise",
        files / "S.npy",
        "--query-bank",
        files / "foreign.npy",
        "--shrink",
        "1",
        "--fail-if-worse",
    ]
    assert "--truth is needed" in failure(capsys, *arguments, "-o", files / "out")
    assert momentret("hubness", *arguments, "--truth", "diag", "-o", files / "out") == 3
    assert "R@1 fell by" in capsys.readouterr().err
    assert (files / "out" / "report.json").exists()
    good = ["normalise", files / "S.npy", "--query-bank", files / "P.npy", "--truth", "diag", "--fail-if-worse"]
    assert momentret("hubness", *good, "-o", files / "good") == 0


@pytest.mark.parametrize("turned", [False, True])
def test_a_fall_beyond_chance_is_warned_of(turned: bool, tmp_path: Path, capsys) -> None:
    scores, bank, _ = matrices(300, 400)
    np.save(tmp_path / "S.npy", scores.T if turned else scores)
    np.save(tmp_path / "P.npy", bank)
    arguments = [tmp_path / "S.npy", "--query-bank", tmp_path / "P.npy", "--truth", "diag", "--json"]
    assert momentret("hubness", "normalise", *arguments, "-o", tmp_path / "out") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    before, after = (report["retrieval"][side]["R1"] for side in ("raw", "normalised"))
    fell = f"R@1 fell from {before:.1f} to {after:.1f} (query-to-gallery; "
    assert [text.startswith(fell) and "--transpose" in text for text in report["warnings"]] == [True] * turned
    assert captured.err.splitlines() == [f"warning: {text}" for text in report["warnings"]]


@pytest.mark.parametrize(("lost", "warned"), [(9, False), (22, False), (23, True)])  # p 1, 0.0501, 0.035
def test_chance_is_a_test_over_the_queries_that_changed(lost: int, warned: bool) -> None:
    before, after = (np.zeros(100), np.zeros(100))
    before[:10], after[10 : 10 + lost] = 1, 1  # 10 gained
    report = {"retrieval": {"raw": retrieval_metrics(before), "normalised": retrieval_metrics(after)}}
    report |= {"direction": "query-to-gallery", "difference": compare_ranks(before, after)}
    report |= {"selection": {"chosen": asdict(HubnessConfig(method="nnn"))}}
    warnings = worse_than_chance(report, (100, 90))
    assert ["--transpose" not in text and "hubness tune" in text for text in warnings] == [True] * warned


def test_a_sample_of_the_bank_is_drawn_by_its_seed(files: Path, capsys) -> None:
    report = normalise(files, capsys, files / "S.npy", "--bank-sample", "300", "--seed", "4")
    kept = np.sort(np.random.default_rng(4).choice(320, 300, replace=False))
    expected = HubnessNormaliser().fit(P[kept]).transform(S)
    np.testing.assert_array_equal(np.load(files / "out" / "normalised.npy"), expected)
    assert report["inputs"]["query_bank"]["sampled_rows"] == {"count": 300, "seed": 4}


def test_a_bank_of_another_domain_weakens_nnn_alone(files: Path, capsys) -> None:
    report = normalise(files, capsys, files / "S.npy", "-m", "nnn", "--bank-domain", "other", "--alpha", "0.25")
    assert (report["params"]["alpha"], report["params"]["top"]) == (0.25, 16)
    arguments = ["normalise", files / "S.npy", "--query-bank", files / "P.npy", "-o", files / "no"]
    assert "with --method nnn" in failure(capsys, *arguments, "--bank-domain", "other")


def test_items_that_no_bank_row_sees_are_warned_of(files: Path, capsys) -> None:
    masked = P.copy()
    masked[:, 3] = -np.inf
    np.save(files / "masked.npy", masked)
    assert momentret("hubness", "fit", "--query-bank", files / "masked.npy", "-o", files / "state", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bank"]["masked_items"] == 1
    assert any("1 gallery item without a similarity" in text for text in found["warnings"])


REPORT_KEYS = {
    "params": "beta_query beta_gallery beta_query_std_units",
    "selection": "rule chosen",
    "scale": "sigma_query sigma_gallery max_abs",
    "bank": "n_query n_gallery duplicates activated_share gated_share reliability guard_slope guard_correlation shrink",
    "difference": "R1 ci95 gained lost mcnemar_p top1_changed_share",
    "timing": "fit_s apply_s",
    "memory": "peak_mb",
}


def test_the_report_has_its_stable_keys(files: Path, capsys) -> None:
    options = ["-m", "dualdis", "--gallery-bank", files / "R.npy", "--live", files / "R.npy", "--truth", "diag"]
    report = normalise(files, capsys, files / "S.npy", *options)
    top = "schema_version created library_version inputs direction method hubness retrieval ties warnings"
    assert set(top.split()) | set(REPORT_KEYS) <= set(report)
    for key, names in REPORT_KEYS.items():
        assert set(names.split()) <= set(report[key]), key
    assert report["inputs"]["query_bank"]["sha256"] == sha256((files / "P.npy").read_bytes()).hexdigest()
    assert report["bank"]["activated_share"].keys() == report["bank"]["gated_share"].keys() == {"query", "gallery"}
    assert report["scale"]["max_abs"] == pytest.approx(np.abs(S).max())
    page = (files / "out" / "report.md").read_text()
    assert "| N_10 skewness |" in page


def test_percentages_of_a_report_have_four_decimals(tmp_path: Path, capsys) -> None:
    made = world(49, 320)  # 49 queries: no share of them is a short number
    for name in ("text", "bank_text"):
        np.save(tmp_path / f"{name}.npy", made[name] @ made["video"].T)
    arguments = [tmp_path / "text.npy", "--query-bank", tmp_path / "bank_text.npy", "--truth", "diag", "--json"]
    assert momentret("hubness", "normalise", *arguments, "-o", tmp_path / "out") == 0
    report = json.loads(capsys.readouterr().out)
    before, after = (report["retrieval"][side] for side in ("raw", "normalised"))
    numbers = [found[name] for found in (before, after) for name in ("R1", "R5", "R10", "gmean")]
    numbers += [report["difference"]["R1"], *report["difference"]["ci95"]]
    assert [round(number, 4) for number in numbers] == numbers
    assert after["R1"] - before["R1"] == pytest.approx(report["difference"]["R1"], abs=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["is", "dis", "dualis", "dualdis", "nnn", "csls", "gc", "bank-sinkhorn", "sn"])
def test_a_gpu_gives_what_the_cpu_gives(method: str, files: Path, capsys) -> None:
    arguments = [files / "S.npy", "--query-bank", files / "P.npy", "--gallery-bank", files / "R.npy", "-m", method]
    arguments += ["--allow-transductive", "--truth", "diag"]
    for device in ("cpu", "cuda"):
        assert momentret("hubness", "normalise", *arguments, "--device", device, "-o", files / device) == 0
    found = [np.load(files / device / "normalised.npy") for device in ("cuda", "cpu")]
    np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.gpu
def test_a_state_of_the_cpu_serves_a_gpu(files: Path, capsys) -> None:
    banks = ["--query-bank", files / "P.npy", "--gallery-bank", files / "R.npy", "-m", "dualdis", "--rule", "product"]
    assert momentret("hubness", "fit", *banks, "-o", files / "state") == 0
    for device in ("cpu", "cuda"):
        apply = ["apply", files / "state", files / "S.npy", "--device", device, "-o", files / device]
        assert momentret("hubness", *apply) == 0
    found = [np.load(files / device / "normalised.npy") for device in ("cuda", "cpu")]
    np.testing.assert_allclose(*found, atol=1e-4)  # logarithms, of the order of ten
