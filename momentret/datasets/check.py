"""Everything that is wrong with an annotation file and the features that belong to it, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from momentret.datasets import examine
from momentret.datasets.reading import Finding, Reading
from momentret.errors import FeatureError
from momentret.features import FeatureStore, SourceManifest
from momentret.features.manifest import same_fact
from momentret.progress import Progress, silent
from momentret.records import Annotation
from momentret.words import count_of, first_few

__all__ = ["Check", "check_annotations", "other_clip_length"]

CLIPS_APART = 2  # feature rows that may be missing or left over at the end of a video, or between two sources
SHARE_APART = 0.25  # above it the clip length is another one, or the features are those of another video
PROBED = 20  # videos whose rows are counted before features are used


@dataclass(frozen=True)
class Check:
    """What was read and what was found."""

    dataset: str
    queries: int
    videos: int
    windows: int
    seconds: tuple[float, float]
    """Shortest and longest video; zeros if there is none."""
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Return whether the files can be used: no finding is an error."""
        return all(finding.level != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ok": self.ok,
            "dataset": self.dataset,
            "queries": self.queries,
            "videos": self.videos,
            "windows": self.windows,
            "shortest_s": self.seconds[0],
            "longest_s": self.seconds[1],
            "findings": [{"level": f.level, "where": f.where, "message": f.message} for f in self.findings],
        }


def check_annotations(
    path: Path,
    dataset: str,
    *,
    durations: Sequence[Path] = (),
    store: FeatureStore | None = None,
    progress: Progress = silent,
) -> Check:
    """Read a file as `read_annotations` does and return all that is wrong with it.

    Args:
        path: the annotation file.
        dataset: a name of `DATASETS`.
        durations: video durations, for the Charades-STA text.
        store: also read the features of every video and query of the file from here.
        progress: shows how far the features are.

    Raises:
        ConfigError: the options do not go together.
        AnnotationError: the durations cannot be read.
    """
    reading = examine(path, dataset, durations)
    if store is not None:
        _check_features(reading, store, progress)
    annotations = reading.annotations
    seconds = [annotation.duration for annotation in annotations] or [0.0]
    return Check(
        dataset=dataset,
        queries=len(annotations),
        videos=len({annotation.video_id for annotation in annotations}),
        windows=sum(len(annotation.windows) for annotation in annotations),
        seconds=(min(seconds), max(seconds)),
        findings=tuple(reading.findings),
    )


def _check_features(reading: Reading, store: FeatureStore, progress: Progress) -> None:
    """Note features that are missing, damaged, or of another length than their video."""
    rows = list(zip(reading.annotations, reading.places, strict=True))
    videos = {annotation.video_id: (annotation, place) for annotation, place in reversed(rows)}
    missing = store.missing(list(videos), [str(a.query_id) for a, _ in rows] if store.manifest.text else [])
    if missing:
        what = f"{count_of(len(missing), 'feature')} missing: {first_few(missing)}"
        reading.error("", f"{what}; extract them, or check root and layout")
    for source in store.manifest.video:
        if source.clip_length is None and rows and rows[0][0].clip_labels is None:
            message = f"clip length of {source.family!r} features is unknown: their number was not compared"
            reading.findings.append(Finding("warning", "", message, "clip length is unknown"))
    for annotation, place in progress(videos.values(), "videos", len(videos)):
        if not store.missing([annotation.video_id], []):
            _check_video(reading, store, annotation, place)
    if store.manifest.text is not None:
        for annotation, place in progress(rows, "queries", len(rows)):
            if not store.missing([], [str(annotation.query_id)]):
                _check_text(reading, store, annotation, place)


def _check_video(reading: Reading, store: FeatureStore, annotation: Annotation, place: str) -> None:
    try:
        lengths = [len(rows) for rows in store.read_video(annotation.video_id)]
    except FeatureError as cause:
        reading.error(place, str(cause))
        return
    if max(lengths) - min(lengths) > CLIPS_APART:
        reading.error(place, f"features of video {annotation.video_id!r} have {lengths} rows; sources cannot be joined")
    for source, length in zip(store.manifest.video, lengths, strict=True):
        level, message = _compare_length(annotation, source, length)
        if level:
            reading.findings.append(Finding(level, place, message, "features do not fit the duration"))


def _compare_length(annotation: Annotation, source: SourceManifest, length: int) -> tuple[str, str]:
    """Return the level and the message of what is wrong with the number of rows; both empty if it is right."""
    if annotation.clip_labels is not None:
        expected, reason = float(len(annotation.clip_labels)), "as many clips have labels"
    elif source.clip_length is not None:
        expected = annotation.duration / source.clip_length
        reason = f"{annotation.duration:g} s at clip_length {source.clip_length:g} s"
    else:
        return "", ""
    apart = abs(length - expected)
    if apart <= CLIPS_APART:
        return "", ""
    features = f"{source.family!r} features of video {annotation.video_id!r}"
    message = f"{features} have {count_of(length, 'row')}, expected {expected:.0f}"
    return "error" if apart > SHARE_APART * expected else "warning", f"{message}: {reason}"


def other_clip_length(annotations: Sequence[Annotation], store: FeatureStore, clip_length: float) -> str:
    """Return what says that features are not cut into clips of `clip_length` seconds; empty if nothing does.

    What the store knows is compared, then the rows of a few videos with their durations, as `check_annotations` does:
    most of those have to be wrong, for a single one may be so in a released package too.
    """
    for source in store.manifest.video:
        if source.clip_length is not None and not same_fact(source.clip_length, clip_length):
            return f"the {source.family!r} features say {source.clip_length:g} s"
    videos = list({a.video_id: a for a in annotations if a.clip_labels is None}.values())
    probed = [(a, store.read_video(a.video_id)) for a in videos[:: len(videos) // PROBED + 1]]
    for i, source in enumerate(store.manifest.video):
        asked = replace(source, clip_length=clip_length)
        lengths = [(annotation, len(rows[i])) for annotation, rows in probed]
        wrong = [(a, length) for a, length in lengths if _compare_length(a, asked, length)[0] == "error"]
        if len(wrong) > len(probed) / 2:
            annotation, length = wrong[0]
            features = f"the {source.family!r} features of video {annotation.video_id!r}"
            seconds = annotation.duration
            return f"{features} have {count_of(length, 'row')} for {seconds:g} s, one every {seconds / length:.3g} s"
    return ""


def _check_text(reading: Reading, store: FeatureStore, annotation: Annotation, place: str) -> None:
    try:
        store.read_text(annotation.query_id)
    except FeatureError as cause:
        reading.error(place, str(cause))
