"""What is finished, one video at a time, safe against being killed at any moment; and the store at the end.

    <store>.partial/   plan.json            the settings and the encoder: a run that differs is refused
                       items/<hash>.npy     the rows of a finished video; the hash is of its id
                       items/<hash>.json    its outcome, written last: without it nothing happened

Any number of processes may work in one folder: every file is written whole under another name and then renamed. Runs
that want the same store pack it one after the other (`lock` in the folder), and each looks again at what is there.

    <store>               the features
    <store>.plan.json     the settings and the encoder, and
    <store>.videos.jsonl  the outcomes: with these a later run adds what is new, and takes the rest from the store
"""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from momentret.encoders import Fingerprint
from momentret.errors import DataError, FeatureError, MismatchError, OutputExistsError
from momentret.extract.config import ExtractConfig
from momentret.extract.videos import Video, file_facts, is_hidden, path_hash, shown_path
from momentret.features import PackedSource, SourceManifest, staged_folder, write_family
from momentret.files import absolute, atomic_write, json_rows, write_json, write_jsonl
from momentret.video import DecodeReport
from momentret.words import count_of

__all__ = ["Keeper", "Ledger", "Outcome", "keep_ids", "pack", "partial_folder", "was_extracted"]


@dataclass(frozen=True)
class Outcome:
    """What became of a video."""

    video_id: str
    path: str
    """For people: bytes that are no text are shown as escapes."""
    error: str | None = None
    """Why it is in quarantine; None if its features are there."""
    clips: int = 0
    duration: float = 0.0
    """Seconds from the start of the container to the end of the last frame."""
    decoder: str = ""
    doubts: tuple[str, ...] = ()
    """Why the decoder that was forced may have given wrong frames."""
    bad_packets: int = 0
    """Damaged pieces that were stepped over."""

    @classmethod
    def of(cls, video: Video, report: DecodeReport, *, clips: int = 0, error: str | None = None) -> Outcome:
        """Return the outcome of a video that was decoded as `report` says."""
        error = error and error.encode("utf-8", "backslashreplace").decode()
        doubts = tuple(report.doubts)
        path = shown_path(video.path)
        return cls(video.video_id, path, error, clips, report.duration, report.decoder, doubts, report.bad_packets)


class Keeper(Protocol):
    """Where finished videos go: `Ledger`, or an index."""

    def outcome(self, video: Video) -> Outcome | None:
        """Return what became of a video, None if it is still to do."""
        ...

    def finish(self, video: Video, outcome: Outcome, rows: np.ndarray | None = None) -> Outcome:
        """Keep the outcome of a video, and its rows ``(L, D)`` if it has any; returns the outcome that was kept."""
        ...


