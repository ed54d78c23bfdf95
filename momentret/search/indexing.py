"""Folders of videos -> an index that follows them: `plan_update` looks at what has changed, `Update.run` does it.

with open_index(Path("films.index"), encoder, config) as index:
    update = plan_update(index, [Path("films")])
    for outcome in update.run(encoder):
        ...
    print(update.summary)

Extraction is `momentret.extract`; a video is in the index, durably, the moment it is finished. Whatever ends a run
early, the next one goes on from what the index holds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from momentret.encoders import Encoder
from momentret.errors import DataError, FeatureError
from momentret.extract import (
    ExtractConfig,
    Outcome,
    extract,
    find_videos,
    is_hidden,
    noted_in,
    path_hash,
    require_paths,
    shown_path,
)
from momentret.extract import Video as ToExtract
from momentret.extract.pipeline import Watch
from momentret.files import absolute
from momentret.progress import Progress, silent
from momentret.search.index import Changes, CorpusIndex, SeenFile, Video, can_begin, changes, is_index
from momentret.search.quarantine import Quarantine, Quarantined
from momentret.search.recipe import Recipe
from momentret.video import Limits

__all__ = ["Summary", "Update", "content_hash", "open_index", "plan_update", "remove_videos", "taken_back_if_empty"]

_CHUNK = 1 << 20
_WHOLE = 256 << 20  # bytes; of larger files only pieces are read, so that a sparse terabyte costs no more
_PIECES = 64


def open_index(folder: Path, encoder: Encoder, config: ExtractConfig) -> CorpusIndex:
    """Open an index for writing, or make it.

    Raises:
        MismatchError: the index was made with another encoder or other settings.
        DataError: the folder holds something else.
        IndexLockedError: another process is writing.
    """
    if not holds_index(folder):
        return CorpusIndex.create(folder, Recipe(encoder.fingerprint, config).settings())
    index = CorpusIndex.open(folder, "rw")
    try:
        recipe = Recipe.of(index)
        recipe.require_encoder(encoder.fingerprint)
        recipe.require_config(**config.to_dict())
    except BaseException:
        index.close()
        raise
    return index


@contextmanager
def taken_back_if_empty(index: CorpusIndex) -> Iterator[None]:
    """Delete an index if it has no video when the block ends, in whatever way; for one whose folder is new."""
    try:
        yield
    finally:
        if not len(index):
            index.delete()


def holds_index(folder: Path) -> bool:
    """Tell whether a folder is an index, or free for one.

    Raises:
        DataError: it holds something else.
    """
    if is_index(folder):
        return True
    if not can_begin(folder):
        raise DataError(f"{str(folder)!r} is there but is no index; name a new folder, or one that is empty")
    return False


@dataclass(frozen=True)
class Summary:
    """What an update did."""

    added: tuple[str, ...]
    """Ids of new videos."""
    changed: tuple[str, ...]
    """Ids of videos whose files have other content now."""
    moved: tuple[str, ...]
    """Ids of videos whose files have another path now."""
    unchanged: int
    missing: tuple[str, ...]
    """Ids of videos whose files are gone, or changed and broken, but which the index still holds as they were."""
    removed: tuple[str, ...]
    """Ids of videos that were taken out because their files are gone."""
    quarantined: tuple[Quarantined, ...]
    """Files that are left out, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class Update:
    """What is to be done to an index; made by `plan_update`.

    Args:
        index: open for writing.
        found: what differs.
        todo: the files to extract, with their ids and content hashes.
        remove: take out videos whose files are gone.
    """

    def __init__(self, index: CorpusIndex, found: Changes, todo: dict[ToExtract, _Known], remove: bool) -> None:
        self.index, self.found, self.remove = index, found, remove
        self.videos = tuple(todo)
        """The files to extract."""
        self._keeper = _IndexKeeper(index, todo)
        self._removed: list[str] = []

    def run(
        self, encoder: Encoder, *, workers: int = 1, limits: Limits | None = None, watch: Watch | None = None
    ) -> Iterator[Outcome]:
        """Bring the index up to date, and yield the outcome of each video as it is durably in; see `extract`.

        Raises:
            MismatchError: `encoder` is not the index's.
        """
        recipe = Recipe.of(self.index)
        recipe.require_encoder(encoder.fingerprint)
        for file, video in self.found.moved:
            self.index.move(video.video_id, file.path, file.size, file.modified)
        if self.remove and self.found.missing:
            self._take_out([video.video_id for video in self.found.missing])
        yield from extract(
            self.videos, encoder, recipe.config, self._keeper, workers=workers, limits=limits, watch=watch
        )
        if self.remove and self._broken:
            self._take_out(self._broken)

    @property
    def _broken(self) -> list[str]:
        """Return the ids of videos whose files changed and cannot be decoded any more."""
        return [video.video_id for _, video in self.found.changed if video.video_id not in self._keeper.done]

    def _take_out(self, names: list[str]) -> None:
        self.index.remove(names)
        self._removed += names

    @property
    def summary(self) -> Summary:
        """Say what was done."""
        changed = {video.video_id for _, video in self.found.changed}
        done = self._keeper.done
        return Summary(
            added=tuple(sorted(done - changed)),
            changed=tuple(sorted(done & changed)),
            moved=tuple(sorted(video.video_id for _, video in self.found.moved)),
            unchanged=len(self.found.unchanged),
            missing=() if self.remove else tuple(sorted([*(v.video_id for v in self.found.missing), *self._broken])),
            removed=tuple(sorted(self._removed)),
            quarantined=tuple(self._keeper.quarantine.all()),
        )


