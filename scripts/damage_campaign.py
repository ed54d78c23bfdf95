#!/usr/bin/env python3
"""Damage an index in many ways, and count what its users are told.

`--damages 10000 --repairs 2000 --full-disks 200 --read-only 50`. Damages: one byte of one file is changed, or a file is
cut, at random. Opening, searching, reading and verifying must then answer as before or say which file is damaged; a cut
log may end at an earlier state, as after a crash. Repairs: of an index with one byte changed in one file; half of them
are killed inside a random system call and done again. What they do not name as lost must be found as before, and
everything once that is added again. Full disks and read-only media are real ones: a small file system in memory, which
root may mount (Linux). Prints one line of JSON; exit 1 if anything was answered wrongly, lost, or crashed.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from crash_campaign import (
    DIM,
    SETTINGS,
    State,
    carry_out,
    clips_of,
    contents,
    die_in_call,
    next_operation,
    outcomes,
    video_of,
)

from momentret.errors import MomentretError
from momentret.search.index import CorpusIndex, Hit, SearchOptions, SearchResult, repair_index

QUERIES = np.random.default_rng(5).normal(size=(2, 3, DIM))
ROUNDING = 1e-6  # of a score; it depends on how many clips a product is of


@dataclass(frozen=True, eq=False)
class Answer:
    """Everything that a user of the index sees; scores are compared but for rounding."""

    videos: list[str]
    counts: list[SearchResult]
    """Without hits."""
    hits: list[list[Hit]]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Answer)
            and (self.videos, self.counts) == (other.videos, other.counts)
            and alike(self.hits, other.hits)
        )


def state_of(index: CorpusIndex) -> State:
    return {video.video_id: (video.content_hash, video.path) for video in index.videos()}


def answers_of(index: CorpusIndex) -> Answer:
    videos = sorted(f"{video} {index.clips(video.video_id).tobytes().hex()}" for video in index.videos())
    results = [index.search(query) for query in QUERIES]
    return Answer(videos, [replace(result, hits=()) for result in results], [list(result.hits) for result in results])


def make_sample(folder: Path, seed: int) -> list[Answer]:
    """Make an index with segments, removed videos and a log; returns its answers, and those before each log record."""
    rng, answers = random.Random(seed), []
    with CorpusIndex.create(folder, SETTINGS) as index:
        for _ in range(40):
            carry_out(index, next_operation(rng, list(state_of(index))))
        index.flush()
        answers.append(answers_of(index))
        while len(answers) < 6:
            operation = next_operation(rng, list(state_of(index)))
            if operation["kind"] not in ("flush", "compact") and len(outcomes(state_of(index), operation)) == 2:
                carry_out(index, operation)
                answers.append(answers_of(index))
    return answers[::-1]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one changed, or with their end cut off."""
    return data[: rng.randrange(len(data))] if rng.random() < 0.5 else flipped(data, rng)


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one changed."""
    i = rng.randrange(len(data))
    return data[:i] + bytes([data[i] ^ rng.randint(1, 255)]) + data[i + 1 :]


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size and p.name != "lock")


def what_happens(folder: Path, path: Path, answers: list[Answer]) -> str:
    """Use the index as if nothing were wrong, and name what came of it."""
    try:
        with CorpusIndex.open(folder) as index:
            found = answers_of(index)
            index.verify()
    except MomentretError as error:
        return "told" if path.name in str(error) else "told_without_the_file"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
        return f"crash {type(error).__name__}"
    if found == answers[0]:
        return "harmless"
    return "log_ends_earlier" if path.suffix == ".wal" and found in answers else "wrong_answer"


def damage(count: int, seed: int) -> dict[str, Any]:
    """Damage one file after another."""
    rng, results, slowest = random.Random(seed), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        answers = make_sample(folder, seed)
        files = files_of(folder)
        for number in range(count):
            path = files[number % len(files)]
            sound = path.read_bytes()
            path.write_bytes(damaged(sound, rng))
            begin = time.perf_counter()
            results[what_happens(folder, path, answers)] += 1
            slowest = max(slowest, time.perf_counter() - begin)
            path.write_bytes(sound)
        results["wrong_after_repair"] += what_happens(folder, path, answers) != "harmless"
    return {"damages": count, "files": len(files), **results, "slowest_s": round(slowest, 3)}


def hits_of(index: CorpusIndex) -> list[list[Hit]]:
    """Return the best moments of every video, for each query."""
    results = index.search_batch([(query, None) for query in QUERIES], SearchOptions(top=1_000, per_video=3))
    return [list(result.hits) for result in results]


def alike(found: list[list[Hit]], expected: list[list[Hit]]) -> bool:
    """Tell whether two searches found the same moments in the same order, with the same scores but for rounding."""
    places, scores = zip(*(split(lists) for lists in (found, expected)), strict=True)
    return places[0] == places[1] and np.allclose(*scores, rtol=0, atol=ROUNDING)


def split(lists: list[list[Hit]]) -> tuple[list[list[Any]], np.ndarray]:
    """Return what must be equal, and what may differ by rounding."""
    places = [[(hit.video, hit.start, hit.end) for hit in hits] for hits in lists]
    return places, np.array([(hit.to_video, hit.to_language) for hit in chain(*lists)])


def repair_killed(folder: Path, call: int) -> bool:
    """Repair in a process that dies in a system call, if it makes so many; returns whether it did."""
    child = os.fork()
    if child == 0:
        try:
            die_in_call(call)
            repair_index(folder)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def what_a_repair_does(folder: Path, state: State, hits: list[list[Hit]], answers: Answer) -> tuple[str, int]:
    """Repair an index, add again what is lost, and name what came of it; with how much was lost."""
    try:
        repair_index(folder)
        lists = [path.read_text().splitlines() for path in folder.glob("damaged/*/taken_out.jsonl")]
        lost = {row["video_id"]: row["path"] for row in map(json.loads, chain(*lists))}
        with CorpusIndex.open(folder, "rw") as index:
            index.verify()
            if any(state.get(name, ("",))[-1] != path for name, path in lost.items()):
                return "names_what_was_not_there", len(lost)
            kept = [[hit for hit in result if hit.video.video_id not in lost] for result in hits]
            if not alike(hits_of(index), kept) or state_of(index) != {n: v for n, v in state.items() if n not in lost}:
                return "wrong_answer", len(lost)
            index.add_many((video_of(name, *state[name]), clips_of(state[name][0])) for name in lost)
            return "repaired" if answers_of(index) == answers else "wrong_answer_at_last", len(lost)
    except MomentretError:
        return "refused", 0


def repair(count: int, seed: int) -> dict[str, Any]:
    """Damage and repair a copy of an index again and again."""
    rng, results = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        sound, folder = Path(temporary) / "sound", Path(temporary) / "index"
        answers = make_sample(sound, seed)[0]
        with CorpusIndex.open(sound) as index:
            state, hits = state_of(index), hits_of(index)
        files = files_of(sound)
        for number in range(count):
            shutil.copytree(sound, folder)
            path = folder / files[number % len(files)].relative_to(sound)
            path.write_bytes(flipped(path.read_bytes(), rng))
            if rng.random() < 0.5:
                results["killed"] += repair_killed(folder, rng.randint(1, 120))
            what, lost = what_a_repair_does(folder, state, hits, answers)
            results[what] += 1
            own = path.name == "clip_codes.bin" or path.suffix == ".wal"
            results["of_clips_or_log"] += own
            results["lost_videos"] += lost
            results["lost_needlessly"] += max(lost - own, 0)
            shutil.rmtree(folder)
    return {"repairs": count, "files": len(files), "videos": len(state), **results}


@contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """Mount a file system of that size in memory."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def fill_disk(seed: int) -> str:
    """Change an index until its disk is full, make room, and go on with the same writer."""
    rng = random.Random(seed)
    with small_disk(rng.randint(150, 600)) as disk:
        folder, state, full = disk / "index", State(), 0
        with CorpusIndex.create(folder, SETTINGS) as index:
            while full < 3:
                operation = next_operation(rng, list(state))
                try:
                    carry_out(index, operation)
                    state = outcomes(state, operation)[-1]
                except OSError as error:
                    if error.errno != errno.ENOSPC or not str(error.filename).startswith(str(disk)):
                        return f"other error {error}"
                    full += 1
                    if state_of(index) != state:
                        return "changed_by_a_failed_write"
            remount(disk, "size=64m")
            state = outcomes(state, operation)[-1]
            carry_out(index, operation)
        return "sound" if contents(folder) == state else "lost"


