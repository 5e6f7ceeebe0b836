# SPDX-License-Identifier: Apache-2.0
"""Keeps the results of trials by the fingerprint of the files, and shares them between the processes of a server.

A worker that replaces another one does not repeat the trials of the models that the old worker served.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import asdict
from pathlib import Path

from lstm_explain.repository.model_folder import Source
from lstm_explain.serving.shared_journal import SharedJournal
from lstm_explain.serving.trials.trial_limits import TrialResult


def fingerprint(source: Source) -> str:
    """Changes whenever a file of the version is changed or replaced. Raises OSError.

    It covers the inode number and the change time too, since a file's owner can set its size and modification time.
    """
    digest = hashlib.sha256(str(source.model_file.absolute()).encode(errors="surrogateescape"))
    for path in source.files():
        found = path.stat()
        digest.update(repr((str(path), found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns)).encode())
    return digest.hexdigest()


class TrialResults:
    """path: the file that the processes of a server share; None keeps the results in this process alone."""

    def __init__(self, path: Path | None = None) -> None:
        self._journal = None if path is None else SharedJournal(path)
        self._known: dict[str, TrialResult] = {}
        self._lock = threading.Lock()

    def get(self, fingerprint: str) -> TrialResult | None:
        """Returns the newest result for these files, from whichever process tried them."""
        with self._lock:
            if fingerprint not in self._known and self._journal is not None:
                for entry in self._journal.read_new():
                    key = entry.pop("fingerprint")
                    self._known[key] = TrialResult(**entry)
            return self._known.get(fingerprint)

    def put(self, fingerprint: str, result: TrialResult) -> None:
        with self._lock:
            self._known[fingerprint] = result
            if self._journal is not None:
                self._journal.append({"fingerprint": fingerprint, **asdict(result)})
