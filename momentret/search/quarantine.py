"""Files that could not be made part of an index, and why: ``quarantine.json`` in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from momentret.errors import DataError
from momentret.files import write_json

__all__ = ["Quarantine", "Quarantined"]


@dataclass(frozen=True)
class Quarantined:
    """A file that was left out."""

    path: str
    """For people: bytes that are no text are shown as escapes."""
    size: int
    modified: float
    error: str


class Quarantine:
    """The files left out, remembered from run to run: one that has not changed is not tried again.

    Args:
        folder: of the index.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "quarantine.json"
        self._found: dict[str, Quarantined] = {}
        if self._path.exists():
            try:
                rows = [Quarantined(**row) for row in json.loads(self._path.read_bytes())]
            except (ValueError, TypeError) as error:
                raise DataError(f"{self._path} is damaged ({error}); delete it, and files are tried again") from error
            self._found = {row.path: row for row in rows}

    def __len__(self) -> int:
        return len(self._found)

    def all(self) -> list[Quarantined]:
        """Return every file, sorted by path."""
        return [self._found[path] for path in sorted(self._found)]

    def get(self, path: str) -> Quarantined | None:
        """Return what is known of a file."""
        return self._found.get(path)

    def put(self, found: Quarantined) -> None:
        """Add a file, durably."""
        self._found[found.path] = found
        self._write()

    def drop(self, paths: set[str]) -> None:
        """Forget files, durably: they are well now, or gone."""
        if paths & self._found.keys():
            self._found = {path: row for path, row in self._found.items() if path not in paths}
            self._write()

    def _write(self) -> None:
        write_json(self._path, [asdict(row) for row in self.all()])
