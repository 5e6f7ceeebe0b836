# SPDX-License-Identifier: Apache-2.0
"""A file of JSON lines to which several processes append, and which each reads from its own last position."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any


class SharedJournal:
    """One process's view of the file. Not safe for reading from several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def append(self, entry: dict[str, Any]) -> None:
        """Adds an entry. Entries that several processes append at the same time do not mix."""
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(entry).encode() + b"\n")

    def read_new(self) -> list[dict[str, Any]]:
        """Returns the entries since the last call; at first, all of them."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._position += len(complete)
        return [json.loads(line) for line in complete.splitlines()]
