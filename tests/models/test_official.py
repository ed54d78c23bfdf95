"""Files of the official code and of Lighthouse: read without executing anything, whatever they hold."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from momentret.errors import CheckpointError
from momentret.models.official import (
    input_fields,
    model_config,
    read_official,
    reorder_columns,
    video_families,
)

from .official_files import small_model, write_lighthouse, write_official


def test_an_official_file_is_read_whole(tmp_path: Path) -> None:
    model = small_model(heads=4, slots=7, dropout=0.2)
    found = read_official(write_official(tmp_path / "m.ckpt", model, dropout=0.2))
    assert (found.epoch, found.source) == (169, "official")
    assert found.options["device"] == "cuda:0"
    assert found.options["v_feat_dirs"] == ["features/slowfast", "features/clip"]
    for name, value in model.state_dict().items():
        assert torch.equal(found.weights[name], value)
    assert model_config(found.weights, found.options) == model.config


def test_a_lighthouse_file_is_read_without_easydict(tmp_path: Path) -> None:
    model = small_model()
    path = write_lighthouse(tmp_path / "m.ckpt", model)
    assert "easydict" not in sys.modules
    found = read_official(path)
    assert (found.epoch, found.source) == (3, "lighthouse")
    assert found.options["nested"] == {"a": 1}
    assert model_config(found.weights, found.options) == model.config


@pytest.mark.parametrize(
    "options",
    [
        {"input_projections": 3, "pre_norm": True},
        {"input_projections": 1, "decoder_layers": 3, "encoder_layers": 1},
        {"contrastive": True, "contrastive_dim": 9},
        {"span_loss": "ce", "max_clips": 20},
    ],
)
def test_sizes_and_switches_are_read_off_the_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small_model(**options)
    found = read_official(write_official(tmp_path / "m.ckpt", model))
    assert model_config(found.weights, found.options) == model.config


def test_tensors_that_share_or_stride_a_storage_are_read(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    torch.save(
        {"model": {"turned": base.T, "part": base[1], "half": base.half(), "one": torch.tensor(3)}}, tmp_path / "m"
    )
    weights = read_official(tmp_path / "m").weights
    assert_close(weights["turned"], base.T)
    assert_close(weights["part"], base[1])
    assert_close(weights["half"], base)
    assert_close(weights["one"], torch.tensor(3.0))


class Payload:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def canary(folder: Path) -> Path:
    return folder / "canary"


@pytest.mark.parametrize("place", ["root", "model", "opt", "nested", "epoch"])
@pytest.mark.parametrize("kind", ["system", "eval", "open", "getattr", "load"])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path: Path, place: str, kind: str) -> None:
    target = canary(tmp_path)
    payload = {
        "system": Payload(os.system, f"touch {target}"),
        "eval": Payload(builtins.eval, f"open({str(target)!r}, 'w')"),
        "open": Payload(builtins.open, str(target), "w"),
        "getattr": Payload(getattr, target, "touch"),
        "load": Payload(pickle.loads, pickle.dumps(Payload(os.system, f"touch {target}"))),
    }[kind]
    state: Any = {"model": small_model().state_dict(), "opt": {"a": {}}, "epoch": 0}
    if place == "root":
        state = payload
    elif place == "nested":
        state["opt"]["a"]["b"] = [payload]
    else:
        state[place] = payload
    torch.save(state, tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=r"m\.ckpt: refused, it asks for .*do not trust"):
        read_official(tmp_path / "m.ckpt")
    assert not target.exists()


def test_the_canary_sings_when_such_a_file_is_unpickled(tmp_path: Path) -> None:
    # what the tests above look for does happen with a loader that trusts the file
    pickle.loads(pickle.dumps(Payload(Path.touch, canary(tmp_path))))
    assert canary(tmp_path).exists()


def archive(path: Path, pickled: bytes, **entries: bytes) -> Path:
    """Write a zip as torch.save lays it out."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", pickled)
        for name, content in entries.items():
            file.writestr(f"m/{name.replace('__', '/')}", content)
    return path


STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"  # 4 floats, key "0"
)


def one_tensor(offset: bytes, shape: bytes, stride: bytes) -> bytes:
    """Return a pickle of {"model": {"w": tensor}} with the given numbers."""
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + offset + shape + stride + b"\x89}tR"
    return b"\x80\x02}X\x05\x00\x00\x00model}X\x01\x00\x00\x00w" + tensor + b"ss."


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    pickled = one_tensor(b"K\x01", b"K\x03\x85", b"K\x01\x85")
    path = archive(tmp_path / "m.ckpt", pickled, data__0=struct.pack("<4f", 1, 2, 3, 4))
    assert read_official(path).weights["w"].tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (b"K\x02", b"K\x03\x85", b"K\x01\x85"),  # one beyond the end
        (b"K\x00", b"K\x03\x85", b"K\x02\x85"),  # strides beyond the end
        (b"K\x00", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),  # two billion times the same number
        (b"J\xff\xff\xff\xff", b"K\x03\x85", b"K\x01\x85"),  # offset -1
        (b"K\x00", b"K\x03\x85", b"K\x01K\x01\x86"),  # more strides than sizes
        (b"N", b"K\x03\x85", b"K\x01\x85"),
        (b"K\x00", b"N", b"K\x01\x85"),
    ],
)
def test_a_tensor_that_lies_about_its_place_is_refused(
    tmp_path: Path, offset: bytes, shape: bytes, stride: bytes
) -> None:
    path = archive(tmp_path / "m.ckpt", one_tensor(offset, shape, stride), data__0=bytes(16))
    with pytest.raises(CheckpointError, match=r"m\.ckpt"):
        read_official(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"not a pickle",
        b"\x80\x02}",
        b"\x80\x02]q\xff.",
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of two billion places
        b"\x80\x05\x96" + b"\xff" * 6 + b"\x00\x00.",  # a byte array of 2**48
        b"\x80\x02cargparse\nNamespace\n}X\x01\x00\x00\x00aK\x01sb.",  # attributes for a class
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",  # and for a function
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02" + b"(" * 10 + b"l" * 10 + b".",
        b"\x80\x02\x82\x01.",
        b"\x80\x02}X\x05\x00\x00\x00model}s.",
        b"\x80\x02K\x01.",
    ],
)
def test_a_damaged_or_odd_pickle_is_refused(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"m\.ckpt"):
        read_official(archive(tmp_path / "m.ckpt", pickled))