class Ledger:
    """The folder of finished work; open one with `Ledger.open`."""

    def __init__(
        self, folder: Path, plan: dict[str, Any], manifest: SourceManifest, store: Path | None, earlier: Earlier | None
    ) -> None:
        self.folder, self.plan, self.manifest, self.store, self.earlier = folder, plan, manifest, store, earlier
        self._looked_at: dict[
            str, list[int] | None
        ] = {}  # before a file is read: what changes meanwhile is to do again

    @classmethod
    def open(cls, folder: Path, config: ExtractConfig, fingerprint: Fingerprint, store: Path | None = None) -> Ledger:
        """Begin in a new folder, or go on in one that was begun with the same settings and encoder.

        Args:
            folder: of the unfinished work.
            config: what is taken from each video.
            fingerprint: of the encoder.
            store: that the work is for; what an earlier run packed there is finished. None: one that is there is left
                alone.

        Raises:
            DataError: the folder cannot be made.
            MismatchError: the folder or the store was made with others.
            OutputExistsError: the store was not made by an extraction.
        """
        plan = {"format": 1, "config": config.to_dict(), "encoder": fingerprint.to_dict()}
        manifest = config.manifest(fingerprint)
        earlier = Earlier.open(store, plan, manifest) if store is not None and store.exists() else None
        ledger = cls(folder, plan, manifest, store, earlier)
        if (folder / "plan.json").exists():
            _require_same(plan, _read_json(folder / "plan.json"), folder, "delete the folder to start again")
        elif earlier is None:  # otherwise there may be nothing to do
            with _writing(folder):
                ledger._begin()
        return ledger

    def _begin(self) -> None:
        if not (self.folder / "plan.json").exists():
            write_json(self.folder / "plan.json", self.plan)
        (self.folder / "items").mkdir(exist_ok=True)

    def look_again(self, videos: Sequence[Video]) -> None:
        """Take up the store if another run has packed it since; what it holds is finished.

        Raises:
            MismatchError: it was made with other settings, or has videos that are not among these.
        """
        store = self.store
        if store is None or not was_extracted(store) or (self.earlier and self.earlier.facts == _list_facts(store)):
            return
        self.earlier = Earlier.open(store, self.plan, self.manifest)
        self.earlier.dropped(videos)

    def record(self, video: Video) -> dict[str, Any] | None:
        """Return the outcome of a video and the facts of its file as plain JSON values; see `outcome`."""
        path = self._path(video.video_id, ".json")
        record = _read_json(path) if path.exists() else self.earlier and self.earlier.records.get(video.video_id)
        facts = self._looked_at[video.video_id] = file_facts(video.path)
        return record if record and record.get("file") == facts else None

    def outcome(self, video: Video) -> Outcome | None:
        """Return what became of a video, None if it is still to do or its file has changed since."""
        record = self.record(video)
        return None if record is None else _outcome_of(record)

    def outcomes(self, videos: Iterable[Video]) -> list[Outcome]:
        """Return what became of those videos that are not still to do, in their order."""
        return [outcome for video in videos if (outcome := self.outcome(video)) is not None]

    @property
    def is_idle(self) -> bool:
        """Tell whether there is nothing but the store of an earlier run."""
        return self.earlier is not None and not self.folder.exists()

    def finish(self, video: Video, outcome: Outcome, rows: np.ndarray | None = None) -> Outcome:
        """Keep the outcome of a video that was still to do, and its rows; see `Keeper`.

        Raises:
            DataError: it cannot be written: the disk is full.
        """
        with _writing(self.folder):
            try:
                self._write(video, outcome, rows)
            except FileNotFoundError:  # another run has packed the store, and removes the folder
                self._write(video, outcome, rows)
        return outcome

    def _write(self, video: Video, outcome: Outcome, rows: np.ndarray | None) -> None:
        self._begin()
        if rows is not None:
            content = io.BytesIO()  # np.save to a file does not say why it fails
            np.save(content, rows, allow_pickle=False)
            with atomic_write(self._path(video.video_id, ".npy"), "wb") as file:
                file.write(content.getbuffer())
        write_json(self._path(video.video_id, ".json"), {**asdict(outcome), "file": self._looked_at[video.video_id]})

    def rows(self, video_id: str) -> np.ndarray:
        """Return the rows of a finished video.

        Raises:
            FeatureError: they are not there or damaged.
        """
        path = self._path(video_id, ".npy")
        if self.earlier is not None and not path.exists():
            self.earlier.source.check(video_id)
            return self.earlier.source.read(video_id)
        try:
            rows = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FeatureError(f"{path} cannot be read ({error}); delete {self.folder} and extract again") from error
        assert isinstance(rows, np.ndarray)
        return rows

    def _path(self, video_id: str, ending: str) -> Path:
        name = blake2b(video_id.encode(), digest_size=16).hexdigest()
        return self.folder / "items" / f"{name}{ending}"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Let an error of writing name the path, and the next step: what is finished is safe, and the next run goes on."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        step = "make room on the disk" if is_full else "see that it can be written"
        raise DataError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); {step} and run the same command again"
        ) from error


def _outcome_of(record: dict[str, Any]) -> Outcome:
    values = {name: value for name, value in record.items() if name != "file"}
    return Outcome(**{**values, "doubts": tuple(record["doubts"])})


@dataclass(frozen=True)
class Earlier:
    """What a packed store holds, and what became of the videos that it was made of."""

    store: Path
    records: dict[str, dict[str, Any]]
    source: PackedSource
    facts: list[int] | None
    """Of the file of the outcomes: another run that packs writes it anew."""

    @classmethod
    def open(cls, store: Path, plan: dict[str, Any], manifest: SourceManifest) -> Earlier:
        """Open a store; see `Ledger.open`."""
        if not was_extracted(store):
            raise OutputExistsError(store)
        path, facts = _beside(store, "plan.json"), _list_facts(store)
        _require_same(plan, _read_json(path), store, "choose another output, or pass --overwrite to start again")
        source = PackedSource.load(store / "video" / manifest.family)
        if source.manifest != manifest:  # packed there by other means since
            raise OutputExistsError(store)
        records = {name: row for name, row in _records(store).items() if row["error"] or name in source}
        return cls(store, records, source, facts)

    def dropped(self, videos: Sequence[Video], hidden: Set[str] = frozenset(), drop: bool = False) -> list[str]:
        """Return the ids of those videos of the store that are not among these, and so would be left out of it.

        Args:
            videos: all that the store is to hold.
            hidden: what could not be looked at: nothing is left out because of that.
            drop: whether videos may be left out.

        Raises:
            MismatchError: there are some, and `drop` is false or their files may be there, where we could not look.
        """
        names = sorted(set(self.source.ids()) - {video.video_id for video in videos})
        places = {absolute(shown_path(Path(path))) for path in hidden}
        for name in names:
            path = absolute(self._path(name))
            if is_hidden(path, places):
                raise MismatchError(
                    f"{str(self.store)!r} holds {name!r} of {path!r}, and that cannot be looked at; "
                    "make its folder readable, or choose another output"
                )
        if names and not drop:
            raise MismatchError(
                f"{str(self.store)!r} holds {count_of(len(names), 'video')} that the paths do not give (first: "
                f"{names[0]!r} of {self._path(names[0])!r}); give all paths or choose another output, or if the files "
                "were deleted or renamed pass --drop-missing (--overwrite would do everything anew)"
            )
        return names

    def _path(self, name: str) -> str:
        return str(self.records[name]["path"]) if name in self.records else name