@dataclass(frozen=True)
class _Known:
    """What was learnt of a file before it is extracted."""

    file: SeenFile
    content_hash: str


def plan_update(
    index: CorpusIndex,
    paths: Sequence[Path],
    *,
    remove_missing: bool = False,
    retry: bool = False,
    progress: Progress = silent,
) -> Update:
    """Compare files and folders with an index: new, changed, moved, unchanged, missing, in quarantine.

    Files are told by path, size and time of change, and where these differ by their content, so that a file that was
    moved is recognised. Videos of the index outside `paths` are left alone, and so are those below a folder that cannot
    be listed now, which the log names: they may well be there.

    Args:
        index: open for writing.
        paths: video files, and folders with videos anywhere below.
        remove_missing: take out videos below `paths` whose files are gone.
        retry: try files in quarantine again although they have not changed.
        progress: reports on the files.

    Raises:
        DataError: a path does not exist, or there are no videos.
    """
    require_paths(paths)
    roots = [absolute(path) for path in paths]
    quarantine = Quarantine(index.folder)
    hidden: set[str] = set()
    listed = {str(video.path): video for video in find_videos([Path(root) for root in roots], noted_in(hidden))}
    seen = {path: SeenFile.of(path) for path in listed}  # what cannot be looked at is found out when decoded
    kept_out = set() if retry else {path for path, file in seen.items() if _is_known_bad(file, quarantine)}
    hashes: dict[str, str] = {}

    def hash_once(path: str) -> str:
        if path not in hashes:
            hashes[path] = content_hash(path)
        return hashes[path]

    files = list(index.files())
    known = [
        index.video(name)
        for name, path, _ in files
        if path in listed or (_is_below(path, roots) and not is_hidden(path, hidden))
    ]
    looked_at = [file for path, file in seen.items() if path not in kept_out]
    found = changes(looked_at, known, hash_once, progress)
    missing = [video for video in found.missing if video.path not in kept_out or _has_changed(video, seen[video.path])]
    found = _moved_in(index, replace(found, missing=missing), files, roots, hashes)
    for video in found.unchanged:
        _note_touched(index, video, seen[video.path])
    _forget_gone(quarantine, roots, hidden, seen)
    return Update(index, found, _to_extract(index, found, listed, hashes), remove_missing)


def content_hash(path: str) -> str:
    """Return a hash of a regular file's content; of anything else, or what cannot be read, one that fits no other.

    Of a large file it is that of its size and of pieces from its beginning to its end.
    """
    digest = blake2b(digest_size=16)
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError
        with open(path, "rb") as file:
            for place in _places(status.st_size):
                file.seek(place)
                digest.update(file.read(_CHUNK))
        if status.st_size > _WHOLE:
            digest.update(status.st_size.to_bytes(8, "little"))
    except (OSError, ValueError):
        return f"unreadable {path}"
    return digest.hexdigest()


