"""What can be wrong with an index on disk. Both are `DataError`s: one line that names the file and the next step."""

from __future__ import annotations

from pathlib import Path

from momentret.errors import DataError

__all__ = ["BEYOND_REPAIR", "REPAIR", "DamagedIndexError", "IndexLockedError"]

REPAIR = "momentret index verify INDEX --repair keeps every video that is whole"
BEYOND_REPAIR = "restore it from a backup or build the index again"


class DamagedIndexError(DataError):
    """A file of the index is missing, truncated, changed, or of a newer format."""

    def __init__(self, path: Path, what: str, step: str = REPAIR) -> None:
        super().__init__(path, what, step)  # what it takes, so that it comes whole out of another process
        self.path, self.what, self.step = path, what, step

    def __str__(self) -> str:
        return f"index file {str(self.path)!r} {self.what}; {self.step}"


class IndexLockedError(DataError):
    """Another process is writing to the index."""
