"""The whole way on a tiny data set through the command line, and that the README speaks of commands that exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest

from momentret.training.folder import RunFolder

from .extract.films import film
from .helpers import momentret

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$? ?(momentret [a-z].*)$", README.replace("\\\n", " "), flags=re.MULTILINE)


def train(data: Path, features: Path, output: Path, *options: str) -> int:
    """Train for one epoch by the command."""
    paths = [f"--data.annotations.{split}={data / split}.jsonl" for split in ("train", "val")]
    small = ["--train.epochs=1", "--train.loggers=[]", f"--data.features.root={features}", f"--output={output}"]
    return momentret("train", "--config", ROOT / "configs" / "tiny.yaml", *paths, *small, *options)


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the command, from a packed store."""
    folder = tmp_path_factory.mktemp("end")
    assert momentret("features", "pack", tiny_data / "features", folder / "packed") == 0
    assert train(tiny_data, folder / "packed", folder / "run") == 0
    return folder / "run"


def test_train_predict_evaluate(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, answers = tiny_data / "val.jsonl", tmp_path / "answers.jsonl"
    asked = ["predict", trained / "best.safetensors", truth, "--features", tiny_data / "features"]
    assert momentret(*asked, "--output", answers) == 0
    assert momentret(*asked, "--output", answers) == 1, "an existing output is refused"
    capsys.readouterr()
    assert momentret("evaluate", answers, truth, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    kept = json.loads((trained / "best_metrics.json").read_text())
    assert report["brief"] == kept["brief"]
    assert kept["blind"].keys() <= kept["brief"].keys()
    assert "MR-full-mAP" in kept["blind"]


def test_repeats_are_dropped_as_the_warning_says(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tiny_data / "val.jsonl"
    asked = ["predict", trained / "best.safetensors", truth, "--features", tiny_data / "features"]
    for name, options in (("all", []), ("once", ["--nms", 0.99])):
        assert momentret(*asked, "--output", tmp_path / name, *options) == 0
        assert momentret("evaluate", tmp_path / name, truth) == 0
    first, second = capsys.readouterr().out.split("qvhighlights: ")[1:]
    assert "can match nothing; momentret predict --nms 0.99 drops it" in first
    assert "repeated_windows" not in second


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("hook", "told"),
    [("on_train_start", "no epoch was finished: nothing is kept"), ("on_train_end", "--resume goes on with the run")],
)
def test_ctrl_c_in_training_says_what_is_kept(
    hook: str,
    told: str,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = signal.getsignal(signal.SIGINT)  # Lightning takes it away
    monkeypatch.setattr(RunFolder, hook, interrupt, raising=False)
    assert train(tiny_data, tiny_data / "features", tmp_path / "run") == 130
    signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err.splitlines()[-2:] == [told, "momentret: interrupted"]
    assert (tmp_path / "run").exists() == ("--resume" in told)


def test_a_model_is_not_asked_about_other_features(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "wide"
    assert momentret("data", "simulate", other, "--train", 1, "--val", 2, "--dim", 32) == 0
    asked = ["predict", trained / "best.safetensors", other / "val.jsonl", "--features", other / "features"]
    assert momentret(*asked, "--output", tmp_path / "a.jsonl") == 1
    assert "dimension" in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_a_clip_length_that_is_not_that_of_the_features_is_one_line(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "univtg"  # a package that does not state its clip length
    shutil.copytree(tiny_data / "features/clip_features", folder / "vid_clip")
    shutil.copytree(tiny_data / "features/clip_text_features", folder / "txt_clip")
    options = ["--data.features.layout=univtg", "--data.clip_length=1"]
    assert train(tiny_data, folder, tmp_path / "run", *options) == 1
    assert capsys.readouterr().err == (
        "momentret: data.clip_length is 1 s, but the 'clip' features of video 'train00000' have 20 rows for 40 s, one "
        "every 2 s; set it to theirs, or data.features.clip_length if the layout is wrong about them\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_model_is_not_asked_about_clips_of_another_length(
    trained: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "packed"
    assert momentret("features", "pack", tiny_data / "features", packed, "--clip-length", 4) == 0
    longer = tmp_path / "longer.jsonl"
    longer.write_text((tiny_data / "val.jsonl").read_text().replace('"duration": 40.0', '"duration": 80.0'))
    for features, queries, told in [
        (packed, tiny_data / "val.jsonl", "clip_length is 4.0, but the model was trained with 2.0; use features made"),
        (tiny_data / "features", longer, "clip_length 2 s, but the 'clip' features .* have 20 rows for 80 s"),
    ]:
        asked = ["predict", trained / "best.safetensors", queries, "--features", features]
        assert momentret(*asked, "--output", tmp_path / "a.jsonl") == 1
        assert re.search(told, capsys.readouterr().err)
        assert not (tmp_path / "a.jsonl").exists()


def test_index_search_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "films" / "flags.mp4", [("red", 2.0), ("blue", 2.0), ("white", 1.0)])
    index, found = tmp_path / "films.index", tmp_path / "found.json"
    options = ["--encoder", "fake", "--clip-length", 0.5, "--threads", 1]
    assert momentret("index", "add", index, tmp_path / "films", *options) == 0
    capsys.readouterr()
    assert momentret("search", index, "something blue", "--json") == 0
    found.write_text(capsys.readouterr().out)
    (best, *_) = json.loads(found.read_text())["moments"]
    assert (best["video_id"], best["start"], best["end"]) == ("flags", 2.0, 4.0)
    assert momentret("cut", found, "--output", tmp_path / "cuts", "--top", 1) == 0
    (cut,) = (tmp_path / "cuts").glob("*.mp4")
    capsys.readouterr()
    assert momentret("find", "blue", cut, *options, "--json") == 0
    (again,) = json.loads(capsys.readouterr().out)["moments"][:1]
    assert (again["start"], again["end"]) == (0.0, pytest.approx(2.0, abs=0.1))


def test_an_unknown_key_of_a_recipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("train", "--config", ROOT / "configs" / "tiny.yaml", "--train.epoch", 3) == 1
    error = capsys.readouterr().err
    assert "did you mean 'train.epochs'" in error
    assert error.count("\n") == 1


def test_the_resolved_recipe_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert momentret("train", "--config", ROOT / "configs" / "tiny.yaml", "--print_config") == 0
    assert "weight_decay: 0.0001" in capsys.readouterr().out


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_exist(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(command, comments=True)[1:]
    verb = words[:2] if words[0] in ("data", "features", "checkpoint", "hubness", "index") else words[:1]
    assert momentret(*verb, "--help") == 0
    text = capsys.readouterr().out
    options = {word.split("=")[0] for word in words if word.startswith("--") and "." not in word}
    assert not {option for option in options if option not in text}
