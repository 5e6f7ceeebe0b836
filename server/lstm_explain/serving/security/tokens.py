"""Reads bearer tokens and their roles from a file, and reloads the file when it changes.

A line is `TOKEN ROLE[,ROLE] [NAME]`; empty lines and lines that begin with # are ignored. Instead of the token, its
hash may be given as `sha256:` and 64 hexadecimal digits, so that the file holds no secret. NAME appears in the log.
A changed file with a mistake in it is ignored, and the old tokens stay valid.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from lstm_explain.errors import Error

log = logging.getLogger(__name__)

EXPLAIN, MANAGE = "explain", "manage"
ROLES = frozenset({EXPLAIN, MANAGE})
MIN_TOKEN_LENGTH = 16  # characters; a shorter token can be guessed
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Caller:
    """The owner of a token."""

    name: str
    roles: frozenset[str]


@dataclass(frozen=True)
class TokenEntry:
    """One line of the file; `digest` is the token's SHA-256."""

    digest: bytes
    caller: Caller


class Tokens:
    """The current entries of a file."""

    def __init__(self, path: Path) -> None:
        """Raises Error if the file cannot be used."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._state = _state(path)
            self._entries = parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Error(f"--tokens: the file cannot be read: {_describe(error)}") from error

    def caller(self, token: str) -> Caller | None:
        """The owner of the token, or None. It takes the same time whichever entry matches, or none."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for entry in self._current():
            if hmac.compare_digest(entry.digest, digest):
                found = entry.caller
        return found

    def _current(self) -> tuple[TokenEntry, ...]:
        with self._lock:
            try:
                state = _state(self._path)
                if state != self._state:
                    self._state = state
                    self._entries = parse(self._path.read_text(encoding="utf-8"))
                    log.info("tokens reloaded, there are %d", len(self._entries))
            except (OSError, UnicodeDecodeError, Error) as error:
                if self._state is not None:  # logged once per change
                    log.error("the changed tokens cannot be used, so the old ones stay: %s", _describe(error))
                if isinstance(error, OSError):
                    self._state = None
            return self._entries


def parse(text: str) -> tuple[TokenEntry, ...]:
    """Parses the file. Raises Error, which names the line but never repeats its content."""
    entries: list[TokenEntry] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        entries.append(_entry(words, number))
    if not entries:
        raise Error("--tokens: the file has no token")
    if len({entry.digest for entry in entries}) < len(entries):
        raise Error("--tokens: a token occurs twice")
    return tuple(entries)


def _entry(words: list[str], number: int) -> TokenEntry:
    token, roles = words[0], frozenset(words[1].split(",")) if len(words) > 1 else frozenset()
    name = words[2].strip() if len(words) > 2 else f"line {number}"
    if not roles or not roles <= ROLES:
        raise Error(
            f"--tokens: line {number}: expected TOKEN ROLE[,ROLE] [NAME] with the roles {', '.join(sorted(ROLES))}"
        )
    if hashed := _HASH.fullmatch(token):
        return TokenEntry(bytes.fromhex(hashed[1]), Caller(name, roles))
    if token.startswith("sha256:") or not _TOKEN.fullmatch(token):
        raise Error(f"--tokens: line {number}: the token is neither printable ASCII nor a SHA-256 hash of 64 digits")
    if len(token) < MIN_TOKEN_LENGTH:
        log.warning("the token in line %d has fewer than %d characters and can be guessed", number, MIN_TOKEN_LENGTH)
    return TokenEntry(hashlib.sha256(token.encode()).digest(), Caller(name, roles))


def _state(path: Path) -> tuple[int, int, int] | None:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _describe(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
