"""What trials have found, by the very files that were tried: for this process, and for the others of the same server.

A worker that takes another one's place need not try again what that one serves.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import threading
from dataclasses import asdict
from pathlib import Path

from lstm_explain.repository.model_folder import Source
from lstm_explain.serving.trials.limits import TrialResult


def fingerprint(source: Source) -> str:
    """Another one whenever a file that the version is made of is changed or replaced. Raises OSError.

    Beside time and size, which a file's owner can set, it has the file's number and when that was last changed.
    """
    digest = hashlib.sha256(str(source.model_file.absolute()).encode(errors="surrogateescape"))
    for path in source.files():
        found = path.stat()
        digest.update(repr((str(path), found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns)).encode())
    return digest.hexdigest()


class TrialResults:
    """path: of the file that the processes of a server share; None: for this process alone."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, TrialResult] = {}
        self._read_to = 0
        self._lock = threading.Lock()

    def get(self, mark: str) -> TrialResult | None:
        """The newest on these files, whoever tried them."""
        with self._lock:
            if mark not in self._known:
                self._catch_up()
            return self._known.get(mark)

    def put(self, mark: str, verdict: TrialResult) -> None:
        with self._lock:
            self._known[mark] = verdict
            if self._path is not None:
                line = json.dumps({"mark": mark, **asdict(verdict)}) + "\n"
                with self._path.open("ab") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    file.write(line.encode())

    def _catch_up(self) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_to)
                lines = file.read()
        except FileNotFoundError:
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            said = json.loads(line)
            mark = said.pop("mark")
            self._known[mark] = TrialResult(**said)
