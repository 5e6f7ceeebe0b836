# SPDX-License-Identifier: Apache-2.0
"""Knows the bearer tokens of a file, and reads the file again when it changes.

A changed file with a mistake in it is ignored, and the old tokens stay valid.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from pathlib import Path

from lstm_explain.errors import Error
from lstm_explain.serving.security.callers import Caller
from lstm_explain.serving.security.token_file import TokenEntry, parse

log = logging.getLogger(__name__)

SECONDS_TO_NOTICE = 0.2


class Tokens:
    """The current entries of a file."""

    def __init__(self, path: Path) -> None:
        """Raises Error if the file cannot be used."""
        self._path = path
        self._lock = threading.Lock()
        self._refreshed = 0.0  # time.monotonic
        self._entries: tuple[TokenEntry, ...] = ()
        self._callers: dict[bytes, Caller] = {}
        try:
            self._state = _state(path)
            self._take(parse(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise Error(f"--tokens: the file cannot be read: {_describe(error)}") from error

    def entry(self, token: str) -> TokenEntry | None:
        """Returns the entry of the token, or None. It takes the same time whichever entry matches, or none."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        self._refresh()
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found

    def caller(self, digest: bytes) -> Caller | None:
        """Returns the owner of a token that was valid before, or None if it was withdrawn more than SECONDS_TO_NOTICE
        ago.
        """
        if time.monotonic() - self._refreshed > SECONDS_TO_NOTICE:
            self._refresh()
        return self._callers.get(digest)

    def _take(self, entries: tuple[TokenEntry, ...]) -> None:
        self._entries = entries
        self._callers = {entry.digest: entry.caller for entry in entries}

    def _refresh(self) -> None:
        with self._lock:
            self._refreshed = time.monotonic()
            try:
                state = _state(self._path)
                if state != self._state:
                    self._state = state
                    self._take(parse(self._path.read_text(encoding="utf-8")))
                    log.info("tokens reloaded, there are %d", len(self._entries))
            except (OSError, UnicodeDecodeError, Error) as error:
                if self._state is not None:  # logged once per change
                    log.error("the changed tokens cannot be used, so the old ones stay: %s", _describe(error))
                if isinstance(error, OSError):
                    self._state = None


def _state(path: Path) -> tuple[int, int, int] | None:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _describe(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
