"""Files that could not be made part of an index, and why: ``quarantine.jsonl`` in its folder.

A line is a file, and takes the place of an earlier one of the same path; one without a reason says that the file is
well now, or gone. Lines are only appended, so that thousands of bad files cost no more each than one does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from momentret.errors import DataError
from momentret.files import write_jsonl

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
        self._path = folder / "quarantine.jsonl"
        self._found: dict[str, Quarantined] = {}
        # a last line without its end was cut off while it was written, and never acknowledged
        whole, _, torn = self._path.read_bytes().rpartition(b"\n") if self._path.exists() else (b"", b"", b"")
        lines = whole.split(b"\n") if whole else []
        try:
            for line in lines:
                self._take(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{self._path} is damaged ({error!r}); delete it, and files are tried again") from error
        self._untidy = bool(torn) or len(lines) > len(self._found) or not self._path.exists()

    def _take(self, row: dict[str, Any]) -> None:
        self._found.pop(row["path"], None)
        if row["error"] is not None:
            self._found[row["path"]] = Quarantined(**row)

    def __len__(self) -> int:
        return len(self._found)

    def all(self) -> list[Quarantined]:
        """Return every file, sorted by path."""
        return [self._found[path] for path in sorted(self._found)]

    def get(self, path: str) -> Quarantined | None:
        """Return what is known of a file."""
        return self._found.get(path)

    def put(self, found: Quarantined) -> None:
        """Add a file, durably; one that is known for the same reason, and has not changed, is not written again."""
        if found != self._found.get(found.path):
            self._note([asdict(found)])

    def drop(self, paths: set[str]) -> None:
        """Forget files, durably: they are well now, or gone."""
        self._note([{"path": path, "error": None} for path in sorted(paths & self._found.keys())])

    def _note(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append lines; the first time, where the file holds what no longer counts, write it anew instead."""
        rows = list(rows)
        for row in rows:
            self._take(row)
        if rows and self._untidy:
            write_jsonl(self._path, map(asdict, self.all()))
            self._untidy = False
        elif rows:
            with open(self._path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
                file.flush()
                os.fsync(file.fileno())