def read_only(seed: int) -> str:
    """Search an index on a read-only disk, and try to write there."""
    with small_disk(65_536) as disk:
        answers = make_sample(disk / "index", seed)
        remount(disk, "ro")
        with CorpusIndex.open(disk / "index") as index:
            found = answers_of(index)
            index.verify()
        for write in (lambda: CorpusIndex.open(disk / "index", "rw").close(), lambda: repair_index(disk / "index")):
            try:
                write()
                return "writable"
            except OSError as error:
                if error.errno != errno.EROFS or found != answers[0]:
                    return f"wrong {error}"
        return "sound"


def repeated(trial: Any, count: int, seed: int) -> dict[str, int]:
    """Run a trial with many seeds; a crash is a result too."""
    results = Counter[str]()
    for number in range(count):
        try:
            results[trial(seed + number)] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
            results[f"crash {type(error).__name__}: {error}"[:200]] += 1
    return dict(results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=10_000)
    parser.add_argument("--repairs", type=int, default=2_000, help="POSIX only")
    parser.add_argument("--full-disks", type=int, default=0, help="needs root")
    parser.add_argument("--read-only", type=int, default=0, help="needs root")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = {
        "damages": damage(arguments.damages, arguments.seed) if arguments.damages else {},
        "repairs": repair(arguments.repairs, arguments.seed) if arguments.repairs else {},
        "full_disks": repeated(fill_disk, arguments.full_disks, arguments.seed),
        "read_only": repeated(read_only, arguments.read_only, arguments.seed),
    }
    print(json.dumps(counts))
    fine = {"damages", "files", "told", "harmless", "log_ends_earlier", "slowest_s", "sound"}
    fine |= {"repairs", "videos", "killed", "repaired", "lost_videos", "of_clips_or_log"}
    return int(any(value and name not in fine for part in counts.values() for name, value in part.items()))


if __name__ == "__main__":
    sys.exit(main())