def test_a_file_changes_nothing_of_ours(tmp_path: Path) -> None:
    from momentret.models import official

    before = dict(vars(official._Namespace)), dict(vars(official._recipe))
    pickled = b"\x80\x02cargparse\nNamespace\n}X\x0c\x00\x00\x00__setstate__ctorch\ndevice\nsb."
    with pytest.raises(CheckpointError):
        read_official(archive(tmp_path / "m.ckpt", pickled))
    assert before == (dict(vars(official._Namespace)), dict(vars(official._recipe)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = write_official(tmp_path / "m.ckpt", small_model())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"m\.ckpt"):
        read_official(path)


def test_a_flipped_byte_of_a_weight_is_noticed(tmp_path: Path) -> None:
    path = write_official(tmp_path / "m.ckpt", small_model())
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        place = next(entry.header_offset for entry in file.infolist() if entry.filename.endswith("data/0"))
    content[place + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.ckpt"):
        read_official(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.ckpt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", bytes(100_000_000))
    with pytest.raises(CheckpointError, match="compressed"):
        read_official(tmp_path / "m.ckpt")


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.ckpt", b"", data__0=bytes(1000))
    with zipfile.ZipFile(path, "a") as file:
        entry = file.infolist()[-1]
        for i in range(100):
            twin = zipfile.ZipInfo(f"m/data/{i + 1}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(twin, name, getattr(entry, name))
            file.filelist.append(twin)
        file._didModify = True
    with pytest.raises(CheckpointError, match="more than its own size"):
        read_official(path)


@pytest.mark.parametrize("old", [True, False])
def test_a_file_that_torch_wrote_otherwise_is_refused(tmp_path: Path, old: bool) -> None:
    if old:
        torch.save({"model": {}}, tmp_path / "m.ckpt", _use_new_zipfile_serialization=False)
    else:
        (tmp_path / "m.ckpt").write_text("{}")
    with pytest.raises(CheckpointError, match=r"torch 1\.6 or newer"):
        read_official(tmp_path / "m.ckpt")


@pytest.mark.parametrize(
    "state", [{"model": {}}, {"weights": {}}, {"model": {"w": 1}}, [1], {"model": [torch.ones(1)]}]
)
def test_a_file_without_a_model_is_refused(tmp_path: Path, state: Any) -> None:
    torch.save(state, tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match="no state dict under 'model'"):
        read_official(tmp_path / "m.ckpt")


def test_another_architecture_is_refused() -> None:
    weights = small_model().state_dict()
    with pytest.raises(CheckpointError, match="not a Moment-DETR"):
        model_config({"backbone.weight": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match=r"'global_rep_token' is unknown"):
        model_config({**weights, "global_rep_token": torch.ones(1)}, {"nheads": 4})
    with pytest.raises(CheckpointError, match="heads is 'many'"):
        model_config(weights, {"nheads": "many"})


@pytest.mark.parametrize(
    ("width", "context", "source", "expected"),
    [
        (514, "video_tef", "official", ("clip",)),
        (512, "video", "official", ("clip",)),
        (2306, "video_tef", "official", ("slowfast",)),
        (2818, "video_tef", "official", ("slowfast", "clip")),
        (2818, "video_tef", "lighthouse", ("clip", "slowfast")),
        (2, "tef", "official", ()),
    ],
)
def test_families_follow_from_the_width(width: int, context: str, source: str, expected: tuple[str, ...]) -> None:
    config = small_model(width).config
    assert video_families(config, {"ctx_mode": context}, source) == expected


def test_an_unknown_width_is_refused() -> None:
    with pytest.raises(CheckpointError, match="4866 wide, which fits no set"):
        video_families(small_model(4866).config, {}, "lighthouse")


def first_projection(weights: dict[str, Tensor], video: Tensor) -> Tensor:
    model = small_model(2818)
    model.load_state_dict(weights)
    return model.eval().input_vid_proj(video)


def test_reordered_columns_see_the_same_features() -> None:
    weights = {name: torch.randn_like(value) for name, value in small_model(2818).state_dict().items()}
    slowfast, clip, endpoints = torch.randn(1, 5, 2304), torch.randn(1, 5, 512), torch.rand(1, 5, 2)
    turned = reorder_columns(weights, ("clip", "slowfast"), ("slowfast", "clip"))
    before = first_projection(weights, torch.cat((clip, slowfast, endpoints), -1))
    after = first_projection(turned, torch.cat((slowfast, clip, endpoints), -1))
    assert_close(after, before, atol=1e-3, rtol=1e-4)  # sums of 2,818 products of size 1 in another order
    back = reorder_columns(turned, ("slowfast", "clip"), ("clip", "slowfast"))
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_columns_are_not_reordered_to_other_families() -> None:
    with pytest.raises(ValueError, match="cannot order the features slowfast,clip as clip"):
        reorder_columns(small_model(2818).state_dict(), ("slowfast", "clip"), ("clip",))


def test_options_become_input_settings() -> None:
    found = input_fields({"ctx_mode": "tef", "max_v_l": -1, "max_q_l": 100, "no_norm_tfeat": True})
    assert found == {
        "max_clips": None,
        "max_words": 100,
        "normalise_video": True,
        "normalise_text": False,
        "use_video": False,
        "temporal_endpoints": True,
    }
