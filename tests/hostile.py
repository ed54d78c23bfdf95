"""A folder of everything that is wrong with people's folders: good films among damaged, disguised and hostile files."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .video.rendering import render, steady

CLIP = 0.5  # s; a good film has 4 clips
FRAMES = steady(50)
FAST = {"preset": "ultrafast", "g": "10"}
ENCODINGS: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": ("libx264", FAST),
    "mkv": ("libx264", FAST),
    "mov": ("libx264", FAST),
    "ts": ("libx264", FAST),
    "avi": ("mpeg4", {"g": "10"}),
    "webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
}
NAMES = (
    b"-dash.mp4",
    b"--encoder=x.mp4",
    b"two\nlines.mp4",
    b"\xff\xfe no text.mp4",
    b"\x1b[2J\x1b]0;title\x07.mp4",
    "ünï çødé 電影 🎬 \u202eesrever.mp4".encode(),
    b"  spaces  .mp4",
    b"percent %d %s %05d.mp4",
    b"quotes '\"`$(touch pwned)`.mp4",
    b"concat:a|b.mp4",
    b"file:..mp4",
    b"http:__127.0.0.1_x.mp4",
    b"back\\slash.mp4",
    b"UPPER.MP4",
    b"wrong ending.txt",
    b"no ending",
    b"disguised.jpg",
    b"x" * 250 + b".mp4",
    b"[1] * ? {a,b}.mp4",
)


@dataclass(frozen=True)
class Case:
    """A file and what has to become of it."""

    path: Path
    fate: str
    """``good``: indexed with all clips; ``bad``: in quarantine; ``either``: one or the other; ``ignored``: no video."""


def sources(folder: Path) -> dict[str, bytes]:
    """Return a good film in each container, made in `folder`."""
    films = {
        ending: render(folder / f"film.{ending}", codec, FRAMES, options=options)
        for ending, (codec, options) in ENCODINGS.items()
    }
    films["sound.mp4"] = render(folder / "sound.mp4", stamps=FRAMES, options=FAST, audio=2.0)
    return {name: path.read_bytes() for name, path in films.items()}


def fill(folder: Path, outside: Path, films: dict[str, bytes], port: int, cuts: int, unreadable: bool) -> list[Case]:
    """Fill `folder` and return its cases.

    Args:
        folder: empty.
        outside: a folder that nothing here may lead to.
        films: from `sources`.
        port: of a server on this machine that nobody may ask.
        cuts: how many truncations and how many corruptions there are of each container.
        unreadable: whether who reads the folder may not read what is forbidden; root may.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = [
        *_good(folder / "good", films),
        *_truncated(folder / "cut", films, cuts),
        *_corrupted(folder / "noise", films, cuts),
        *_lying_headers(folder / "headers", films["mp4"]),
        *_no_videos(folder / "other", films),
        *_scripts(folder / "scripts", outside, port),
        *_bombs(folder / "bombs", films["mp4"]),
    ]
    return cases + (_special(folder / "special", outside, films["mp4"], unreadable) if os.name == "posix" else [])


def _write(path: Path, content: bytes, fate: str) -> Case:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Case(path, fate)


def _good(folder: Path, films: dict[str, bytes]) -> list[Case]:
    plain = [_write(folder / "plain" / f"{name}.{name.split('.')[-1]}", film, "good") for name, film in films.items()]
    names = [os.fsdecode(name) for name in NAMES] if os.name == "posix" else []
    return plain + [_write(folder / name, films["mp4"], "good") for name in names]


def _truncated(folder: Path, films: dict[str, bytes], cuts: int) -> Iterator[Case]:
    for name, film in films.items():
        places = {0, 1, 7, 8, 16, len(film) - 1, *np.linspace(0, len(film), cuts + 2, dtype=int)[1:-1].tolist()}
        for place in sorted(places)[: cuts + 6]:
            yield _write(
                folder / f"{name} at {place}.{name.split('.')[-1]}", film[:place], "either" if place else "bad"
            )


def _corrupted(folder: Path, films: dict[str, bytes], cuts: int) -> Iterator[Case]:
    numbers = np.random.default_rng(0)
    for name, film in films.items():
        for number in range(cuts):
            content = bytearray(film)
            for place in numbers.integers(0, len(content), 1 + 4**number % 1000):
                content[place] = numbers.integers(256)
            yield _write(folder / f"{name} {number}.{name.split('.')[-1]}", bytes(content), "either")
        half = len(film) // 2
        yield _write(folder / f"{name} zeros.{name.split('.')[-1]}", film[:half] + bytes(half), "either")


