"""Which files are videos, and what they are called in a store."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from momentret.errors import ConfigError, DataError
from momentret.files import absolute, clean_name

__all__ = [
    "Hidden",
    "Video",
    "file_facts",
    "find_videos",
    "is_hidden",
    "noted_in",
    "path_hash",
    "require_paths",
    "shown_path",
    "take_shard",
    "tell_hidden",
]

Hidden = Callable[[Path, OSError], None]
"""Told of a folder that cannot be listed, or of a file that may be a video and cannot be read, and why."""
logger = logging.getLogger(__name__)

ENDINGS = re.compile(
    r"\.(3g2|3gp|asf|avi|divx|dv|f4v|flv|gif|h264|h265|hevc|ivf|m2ts|m2v|m4v|mkv|mov|mp4|mpe?g|mts|mxf|nut|ogm|ogv|rm|rmvb|"
    r"ts|vob|webm|wmv|y4m)",
    re.IGNORECASE,
)
# how the files begin that are worth a look whatever they are called: (offset, bytes)
BEGINNINGS = (
    (4, b"ftyp"),
    (0, b"\x1aE\xdf\xa3"),
    (8, b"AVI "),
    (0, b"FLV\x01"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
)


@dataclass(frozen=True)
class Video:
    """A file and its name in the store."""

    video_id: str
    path: Path


def require_paths(paths: Iterable[Path]) -> None:
    """Refuse a path that is not there: a mistyped one is not taken for a video that cannot be decoded.

    Raises:
        DataError: with the first of them.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise DataError(f"{str(path)!r} does not exist; check the path")


def tell_hidden(path: Path, error: OSError) -> None:
    """Warn that a folder is left out; of a file that does not end like a video, only for those who want every word."""
    level = logging.INFO if os.path.isfile(path) else logging.WARNING  # noqa: PTH113  never fails
    why = error.strerror or error
    logger.log(level, "%r cannot be read (%s): what is there is not looked at", shown_path(path), why)


def noted_in(places: set[str]) -> Hidden:
    """Return a `Hidden` that warns as `tell_hidden` does, and adds the path to `places`."""

    def note(path: Path, error: OSError) -> None:
        tell_hidden(path, error)
        places.add(str(path))

    return note


def is_hidden(path: str, places: Set[str]) -> bool:
    """Tell whether a path is one of those that could not be looked at, or lies below one."""
    return bool(places) and not places.isdisjoint([path, *map(str, Path(path).parents)])


def find_videos(paths: Sequence[Path], hidden: Hidden = tell_hidden) -> list[Video]:
    """Return the videos that files and folders stand for, sorted by id, each file once.

    A folder gives every file below it that ends like a video or begins like one; links to folders are not followed.
    A file that is named itself is always taken. Whether it can be decoded shows later.

    The id is the file's name without its ending. Names that two files share, or that cannot be an id as they are, get
    a hash of the path as it was given.

    A folder that cannot be listed is left out, and `hidden` is told: what it holds may well be there.

    Args:
        paths: files and folders.
        hidden: told of what could not be looked at; default: a warning in the log.

    Raises:
        DataError: there is no video at all.
    """
    files: dict[str, Path] = {}  # by absolute path, links not resolved
    for path in paths:
        for file in _files_of(path, hidden):
            files.setdefault(absolute(file), file)
    if not files:
        raise DataError(f"no videos in {', '.join(repr(str(path)) for path in paths) or 'nothing'}; check the path")
    names = {file: clean_name(file.stem) for file in files.values()}
    shared = {name for name, count in Counter(name.casefold() for name in names.values()).items() if count > 1}
    videos = [
        Video(name if name == file.stem and name.casefold() not in shared else f"{name}-{path_hash(file)}", file)
        for file, name in names.items()
    ]
    return sorted(videos, key=lambda video: video.video_id)


def _files_of(path: Path, hidden: Hidden) -> Iterable[Path]:
    """Return the videos below a folder; anything else is a file, whether it can be looked at or not."""
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return _walk(path, hidden)
    except OSError as error:
        _tell_unless_gone(path, error, hidden)
    except ValueError:  # a name that no file can have
        pass
    return [path]


def _walk(folder: Path, hidden: Hidden) -> Iterator[Path]:
    def unlisted(error: OSError) -> None:
        _tell_unless_gone(Path(error.filename), error, hidden)

    for parent, folders, names in os.walk(folder, onerror=unlisted):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if ENDINGS.fullmatch(path.suffix) or _begins_like_video(path, hidden):
                yield path


def _tell_unless_gone(path: Path, error: OSError, hidden: Hidden) -> None:
    if not isinstance(error, FileNotFoundError):  # deleted since its folder was listed, or a link to nothing
        hidden(path, error)


def _begins_like_video(path: Path, hidden: Hidden) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        _tell_unless_gone(path, error, hidden)
        return False
    return any(start[offset:].startswith(magic) for offset, magic in BEGINNINGS)


def shown_path(path: Path) -> str:
    """Return a path for people and JSON: bytes that are no text become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_facts(path: Path) -> list[int] | None:
    """Return size and time of change, None if there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def path_hash(path: Path) -> str:
    """Return the few letters that tell apart videos of one name."""
    return blake2b(os.fsencode(path), digest_size=4).hexdigest()


def take_shard(videos: Sequence[Video], shard: str) -> list[Video]:
    """Return part i of n of the videos, for ``shard`` = ``"i/n"`` counted from 1; the parts make up the whole.

    Raises:
        ConfigError: `shard` is not of that form.

    Example:
        >>> [video.video_id for video in take_shard([Video(name, Path(name)) for name in "abcde"], "2/2")]
        ['b', 'd']
    """
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"shard {shard!r} is not i/n with i from 1 to n, such as 2/8")
    return list(videos[int(number) - 1 :: int(count)])
