from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from momentret.errors import FeatureError, OutputExistsError
from momentret.features import PackedSource, SourceManifest, staged_folder, write_family
from momentret.features.packed import INDEX, MANIFEST, ROWS

from .files import read_or_refuse, rows, send_rows

CLIP = SourceManifest("clip", 4, clip_length=2.0, encoder="ViT-B-32/openai", dtype="float16")
ITEMS = {f"v_{i}": rows(3 + i, seed=i) for i in (2, 0, 1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_family(tmp_path / "clip", CLIP, ITEMS.items())
    return tmp_path / "clip"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file and, for an index, the checksum that the manifest keeps of it."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    if path.name == INDEX:
        checksum = zlib.crc32(path.read_bytes())
        edit(path.parent / MANIFEST, lambda manifest: manifest.update(index_checksum=checksum))


def test_what_is_packed_is_read_back_bit_for_bit(folder: Path) -> None:
    source = PackedSource.load(folder)
    assert source.ids() == ["v_0", "v_1", "v_2"]
    assert source.manifest == CLIP
    for item_id, expected in ITEMS.items():
        read = source.read(item_id)
        assert read.dtype == np.float16
        np.testing.assert_array_equal(read, expected)
        source.check(item_id)


def test_rows_are_views_of_one_map_and_cannot_be_written(folder: Path) -> None:
    source = PackedSource.load(folder)
    first, second = source.read("v_2"), source.read("v_0")
    assert first.base is second.base is not None
    assert second.ctypes.data - first.ctypes.data == first.nbytes  # back to back
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_the_rows_are_a_plain_numpy_file(folder: Path) -> None:
    joined = np.load(folder / ROWS, allow_pickle=False)
    np.testing.assert_array_equal(joined, np.concatenate(list(ITEMS.values())))


def test_a_missing_item_and_a_hostile_id_are_named(folder: Path) -> None:
    source = PackedSource.load(folder)
    assert "v_9" not in source
    with pytest.raises(FeatureError, match=r"'v_9' .* are missing"):
        source.read("v_9")
    with pytest.raises(FeatureError, match="cannot name features"):
        source.read("../v_0")


def test_every_truncation_of_the_rows_is_found_at_opening(folder: Path) -> None:
    content = (folder / ROWS).read_bytes()
    for length in (0, 5, 64, 128, len(content) - 8, len(content) - 1):
        (folder / ROWS).write_bytes(content[:length])
        with pytest.raises(FeatureError, match=r"rows\.npy"):
            PackedSource.load(folder)
    (folder / ROWS).write_bytes(content + b"\0")
    with pytest.raises(FeatureError, match=r"rows\.npy has 225 bytes"):
        PackedSource.load(folder)


def test_every_flipped_byte_of_the_rows_is_found_by_the_check(folder: Path) -> None:
    content = (folder / ROWS).read_bytes()
    source = PackedSource.load(folder)
    for place in range(128, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with open(folder / ROWS, "r+b") as file:  # in place: the map sees it
            file.write(damaged)
        with pytest.raises(FeatureError, match=r"are damaged: their checksum differs|NaN"):
            [source.check(item_id) for item_id in ITEMS]


@pytest.mark.parametrize("name", [MANIFEST, INDEX, ROWS])
def test_flipped_bytes_and_truncations_never_raise_anything_else(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x15
        for version in (content[:place], bytes(damaged)):
            (folder / name).write_bytes(version)
            read_or_refuse(lambda: [PackedSource.load(folder).read(item) for item in ITEMS] and None, str(folder))


@pytest.mark.parametrize("name", [MANIFEST, INDEX, ROWS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FeatureError, match=name):
        PackedSource.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="zip"), "is no manifest of packed features"),
        (lambda m: m["source"].update(format_version=2), "has format version 2, expected 1"),
        (lambda m: m["source"].update(dimension=5), r"the manifest says float16 \(12, 5\)"),
        (lambda m: m["source"].update(dtype="float32"), "the manifest says float32"),
        (lambda m: m["source"].pop("layer"), r"missing keys \['layer'\]"),
        (lambda m: m.update(count=2), "does not list 2 items"),
        (lambda m: m.update(count="3"), "'count' is '3'"),
        (lambda m: m.update(rows=11), "lengths do not add up to 11"),
        (lambda m: m.update(index_checksum=0), r"index\.json is damaged: its checksum differs"),
    ],
)
def test_a_manifest_that_contradicts_the_files_is_refused(folder: Path, change: Any, message: str) -> None:
    edit(folder / MANIFEST, change)
    with pytest.raises(FeatureError, match=message):
        PackedSource.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda i: i.update(ids=["v_2", "v_2", "v_1"]),
        lambda i: i.update(ids=["v_2", 3, "v_1"]),
        lambda i: i.update(lengths=[12, 3, -3]),
        lambda i: i.update(lengths=[12, 0, 0]),
        lambda i: i.update(lengths=[5.0, 3, 4]),
        lambda i: i.update(lengths=[10**30, 3, 4]),
        lambda i: i.update(lengths="534"),
        lambda i: i.pop("checksums"),
    ],
)
def test_an_index_that_points_outside_is_refused(folder: Path, change: Any) -> None:
    edit(folder / INDEX, change)
    with pytest.raises(FeatureError, match=r"index\.json is damaged"):
        PackedSource.load(folder)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "there are no clip features to pack"),
        ([("a", rows(2)), ("a", rows(2))], "'a' come twice"),
        ([("a", rows(2, 5))], "'a' has rows of 5 numbers, expected 4"),
        ([("a", np.full((2, 4), np.inf, np.float16))], "'a' holds NaN or infinite"),
        ([("a", rows(2, dtype="float32"))], "would lose precision; pack as float32"),
        ([("../a", rows(2))], "cannot name features"),
    ],
)
def test_items_that_cannot_be_packed_are_refused(tmp_path: Path, items: Any, message: str) -> None:
    with pytest.raises(FeatureError, match=message), staged_folder(tmp_path / "store") as stage:
        write_family(stage / "video" / "clip", CLIP, items)
    assert list(tmp_path.iterdir()) == []


