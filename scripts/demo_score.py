#!/usr/bin/env python3
"""Say how many of the known moments were found: `scripts/demo_score.py ANSWERS TRUTH INDEX [--require 8]`.

ANSWERS is what `momentret search INDEX QUERIES... --json` printed, TRUTH a file in the form of QVHighlights. A moment
is found when the first one of the answer overlaps it by an IoU of at least 0.5. Beside it stands what a window drawn at
random from all windows of the corpus would find. Exit 1 if fewer than --require are found.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from momentret.datasets import read_annotations
from momentret.metrics.corpus import chance, first_right
from momentret.search.answers import Answer, read_answers
from momentret.search.index import CorpusIndex

IOU = 0.5


def describe(answer: Answer, rank: int | None, video_rank: int | None) -> str:
    """Return the line of one query."""
    first = answer.moments[0]
    sure = "sure" if answer.present else "says nothing matches"
    return (
        f"{'found' if rank == 1 else '  -  '}  {first.video_id:>8} {first.start:5.1f} -{first.end:5.1f} s  "
        f"moment {rank or '-':>2}, video {video_rank or '-':>2}  {answer.query} ({sure}: {answer.presence:.0%})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("answers", "truth", "index"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--require", type=int, default=0)
    arguments = parser.parse_args()
    answers = {answer.query: answer for answer in read_answers(arguments.answers)}
    annotations = read_annotations(arguments.truth, "qvhighlights")
    if unasked := [annotation.query for annotation in annotations if annotation.query not in answers]:
        sys.exit(f"{arguments.answers} has no answer to {unasked[0]!r}; ask all queries of {arguments.truth}")
    with CorpusIndex.open(arguments.index) as index:
        durations = {video.video_id: video.duration for video in index.videos()}
        clip_length = next(index.videos()).clip_length
    print("the first moment of every answer, and the rank of the first one that is right")
    ranks = []
    for annotation in annotations:
        answer = answers.pop(annotation.query)
        places = [(moment.video_id, moment.start, moment.end) for moment in answer.moments]
        ranks.append(first_right(places, annotation, IOU))
        print(describe(answer, ranks[-1], first_right(places, annotation, 0.0)))
    by_chance = sum(chance(annotation, durations, clip_length, IOU) for annotation in annotations)
    found = ranks.count(1)
    print(
        f"\nfound {found} of {len(ranks)} known moments with the first answer (IoU >= {IOU}), "
        f"{sum(rank is not None for rank in ranks)} with any; a random window would find {by_chance:.2f}"
    )
    for answer in answers.values():
        said = "sure" if answer.present else "says nothing matches"
        print(f"not in the corpus: {answer.query} ({said}: {answer.presence:.0%})")
    return int(found < arguments.require)


if __name__ == "__main__":
    sys.exit(main())