def _places(size: int) -> Iterable[int]:
    """Return where the pieces begin that are hashed."""
    if size <= _WHOLE:
        return range(0, size, _CHUNK)
    return (i * (size - _CHUNK) // (_PIECES - 1) for i in range(_PIECES))


def _is_known_bad(file: SeenFile, quarantine: Quarantine) -> bool:
    known = quarantine.get(shown_path(Path(file.path)))
    return known is not None and (known.size, known.modified) == (file.size, file.modified)


def _is_below(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _is_gone(path: str) -> bool:
    """Tell whether there is no such file; one that cannot be looked at may be there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _forget_gone(quarantine: Quarantine, roots: Sequence[str], hidden: set[str], seen: dict[str, SeenFile]) -> None:
    """Drop the files from quarantine that lay where we looked and are there no more."""
    shown_roots = [shown_path(Path(root)) for root in roots]
    shown_hidden = {shown_path(Path(path)) for path in hidden}
    shown = {shown_path(Path(path)) for path in seen}
    gone = {row.path for row in quarantine.all() if _is_below(row.path, shown_roots) and row.path not in shown}
    quarantine.drop({path for path in gone if not is_hidden(path, shown_hidden)})


def _moved_in(
    index: CorpusIndex,
    found: Changes,
    files: Sequence[tuple[str, str, str]],
    roots: Sequence[str],
    hashes: dict[str, str],
) -> Changes:
    """Recognise new files that lay elsewhere than below `roots` and are not there any more."""
    wanted = {hashes[file.path] for file in found.new}
    elsewhere: dict[str, list[str]] = {}
    for name, path, digest in files:
        if digest in wanted and not _is_below(path, roots) and _is_gone(path):
            elsewhere.setdefault(digest, []).append(name)
    new, moved = [], list(found.moved)
    for file in found.new:
        gone = elsewhere.get(hashes[file.path])
        if gone:
            moved.append((file, index.video(gone.pop(0))))
        else:
            new.append(file)
    return replace(found, new=new, moved=moved)


def _has_changed(video: Video, file: SeenFile) -> bool:
    return (video.size, video.modified) != (file.size, file.modified)


def _note_touched(index: CorpusIndex, video: Video, file: SeenFile) -> None:
    """Take down the new time of a file whose content is the same, so that it is not read again the next time."""
    if _has_changed(video, file):
        index.move(video.video_id, file.path, file.size, file.modified)


def _to_extract(
    index: CorpusIndex, found: Changes, listed: dict[str, ToExtract], hashes: dict[str, str]
) -> dict[ToExtract, _Known]:
    """Return the files to extract: a changed one keeps its id, a new one gets one that is free."""
    todo: dict[ToExtract, _Known] = {}
    for file, video in found.changed:
        todo[ToExtract(video.video_id, Path(file.path))] = _Known(file, hashes[file.path])
    taken: set[str] = set()
    for file in found.new:
        name = listed[file.path].video_id
        while name in index or name in taken:
            name = f"{name}-{path_hash(Path(file.path))}"
        taken.add(name)
        todo[ToExtract(name, Path(file.path))] = _Known(file, hashes[file.path])
    return todo


class _IndexKeeper:
    """Puts finished videos into the index, and the others into quarantine; a `momentret.extract.Keeper`."""

    def __init__(self, index: CorpusIndex, known: dict[ToExtract, _Known]) -> None:
        self.index, self._known = index, known
        self.quarantine = Quarantine(index.folder)
        self.done: set[str] = set()
        self._clip_length = Recipe.of(index).config.clip_length

    def outcome(self, video: ToExtract) -> Outcome | None:
        """Everything that was planned is to do."""
        return None

    def finish(self, video: ToExtract, outcome: Outcome, rows: np.ndarray | None = None) -> Outcome:
        """Keep a video; one that the index cannot take goes into quarantine as well."""
        known = self._known[video]
        if rows is not None:
            try:
                self.index.add(self._record(video, outcome, known), rows, replace=True)
            except FeatureError as error:
                outcome = replace(outcome, error=str(error), clips=0)
        if outcome.error is None:
            self.done.add(video.video_id)
            self.quarantine.drop({outcome.path})
        else:
            self.quarantine.put(Quarantined(outcome.path, known.file.size, known.file.modified, outcome.error))
        return outcome

    def _record(self, video: ToExtract, outcome: Outcome, known: _Known) -> Video:
        file = known.file
        return Video(
            video.video_id,
            file.path,
            known.content_hash,
            duration=outcome.duration,
            clip_length=self._clip_length,
            size=file.size,
            modified=file.modified,
        )


def remove_videos(index: CorpusIndex, names: Sequence[str]) -> list[str]:
    """Remove videos by id, or by the path of their file or a folder; returns their ids.

    Files in quarantine at these paths are forgotten.

    Raises:
        DataError: a name fits nothing; nothing is removed then.
    """
    videos, quarantine = list(index.videos()), Quarantine(index.folder)
    chosen: list[str] = []
    bad: set[str] = set()
    for name in names:
        root = absolute(name)
        fits = [name] if name in index else [video.video_id for video in videos if _is_below(video.path, [root])]
        forgotten = {row.path for row in quarantine.all() if _is_below(row.path, [shown_path(Path(root))])}
        if not (fits or forgotten):
            raise DataError(f"index {str(index.folder)!r} has no video {name!r}, neither as id nor as path")
        chosen += fits
        bad |= forgotten
    if chosen:
        index.remove(list(dict.fromkeys(chosen)))
    quarantine.drop(bad)
    return sorted(set(chosen))
