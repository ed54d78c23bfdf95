"""Ground truth and submissions for the metric tests: rows as files hold them, and the values readers make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from momentret import Annotation
from momentret.metrics import Evaluation, GroundTruth, check_submission, find_rules, score

from ..helpers import SHARED

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def to_annotation(row: Row) -> Annotation:
    labels = row.get("label")
    saliency = row.get("saliency_scores")
    return Annotation(
        query_id=row["qid"],
        video_id=row["vid"],
        query=row["query"],
        duration=float(row["duration"]),
        windows=tuple((float(start), float(end)) for start, end in row.get("relevant_windows") or ()),
        relevant_clips=None if saliency is None else tuple(row["relevant_clip_ids"]),
        saliency=None if saliency is None else tuple(map(tuple, saliency)),
        clip_labels=None if labels is None else tuple(map(tuple, labels)),
        domain=row.get("domain"),
    )


def make_truth(rows: list[Row], dataset: str = "qvhighlights") -> GroundTruth:
    return GroundTruth.of([to_annotation(row) for row in rows], find_rules(dataset))


def score_rows(rows: list[Row], truth: GroundTruth, *, legacy: bool = False, inclusive: bool = True) -> Evaluation:
    submission = check_submission(list(enumerate(rows, start=1)), truth, legacy=legacy)
    return score(submission, truth, legacy=legacy, inclusive=inclusive)


def make_query(qid: int, windows: list[list[float]], duration: int = 60) -> Row:
    """Return a ground-truth row in which every clip of the windows is very good for all three annotators."""
    clips = sorted({clip for start, end in windows for clip in range(int(start // 2), int(end // 2))})
    return {
        "qid": qid,
        "query": f"query {qid}",
        "vid": f"v{qid}",
        "duration": duration,
        "relevant_windows": windows,
        "relevant_clip_ids": clips,
        "saliency_scores": [[4, 4, 4]] * len(clips),
    }


def make_answer(qid: int, windows: list[list[float]], saliency: list[float] | None = None) -> Row:
    row: Row = {"qid": qid, "query": f"query {qid}", "vid": f"v{qid}", "pred_relevant_windows": windows}
    return row if saliency is None else {**row, "pred_saliency_scores": saliency}


def make_random(seed: int, queries: int = 12) -> tuple[list[Row], list[Row]]:
    """Return ground truth and a clean, middling submission: sorted, no ties, no repeats, all inside the video."""
    generator = np.random.default_rng(seed)
    truth, answers = [], []
    for qid in range(queries):
        duration = int(generator.choice([126, 140, 150]))
        edges = np.sort(generator.choice(np.arange(duration // 2 + 1), 6, replace=False)) * 2
        windows = edges.reshape(3, 2).tolist()
        row = make_query(qid, windows, duration)
        row["saliency_scores"] = generator.integers(0, 5, (len(row["relevant_clip_ids"]), 3)).tolist()
        truth.append(row)
        near = np.concatenate([np.array(windows) + generator.integers(-4, 5, (3, 2)), _spread(generator, duration)])
        near = np.unique(np.sort(np.clip(near, 0, duration), axis=1), axis=0)
        near = generator.permutation(near[near[:, 0] < near[:, 1]])[:10]
        scores = np.sort(generator.permutation(100)[: len(near)])[::-1] / 100
        saliency = np.zeros(duration // 2)
        saliency[row["relevant_clip_ids"]] = 0.5
        answers.append(
            make_answer(
                qid,
                [[*window, float(s)] for window, s in zip(near.astype(float).tolist(), scores, strict=True)],
                (saliency + generator.normal(0, 0.6, duration // 2)).tolist(),
            )
        )
    return truth, answers


def _spread(generator: np.random.Generator, duration: int) -> np.ndarray:
    return generator.integers(0, duration // 2 + 1, (9, 2)) * 2


QVHIGHLIGHTS_VAL = SHARED / "annotations" / "qvhighlights" / "highlight_val_release.jsonl"
SAMPLE = SHARED / "golden" / "qvhighlights_sample_val_preds.jsonl"
