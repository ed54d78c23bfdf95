"""What can be wrong with an index on disk. Both are `DataError`s: one line that names the file and the next step."""

from __future__ import annotations

from pathlib import Path

from momentret.errors import DataError

__all__ = ["DamagedIndexError", "IndexLockedError"]


class DamagedIndexError(DataError):
    """A file of the index is missing, truncated, changed, or of a newer format."""

    def __init__(self, path: Path, what: str, step: str = "restore it from a backup or build the index again") -> None:
        super().__init__(f"index file {str(path)!r} {what}; {step}")


class IndexLockedError(DataError):
    """Another process is writing to the index."""
