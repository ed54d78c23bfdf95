from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from momentret.errors import DataError, OutputExistsError
from momentret.files import atomic_path, atomic_write, blamed_on, cache_folder, json_rows, refuse_existing, write_jsonl


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(TypeError), atomic_write(target) as file:
        file.writelines(["half", 3])
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_takes_back_the_folders_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "there" / "a" / "b" / "c.txt"):
        1 / 0  # noqa: B018
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "there" / "a" / "b" / "c.txt"):
        [(tmp_path / "there" / "a" / "other").mkdir() for _ in range(2)]
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "a", "other"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody can make a file")
def test_what_cannot_be_written_is_named_as_it_was_given() -> None:
    with pytest.raises(OSError, match=r"'/proc/a\.html'$"), atomic_write(Path("/proc/a.html")):
        pass


def test_a_file_of_ours_is_blamed_on_what_the_user_gave(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'films\.index'$"), blamed_on(Path("films.index")):
        (tmp_path / "a").rename(tmp_path / "b")


def test_a_cache_is_the_users_or_the_one_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOMENTRET_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MOMENTRET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "momentret"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder().parts[-2:] == (".cache", "momentret")


def test_json_lines_round_trip_with_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    write_jsonl(path, [{"a": "é\n"}, {"b": 1.5}])
    assert list(json_rows(path)) == [(1, {"a": "é\n"}), (2, {"b": 1.5})]


@pytest.mark.parametrize("line", ["{oops", "[1, 2]", "3", '{"a": 1}}'])
def test_a_bad_line_is_named_by_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n' + line + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3: "):
        list(json_rows(path))


def test_bytes_that_are_not_utf8_are_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\xff\xfe"}\n')
    with pytest.raises(DataError, match="line 1"):
        list(json_rows(path))


def test_an_existing_output_is_refused_unless_overwritten(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="--overwrite"):
        refuse_existing(tmp_path, overwrite=False)
    refuse_existing(tmp_path, overwrite=True)
    refuse_existing(tmp_path / "absent", overwrite=False)


def test_a_path_written_by_others_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "a.bin") as temporary:
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "new" / "a.bin").exists()
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "new" / "a.bin"):
        Path("absent").read_bytes()
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [b"whole"]


def test_what_exists_already_is_told_the_same_from_another_process() -> None:
    error = OutputExistsError(Path("out"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