def keep_ids(videos: Sequence[Video], store: Path) -> list[Video]:
    """Return the videos with the ids that their paths have in a store that `was_extracted`, sorted by id.

    So a new file of the same name, whose coming gives both names that tell them apart, changes no id of the store.

    Raises:
        DataError: the store's list is damaged.
    """
    known = {absolute(row["path"]): name for name, row in _records(store).items()}
    kept = {video: known.get(absolute(shown_path(video.path))) for video in videos}
    taken = {name.casefold() for name in kept.values() if name is not None}

    def free(video: Video) -> str:
        is_taken = video.video_id.casefold() in taken
        return f"{video.video_id}-{path_hash(video.path)}" if is_taken else video.video_id

    found = (Video(name or free(video), video.path) for video, name in kept.items())
    return sorted(found, key=lambda video: video.video_id)


def _list_facts(store: Path) -> list[int] | None:
    return file_facts(_beside(store, "videos.jsonl"))


def _records(store: Path) -> dict[str, dict[str, Any]]:
    """Return the outcomes of a store, and the facts of their files, by id."""
    videos = _beside(store, "videos.jsonl")
    try:
        return {_outcome_of(row).video_id: row for _, row in json_rows(videos)}
    except (TypeError, KeyError) as error:
        raise DataError(f"{videos} is damaged ({error!r}); pass --overwrite to start again") from error


def was_extracted(store: Path) -> bool:
    """Tell whether a store was made here and can be added to."""
    return all(path.exists() for path in (store, _beside(store, "plan.json"), _beside(store, "videos.jsonl")))


def _beside(store: Path, ending: str) -> Path:
    return store.with_name(f"{store.name}.{ending}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete it and extract again") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is damaged; delete it and extract again")
    return values


def _require_same(plan: dict[str, Any], begun: dict[str, Any], folder: Path, way_out: str) -> None:
    for part, values in plan.items():
        found = begun.get(part)
        if found == values:
            continue
        if not isinstance(values, dict) or not isinstance(found, dict):
            raise MismatchError(f"{folder} was begun by another version; {way_out}")
        name = next(key for key in values if values[key] != found.get(key))
        raise MismatchError(
            f"{folder} was begun with {part} {name} {found.get(name)!r}, now it is {values[name]!r}; "
            f"go on with the same options, or {way_out}"
        )


def partial_folder(output: Path) -> Path:
    """Return where the unfinished work for a store lies."""
    return output.with_name(output.name + ".partial")


def pack(videos: Sequence[Video], ledger: Ledger, output: Path, *, overwrite: bool = False) -> list[Outcome]:
    """Make the store of all finished videos, and ``<store>.videos.jsonl`` with every outcome beside it.

    The same videos give the same bytes, whoever extracted them in whatever order. The store that the ledger was opened
    with is replaced; where another run has packed it meanwhile, what that made counts as finished.

    Returns:
        the outcomes, in the order of the ids.

    Raises:
        DataError: a video is still to do, there is none with features, or the disk is full.
        MismatchError: another run has packed other videos or with other settings meanwhile.
        OutputExistsError: `output` is there and `overwrite` is false.
    """
    with _alone(ledger.folder):
        ledger.look_again(videos)
        return _pack(videos, ledger, output, overwrite)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait while another run packs; where files cannot be locked nobody waits."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # OSError: the other has finished, and removed the folder
            import fcntl

            fcntl.flock(stack.enter_context(open(folder / "lock", "wb")), fcntl.LOCK_EX)
        yield


def _pack(videos: Sequence[Video], ledger: Ledger, output: Path, overwrite: bool) -> list[Outcome]:
    records = [record for video in videos if (record := ledger.record(video)) is not None]
    if len(records) < len(videos):
        raise DataError(
            f"{len(videos) - len(records)} of {count_of(len(videos), 'video')} still to do: not begun, changed or "
            "packed by another run meanwhile; extract again to go on"
        )
    outcomes = [_outcome_of(record) for record in records]
    good = [outcome.video_id for outcome in outcomes if outcome.error is None]
    if not good:
        raise DataError(f"no video of {len(videos):,} could be used; the first: {outcomes[0].error}")

    def items() -> Iterator[tuple[str, np.ndarray]]:
        return ((video_id, ledger.rows(video_id)) for video_id in good)

    with _writing(output), staged_folder(output, overwrite or ledger.earlier is not None) as stage:
        write_family(stage / "video" / ledger.manifest.family, ledger.manifest, items())
        # before the store is there: one without them is not taken for an extraction's
        write_json(_beside(output, "plan.json"), ledger.plan)
        write_jsonl(_beside(output, "videos.jsonl"), records)
    shutil.rmtree(ledger.folder, ignore_errors=True)  # last: until then a run with other settings is refused
    return outcomes
