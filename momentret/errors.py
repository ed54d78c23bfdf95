"""The error family: everything momentret raises about data, files and formats.

A wrong argument to a Python function is a plain ``ValueError``; what follows is for what users bring.

    MomentretError
    ├── ConfigError            a run config or a combination of options
    ├── DataError              the content of a user's file
    │   ├── AnnotationError    ground truth: windows, durations, labels
    │   ├── PredictionError    a submission: moments, saliency
    │   └── FeatureError       feature files and stores
    ├── CheckpointError        a model file that cannot be read, or must not be
    ├── MismatchError          two things that must agree do not (features and model, config and run)
    └── OutputExistsError      an output is there already and was not to be overwritten
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AnnotationError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "FeatureError",
    "MismatchError",
    "MomentretError",
    "OutputExistsError",
    "PredictionError",
]


class MomentretError(Exception):
    """Base of the family; the message is one line: the thing, what it is, what was expected, the next step."""


class ConfigError(MomentretError):
    """A run config, or a combination of options, that cannot be carried out."""


class DataError(MomentretError):
    """The content of a user's file is not what its format says."""


class AnnotationError(DataError):
    """Ground truth that is malformed or contradicts itself."""


class PredictionError(DataError):
    """A submission that is malformed or would be scored wrongly."""


class FeatureError(DataError):
    """A feature file or store that is missing, damaged or of the wrong shape."""


class CheckpointError(MomentretError):
    """A model file that cannot be read, or holds what must not be loaded."""


class MismatchError(MomentretError):
    """Two things that must agree do not; the message names the field."""


class OutputExistsError(MomentretError):
    """An output path is taken and overwriting was not asked for."""

    def __init__(self, path: Path, next_step: str = "choose another path or pass --overwrite") -> None:
        super().__init__(path, next_step)  # what it takes, so that it comes whole out of another process

    def __str__(self) -> str:
        path, next_step = self.args
        return f"{str(path)!r} exists already; {next_step}"