def _patched(film: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    place = film.index(box) + len(box) + offset
    return film[:place] + value + film[place + len(value) :]


def _lying_headers(folder: Path, film: bytes) -> list[Case]:
    most = b"\xff\xff\xff\xff"
    lies = {
        "duration": _patched(film, b"mvhd", 16, most),
        "media duration": _patched(film, b"mdhd", 16, most),
        "time scale 0": _patched(film, b"mdhd", 12, bytes(4)),
        "time scale 1": _patched(film, b"mdhd", 12, b"\0\0\0\1"),
        "16k pictures": _patched(film, b"avc1", 24, struct.pack(">HH", 16384, 16384)),
        "0 pictures": _patched(film, b"avc1", 24, bytes(4)),
        "sample count": _patched(film, b"stsz", 8, most),
        "time entries": _patched(film, b"stts", 4, most),
        "long samples": _patched(film, b"stts", 12, b"\x7f\xff\xff\xff"),
        "chunk entries": _patched(film, b"stco", 4, most),
        "chunks elsewhere": _patched(film, b"stco", 8, most),
        "moov size 0": _patched(film, b"moov", -8, bytes(4)),
        "moov size huge": _patched(film, b"moov", -8, most),
        "external data": _patched(film, b"url ", 0, bytes(4)),
        "nested boxes": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
        + b"".join(struct.pack(">I4s", 8 * n, b"moov") for n in range(20_000, 0, -1)),
        "ebml size": b"\x1aE\xdf\xa3\x01" + b"\xff" * 7 + b"\x42\x82\x88matroska",
        "gif size": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf7\0\0" + bytes(800),
        "only a header": film[:24],
        "header and 16 KiB": film[:24] + bytes(16 << 10),
    }
    fates = {
        "nested boxes": "bad",
        "ebml size": "bad",
        "only a header": "bad",
        "long samples": "bad",
        "header and 16 KiB": "bad",
    }
    return [_write(folder / f"{name}.mp4", content, fates.get(name, "either")) for name, content in lies.items()]


def _no_videos(folder: Path, films: dict[str, bytes]) -> list[Case]:
    pictures, archive = io.BytesIO(), io.BytesIO()
    from PIL import Image

    Image.new("RGB", (64, 48), "red").save(pictures, "PNG")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("film.mp4", films["mp4"])
    contents = {
        "text": b"not a film\n" * 500,
        "zeros": bytes(1 << 20),
        "noise": np.random.default_rng(1).bytes(1 << 20),
        "picture": pictures.getvalue(),
        "archive": archive.getvalue(),
        "page": b"<!doctype html><video src=http://127.0.0.1/a.mp4></video>",
        "program": b"\x7fELF\x02\x01\x01" + bytes(500),
        "script": b"#!/bin/sh\ntouch pwned\n",
        "pdf": b"%PDF-1.7\n" + bytes(300),
        "pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
    }
    cases = [_write(folder / f"{name}.mp4", content, "bad") for name, content in contents.items()]
    cases += [_write(folder / f"{name}.txt", content, "ignored") for name, content in contents.items()]
    return [*cases, *(Case(_sound(folder / f"sound only.{ending}"), "bad") for ending in ("mp4", "mkv"))]


def _sound(path: Path) -> Path:
    import av

    from .video.rendering import _silence

    with av.open(str(path), "w") as container:
        _silence(container, 1.0)
    return path


def _scripts(folder: Path, outside: Path, port: int) -> Iterator[Case]:
    secret, address = outside / "secret.mp4", f"http://127.0.0.1:{port}/a.ts"
    texts = {
        "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
        "mpd": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{}</BaseURL></Period></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVP 96\n",
        "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
        "ram": "{}\n",
        "avs": 'DirectShowSource("{}")\n',
    }
    for kind, text in texts.items():
        for what, place in (
            ("file", f"file://{secret}"),
            ("path", str(secret)),
            ("web", address),
            ("up", f"../../{outside.name}/secret.mp4"),
        ):
            for ending in ("mp4", "ts", "avi"):
                yield _write(folder / f"{kind} {what}.{ending}", text.format(place).encode(), "bad")
        yield _write(folder / f"list.{kind}", text.format(address).encode(), "ignored")


def _bombs(folder: Path, film: bytes) -> list[Case]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(64 << 20))
    cases = [
        _write(folder / "zip.mp4", archive.getvalue(), "bad"),
        _write(folder / "gzip.mp4", gzip.compress(bytes(64 << 20)), "bad"),
        _write(folder / "later.mp4", film, "good"),
    ]
    for name, start, fate in (("sparse", b"", "bad"), ("sparse film", film, "good")):
        path = _write(folder / f"{name}.mp4", start, fate).path
        os.truncate(path, 1 << 40)  # a terabyte that takes no room
        cases.append(Case(path, fate))
    return [*cases, Case(_gap(folder / "a month of nothing.mkv"), "bad")]


def _gap(path: Path) -> Path:
    """Write two pictures a month apart."""
    return render(path, stamps=[0, 40, 30 * 24 * 3600 * 1000], options=FAST)


def _special(folder: Path, outside: Path, film: bytes, unreadable: bool) -> list[Case]:
    folder.mkdir(parents=True)
    makers: dict[str, Callable[[Path], object]] = {
        "loop.mp4": lambda path: path.symlink_to(path),
        "nowhere.mp4": lambda path: path.symlink_to(folder / "absent.mp4"),
        "zero.mp4": lambda path: path.symlink_to("/dev/zero"),
        "random.mp4": lambda path: path.symlink_to("/dev/urandom"),
        "terminal.mp4": lambda path: path.symlink_to("/dev/tty"),
        "kernel.mp4": lambda path: path.symlink_to("/proc/self/mem"),
        "pipe.mp4": os.mkfifo,
        "socket.mp4": _bind,
    }
    for name, make in makers.items():
        make(folder / name)
    cases = [Case(folder / name, "bad") for name in makers]
    locked = _write(folder / "locked.mp4", film, "bad" if unreadable else "good")
    locked.path.chmod(0)
    (folder / "around").symlink_to(folder, target_is_directory=True)
    (folder / "away").symlink_to(outside, target_is_directory=True)
    inside = _write(folder / "folder.mp4" / "inside.mp4", film, "good")
    hidden = _write(folder / "closed" / "hidden.mp4", film, "ignored" if unreadable else "good")
    hidden.path.parent.chmod(0)
    link = folder / "link to a film.mp4"
    link.symlink_to(inside.path)
    twin = folder / "twin.mp4"
    os.link(inside.path, twin)
    return [*cases, locked, inside, hidden, Case(link, "good"), Case(twin, "good")]


def _bind(path: Path) -> None:
    where = os.open(path.parent, os.O_RDONLY)
    try:  # by the folder's number: the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{where}/{path.name}")
    finally:
        os.close(where)