def test_a_narrower_item_is_widened_exactly(tmp_path: Path) -> None:
    wide = SourceManifest("clip", 4)
    write_family(tmp_path / "clip", wide, [("a", rows(2)), ("b", np.asfortranarray(rows(3, dtype="float32")))])
    source = PackedSource.load(tmp_path / "clip")
    np.testing.assert_array_equal(source.read("a"), rows(2).astype(np.float32))
    np.testing.assert_array_equal(source.read("b"), rows(3, dtype="float32"))


def test_odd_ids_survive(tmp_path: Path) -> None:
    ids = ["-x_y.0", "é", "a\nb", '"', "\udcff"]
    write_family(tmp_path / "clip", CLIP, [(item_id, rows(2)) for item_id in ids])
    assert PackedSource.load(tmp_path / "clip").ids() == sorted(ids)


def pack_into(output: Path, overwrite: bool = False) -> None:
    with staged_folder(output, overwrite) as stage:
        write_family(stage / "video" / "clip", CLIP, ITEMS.items())


def test_an_existing_store_is_replaced_only_when_asked(tmp_path: Path) -> None:
    pack_into(tmp_path / "store")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        pack_into(tmp_path / "store")
    pack_into(tmp_path / "store", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    PackedSource.load(tmp_path / "store" / "video" / "clip")


@pytest.mark.parametrize("name", ["thesis.tex", "video/clip/notes.txt", "other/clip/rows.npy"])
def test_what_is_not_a_packed_store_is_never_replaced(tmp_path: Path, name: str) -> None:
    pack_into(tmp_path / "store")
    precious = tmp_path / "store" / name
    precious.parent.mkdir(parents=True, exist_ok=True)
    precious.write_text("years of work")
    with pytest.raises(FeatureError, match="not a packed store and is not overwritten"):
        pack_into(tmp_path / "store", overwrite=True)
    assert precious.read_text() == "years of work"


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(FeatureError, match="not a packed store"):
        pack_into(tmp_path / "store", overwrite=True)


def test_a_failure_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "new" / "store"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_store(tmp_path: Path) -> None:
    pack_into(tmp_path / "store")

    def broken() -> Iterator[tuple[str, np.ndarray]]:
        yield "a", rows(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "store", overwrite=True) as stage:
        write_family(stage / "video" / "clip", CLIP, broken())
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert len(PackedSource.load(tmp_path / "store" / "video" / "clip").ids()) == 3


def test_a_store_made_meanwhile_by_someone_else_is_kept(tmp_path: Path) -> None:
    late = staged_folder(tmp_path / "store")
    write_family(late.__enter__() / "video" / "clip", CLIP, [("late", rows(2))])
    pack_into(tmp_path / "store")
    with pytest.raises(OutputExistsError):
        late.__exit__(None, None, None)
    assert "late" not in PackedSource.load(tmp_path / "store" / "video" / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from momentret.features import SourceManifest, staged_folder, write_family

def items():
    for i in range(10**9):
        if i == 50:
            print("packing", flush=True)
        time.sleep(0.001)
        yield f"v_{i}", np.ones((75, 4), np.float16)

with staged_folder(Path(sys.argv[1])) as stage:
    write_family(stage / "video" / "clip", SourceManifest("clip", 4, dtype="float16"), items())
"""


def test_a_killed_pack_leaves_nothing_that_opens(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "store")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"packing\n"
    time.sleep(0.05)
    process.kill()
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "store").exists()
    left = [path.parent for path in tmp_path.rglob(ROWS)]
    assert len(left) == 1
    with pytest.raises(FeatureError, match=r"manifest\.json cannot be read"):
        PackedSource.load(left[0])


def test_a_pickled_source_is_only_its_path(tmp_path: Path) -> None:
    write_family(tmp_path / "big", CLIP, ((f"v_{i}", rows(50)) for i in range(2000)))
    source = PackedSource.load(tmp_path / "big")
    content = pickle.dumps(source)
    assert len(content) < 2000
    np.testing.assert_array_equal(pickle.loads(content).read("v_7"), rows(50))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # libraries may have started threads; forks are common
def test_other_processes_read_the_same(folder: Path, method: str) -> None:
    parent, child = multiprocessing.Pipe()
    context = multiprocessing.get_context(method)
    process = context.Process(target=send_rows, args=(PackedSource.load(folder), "v_1", child))  # type: ignore[attr-defined]
    process.start()
    assert parent.poll(60)
    np.testing.assert_array_equal(parent.recv(), ITEMS["v_1"])
    process.join()


class Items:
    """A map-style data set over a source."""

    def __init__(self, source: PackedSource) -> None:
        self.source, self.names = source, source.ids()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> int:
        return len(self.source.read(self.names[i]))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_loaders_workers_read_the_store(folder: Path) -> None:
    loader: DataLoader[int] = DataLoader(Items(PackedSource.load(folder)), batch_size=None, num_workers=2)  # type: ignore[arg-type]
    assert list(loader) == [3, 4, 5]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's memory counters")  # noqa: PTH110
def test_reading_everything_copies_nothing_into_memory(tmp_path: Path) -> None:
    big = SourceManifest("clip", 512)
    write_family(tmp_path / "clip", big, ((f"v_{i}", np.ones((1000, 512), np.float32)) for i in range(40)))  # 82 MB
    source = PackedSource.load(tmp_path / "clip")
    before = anonymous_bytes()
    held = [source.read(item_id) for item_id in source.ids()]
    assert sum(float(array[:, 0].sum()) for array in held) == 40_000
    assert anonymous_bytes() - before < 8 << 20


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
