"""`momentret cut`: found moments, or windows of a video -> files of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momentret.cli.answers import MinConfidence, Nearest, Top, chosen_answers
from momentret.cli.console import amount_bar, one_line, print_json, resumable
from momentret.words import count_of

if TYPE_CHECKING:
    from momentret.video import CutReport, IsolatedCutter

__all__ = ["cut"]


@dataclass(frozen=True)
class _Job:
    path: Path
    start: float
    end: float
    output: Path
    """A file where `named` is True, else a folder."""
    named: bool = False
    query: str | None = None
    rank: int | None = None

    def name(self, exact: bool) -> str:
        """Return a file name without its ending that says what is cut, and whether it is copied.

        Videos of one name in several folders do not share it, nor does one that changed with what it was: what is cut
        of the second would count as there already.
        """
        rank = "" if self.rank is None else f"{self.rank:02d}-"
        window = f"{_number(self.start)}s-{_number(self.end)}s"
        return f"{rank}{_slug(self.path.stem)}-{window}{'' if exact else '-copy'}-{_file_hash(self.path)}"


def _file_hash(path: Path) -> str:
    """Return a few letters for the path, the size and the modification time of a file."""
    from momentret.extract.videos import file_facts, path_hash
    from momentret.files import absolute, valid_text

    facts = " ".join(map(str, file_facts(path) or []))
    return path_hash(Path(valid_text(f"{absolute(path)}\0{facts}")))


def cut(
    source: Path = typer.Argument(..., help="What search or find printed with --json ('-': stdin), or a video."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder; for one window of a video also a file."),
    window: list[str] = typer.Option(
        [], "--window", "-w", help="START-END of the video SOURCE, in seconds or [hh:]mm:ss; can be given again."
    ),
    exact: bool = typer.Option(
        True,
        "--exact/--copy",
        help="To the frame, encoded again; or copied without loss in no time, from the keyframe before.",
    ),
    top: Top = None,
    min_confidence: MinConfidence = None,
    nearest: Nearest = False,
    pad: float = typer.Option(0.0, min=0.0, help="Seconds to add before and after."),
    time_limit: float = typer.Option(60.0, help="Seconds to wait for a video that does not move on."),
    memory_limit: int = typer.Option(4096, help="MiB that cutting a video may take."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace files that exist."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> int:
    """Cut found moments out of their videos.

    A found window is short, so the default is --exact: the file shows what was found, from its first frame to its last,
    and plays everywhere. Files in the folder are named by the video, the window as it is cut, copy if it is one, and
    eight letters that stand for the video's path, size and date. Those that exist are left alone and the others are
    cut, so a run can be repeated: it says how many were there already. Exit 1 if nothing could be cut.
    """
    from momentret.errors import ConfigError
    from momentret.video import IsolatedCutter, Limits

    if window and (nearest or top is not None or min_confidence is not None):
        raise ConfigError("--top, --min-confidence and --nearest choose found moments; every --window is cut")
    if window:
        jobs = _jobs_of_video(source, window, output)
    else:
        jobs = _jobs_of_answers(source, output, min_confidence, nearest, top)
    jobs = [_padded(job, pad) for job in jobs]
    rows: list[dict[str, Any]] = []
    with (
        resumable(lambda: f"{len(rows)} of {count_of(len(jobs), 'cut')} done"),
        IsolatedCutter(Limits(time_limit, memory_limit << 20)) as cutter,
        amount_bar("cut", len(jobs)) as show,
    ):
        for number, job in enumerate(jobs):
            show(number, f"cut {number + 1}/{len(jobs)}")
            rows.append(
                _carry_out(job, cutter, exact, overwrite, _follow(show, number, f"cut {number + 1}/{len(jobs)}"))
            )
            if not as_json:
                _tell(rows[-1])
    return _conclude(rows, as_json)


def _conclude(rows: Sequence[dict[str, Any]], as_json: bool) -> int:
    """Say what became of the cuts as a whole, and return the exit status."""
    failed, there = sum("error" in row for row in rows), sum("there_already" in row for row in rows)
    if there:
        text = f"{there} of {count_of(len(rows), 'cut')} there already, left as they are; --overwrite makes them anew"
        typer.echo(text, err=True)
    if as_json:
        print_json({"cuts": rows, "cut": len(rows) - failed - there, "there_already": there, "failed": failed})
    return 1 if failed == len(rows) else 0


def _jobs_of_video(path: Path, windows: Sequence[str], output: Path) -> list[_Job]:
    from momentret.errors import ConfigError
    from momentret.extract.videos import ENDINGS
    from momentret.spans import parse_window
    from momentret.video import FORMATS
    from momentret.video.cuts import format_of

    if _is_json(path):
        raise ConfigError(f"--window goes with a video, and {str(path)!r} holds found moments; leave --window out")
    spans = [parse_window(window) for window in windows]
    if not output.is_dir() and (ENDINGS.fullmatch(output.suffix) or (len(spans) == 1 and _is_ending(output.suffix))):
        try:
            format_of(output)  # a file, then, and one that can be written
        except ConfigError as error:
            raise ConfigError(f"{error} (make the folder first if one is meant)") from error
    if output.suffix.lower() not in FORMATS or output.is_dir():
        return [_Job(path, *span, output) for span in spans]
    if len(spans) > 1:
        raise ConfigError(f"{str(output)!r} is one file for {count_of(len(spans), 'window')}; give a folder")
    return [_Job(path, *spans[0], output, named=True)]


def _is_json(path: Path) -> bool:
    """Tell what search printed from a video, none of which begins with a bracket."""
    with suppress(OSError, ValueError):
        if path.is_file():  # a pipe would be waited for
            with path.open("rb") as file:
                return file.read(64).lstrip()[:1] in (b"{", b"[")
    return False


def _is_ending(suffix: str) -> bool:
    """Tell a file's ending, as in ``two.xyz``, from the last part of a folder's name, as in ``2026.11``."""
    return re.fullmatch(r"\.(?=\w*[a-z])\w{2,4}", suffix, re.IGNORECASE) is not None


def _jobs_of_answers(
    source: Path, output: Path, min_confidence: float | None, nearest: bool, top: int | None
) -> list[_Job]:
    from momentret.errors import ConfigError, DataError
    from momentret.video import FORMATS

    try:
        answers = chosen_answers(source, min_confidence, nearest, top)
    except DataError as error:
        raise DataError(f"{error}; to cut a video itself, name a --window START-END of it") from error
    if output.suffix.lower() in FORMATS and not output.is_dir():
        raise ConfigError(f"found moments are cut into a folder, and {str(output)!r} names a file; give a folder")
    jobs = []
    for number, answer in enumerate(answers, start=1):
        folder = output / f"{number:02d}-{_slug(answer.query)}" if len(answers) > 1 else output
        for moment in answer.moments:
            window = (max(moment.start, 0.0), moment.end)
            jobs.append(_Job(Path(moment.path), *window, folder, query=answer.query, rank=moment.rank))
    if not jobs:
        raise DataError(f"{source} holds no moment to cut")
    return jobs


def _slug(text: str) -> str:
    """Return text as a part of a file name on every system, which no shell takes for more."""
    from momentret.files import clean_name

    return re.sub(r"[^\w.]+", "-", clean_name(text, 60)).strip("-.") or "video"


def _number(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _padded(job: _Job, pad: float) -> _Job:
    from dataclasses import replace

    return replace(job, start=max(job.start - pad, 0.0), end=job.end + pad)


def _follow(show: Callable[[float, str], None], number: int, text: str) -> Callable[[float, float], None]:
    return lambda seconds, total: show(number + min(max(seconds / max(total, 1e-3), 0.0), 1.0), text)


def _carry_out(job: _Job, cutter: IsolatedCutter, exact: bool, overwrite: bool, reached: Any) -> dict[str, Any]:
    from momentret.errors import ConfigError, MomentretError
    from momentret.files import atomic_path, refuse_existing
    from momentret.video import Cut, suffix_for_copy
    from momentret.video.cuts import format_of

    row: dict[str, Any] = {"query": job.query, "rank": job.rank, "path": str(job.path), "window": [job.start, job.end]}
    try:
        output = job.output
        if not job.named:
            suffix = ".mp4" if exact else suffix_for_copy(cutter.probe(job.path))
            output = output / (job.name(exact) + suffix)
        if output.is_file() and not (overwrite or job.named):  # under a name that says what it is
            return {**row, "output": str(output), "there_already": True}
        refuse_existing(output, overwrite)
        there = os.path.exists(job.path)  # noqa: PTH110  Path.exists raises where a folder may not be looked into
        if there and output.exists() and output.samefile(job.path):
            raise ConfigError(f"{str(output)!r} is the video itself; choose another path")
        with atomic_path(output) as temporary:
            wanted = Cut(job.start, job.end, str(temporary), exact, format_of(output))
            report = cutter.cut(job.path, wanted, reached)
        return {**row, "output": str(output), "exact": exact, **_facts(job, report)}
    except MomentretError as error:
        moved = job.rank is not None and not os.path.exists(job.path)  # noqa: PTH110
        step = "; if it was moved, momentret index add its new folder and search again" if moved else ""
        return {**row, "error": " ".join(str(error).split()) + step}


def _facts(job: _Job, report: CutReport) -> dict[str, Any]:
    return {
        "start": round(report.start, 6),
        "end": round(report.end, 6),
        "early": round(job.start - report.start, 6),
        "frames": report.frames,
        "sound": report.sound,
    }


def _tell(row: dict[str, Any]) -> None:
    if "there_already" in row:
        return
    if "error" in row:
        typer.echo(f"not cut: {one_line(row['error'])}", err=True)
        return
    text = f"{row['output']}: {row['end'] - row['start']:.2f} s, {count_of(row['frames'], 'frame')}"
    text += " and sound" if row["sound"] else ""
    if abs(row["early"]) >= 0.01:
        how = "early, at a keyframe" if row["early"] > 0 else "late, where the picture does"
        text += f"; begins {abs(row['early']):.2f} s {how} ({row['start']:.2f} s)"
    if row["window"][1] - row["end"] >= 0.01 and row["exact"]:
        text += f"; the video ends at {row['end']:.2f} s"
    typer.echo(one_line(text))
