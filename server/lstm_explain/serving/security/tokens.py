"""Who may call: bearer tokens from a file, each with its roles.

A line is `TOKEN ROLE[,ROLE] [NAME]`; empty lines, and lines that begin with #, count for nothing. In the place of the
token its hash may stand, as `sha256:` and 64 hexadecimal digits, so that the file holds no secret. NAME is for the log.
The file is read anew when it changes; one with a mistake in it changes nothing.
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
SHORT = 16  # characters; a shorter token can be guessed
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Caller:
    """Who a token belongs to."""

    name: str
    roles: frozenset[str]


@dataclass(frozen=True)
class TokenEntry:
    """One line of the file; `digest` is the token's SHA-256."""

    digest: bytes
    caller: Caller


class Tokens:
    """The entries of a file, as it is now."""

    def __init__(self, path: Path) -> None:
        """Raises Error where the file cannot be used."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._state = _state(path)
            self._entries = parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Error(f"--tokens: cannot be read: {_told(error)}") from error

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's. Takes as long whichever entry it is, or none."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for entry in self._now():
            if hmac.compare_digest(entry.digest, digest):
                found = entry.caller
        return found

    def _now(self) -> tuple[TokenEntry, ...]:
        with self._lock:
            try:
                state = _state(self._path)
                if state != self._state:
                    self._state = state
                    self._entries = parse(self._path.read_text(encoding="utf-8"))
                    log.info("tokens read anew, there are %d", len(self._entries))
            except (OSError, UnicodeDecodeError, Error) as error:
                if self._state is not None:  # told once for every change
                    log.error("tokens changed and cannot be used, the old ones stay: %s", _told(error))
                if isinstance(error, OSError):
                    self._state = None
            return self._entries


def parse(text: str) -> tuple[TokenEntry, ...]:
    """Raises Error that names the line, and never what stands in it."""
    entries: list[TokenEntry] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        entries.append(_entry(words, number))
    if not entries:
        raise Error("--tokens: there is no token in the file")
    if len({entry.digest for entry in entries}) < len(entries):
        raise Error("--tokens: a token is there twice")
    return tuple(entries)


def _entry(words: list[str], number: int) -> TokenEntry:
    token, roles = words[0], frozenset(words[1].split(",")) if len(words) > 1 else frozenset()
    name = words[2].strip() if len(words) > 2 else f"line {number}"
    if not roles or not roles <= ROLES:
        raise Error(
            f"--tokens: line {number}: wanted TOKEN ROLE[,ROLE] [NAME] with the roles {', '.join(sorted(ROLES))}"
        )
    if hashed := _HASH.fullmatch(token):
        return TokenEntry(bytes.fromhex(hashed[1]), Caller(name, roles))
    if token.startswith("sha256:") or not _TOKEN.fullmatch(token):
        raise Error(f"--tokens: line {number}: the token is no printable ASCII, or no SHA-256 of 64 digits")
    if len(token) < SHORT:
        log.warning("the token in line %d has fewer than %d characters and can be guessed", number, SHORT)
    return TokenEntry(hashlib.sha256(token.encode()).digest(), Caller(name, roles))


def _state(path: Path) -> tuple[int, int, int] | None:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _told(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
