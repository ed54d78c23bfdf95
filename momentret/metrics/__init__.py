"""Values -> numbers: the evaluator of record for moment retrieval and highlight detection.

`evaluate` scores `Prediction` values; the modules below have the parts. NumPy only: nothing here needs torch.
"""

from momentret.metrics.report import Evaluation, evaluate, score
from momentret.metrics.rules import DATASETS, Rules, find_rules
from momentret.metrics.submission import Submission, check_submission
from momentret.metrics.truth import GroundTruth

__all__ = [
    "DATASETS",
    "Evaluation",
    "GroundTruth",
    "Rules",
    "Submission",
    "check_submission",
    "evaluate",
    "find_rules",
    "score",
]
