# SPDX-License-Identifier: Apache-2.0
"""Keeps operations in a folder that the processes of one server share: a folder per operation.

    <id>/operation.json   what it began with (Facts); written once
    <id>/request          the request as a message, until the operation ends
    <id>/attempts.json    how often it has begun (Attempts)
    <id>/progress         how far it is
    <id>/cancel           exists if the caller has asked for the end
    <id>/result           the result as a message
    <id>/end.json         how it ended (End); exists once it has

Whoever computes an operation holds a lock (flock) on its folder. The lock ends with the process, however that ends, so
that another one can begin again at once, without a clock and without a sign of life.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from lstm_explain import durable_files
from lstm_explain.serving.errors import (
    NoSpace,
    OperationNotFound,
    OperationRuns,
    OperationsFull,
    RequestIdUsed,
)
from lstm_explain.serving.operations.claim import ATTEMPTS, CANCEL, END, FACTS, PROGRESS, REQUEST, RESULT, Claim, lock
from lstm_explain.serving.operations.entry import (
    Attempts,
    Damaged,
    End,
    Facts,
    Operation,
    damaged_end,
    progress_of,
)

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}")
_NEW, _OLD, _LOCK = ".new-", ".old-", ".lock"
SECONDS_TO_LOCK = 60.0  # a younger folder may not have been locked yet
Read = TypeVar("Read", Facts, End)


@dataclass(frozen=True)
class StoreLimits:
    """operations, bytes: in the whole folder; further operations are refused. keep_seconds: after their end."""

    operations: int
    bytes: int
    keep_seconds: float


class OperationStore:
    """folder: made if it does not exist. server: an id of this server, the same in all of its processes. Thread-safe.

    Raises OSError where the folder cannot be used.
    """

    def __init__(self, folder: Path, limits: StoreLimits, server: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder, self._limits, self._server = folder, limits, server
        self._gate = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._thread_gate = threading.Lock()  # flock does not keep threads of one process apart
        self._records: dict[Path, tuple[tuple[int, ...], Facts | End]] = {}
        self._damaged: set[str] = set()

    # --- for callers -------------------------------------------------------------------------------------------------

    def repeated(self, facts: Facts) -> str | None:
        """Returns the id of the operation that the caller has started with the same request id; None where it has
        expired. Raises RequestIdUsed if that was for another request.
        """
        if not facts.request_id:
            return None
        name = _name(facts)
        known = self._facts_of(name)
        if (known is None and not (self._folder / name).exists()) or self._is_over(name):
            return None
        if known is not None and (known.kind, known.digest) != (facts.kind, facts.digest):
            raise RequestIdUsed(f"the request id {facts.request_id!r} has been used for another request")
        return name

    def add(self, facts: Facts, request: bytes, pay: Callable[[], object]) -> str:
        """Adds an operation and returns its id; that of the existing one where the caller repeats a request id.

        pay: charges the caller, once for each operation, when it is on disk and nobody computes it yet; what it raises
        undoes the addition. Raises OperationsFull, RequestIdUsed, NoSpace.
        """
        name, new = _name(facts), self._folder / f"{_NEW}{secrets.token_hex(8)}"
        try:
            new.mkdir(mode=0o700)
            locked = lock(new)  # nobody else claims it before it is paid
            try:
                durable_files.write_private(new / REQUEST, request)
                durable_files.write_private(new / FACTS, facts.encoded())
                with self._alone():
                    if (known := self.repeated(facts)) is not None:
                        return known
                    if self._is_over(name):
                        self._remove(name)
                    self._check_room(len(request))
                    os.rename(new, self._folder / name)
                    try:
                        pay()
                    except BaseException:
                        os.rename(self._folder / name, new)
                        raise
                durable_files.sync(self._folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
                if locked is not None:
                    os.close(locked)
        except OSError as error:
            raise NoSpace(f"the operation cannot be kept: {error.strerror}") from error
        return name

    def get(self, name: str, caller: str) -> Operation:
        """Returns the caller's operation. Raises OperationNotFound."""
        if not _ID.fullmatch(name) or (facts := self._facts_of(name)) is None or facts.caller != caller:
            raise OperationNotFound(f"there is no operation {name!r}")
        found = self._operation(name, facts)
        if found.end is not None and found.end.has_expired():
            raise OperationNotFound(f"the operation {name!r} has expired")
        return found

    def of(self, caller: str) -> list[Operation]:
        """Returns the caller's operations, the newest first."""
        found = []
        for name in self.names():
            with suppress(OperationNotFound):
                found.append(self.get(name, caller))
        return sorted(found, key=lambda operation: (-operation.facts.created, operation.id))

    def result(self, operation: Operation) -> bytes:
        """Returns the result of an operation that has one. Raises Damaged."""
        assert operation.end is not None
        try:
            data = (self._folder / operation.id / RESULT).read_bytes()
        except OSError as error:
            raise Damaged(f"{RESULT} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != operation.end.digest:
            raise Damaged(f"{RESULT} is not what was written")
        return data

    def request_cancel(self, operation: Operation) -> None:
        """Asks the process that computes it, or will, to end it. Raises NoSpace."""
        try:
            durable_files.write_private(self._folder / operation.id / CANCEL, b"")
        except FileNotFoundError:
            return  # it has been removed meanwhile
        except OSError as error:
            raise NoSpace(f"the cancellation cannot be kept: {error.strerror}") from error

    def delete(self, operation: Operation) -> None:
        """Removes an operation. Raises OperationRuns."""
        if not self._remove(operation.id):
            raise OperationRuns(f"the operation {operation.id!r} runs; cancel it first")

    def has_ended(self, name: str) -> bool:
        """Returns whether it has ended or has been removed; quick enough for the event loop."""
        folder = self._folder / name
        return (folder / END).exists() or not folder.exists()

    # --- for those who compute ---------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Returns the ids of all operations. Raises OSError."""
        return [name for name in os.listdir(self._folder) if _ID.fullmatch(name)]

    def pending(self) -> list[str]:
        """Returns the operations that have not ended, those first that should be computed first: callers take turns."""
        waiting = [
            (facts.created, facts.caller, name)
            for name in self.names()
            if (facts := self._facts_of(name)) is not None and self._end_of(name, facts) is None
        ]
        turns: dict[str, int] = {}
        order = []
        for created, caller, name in sorted(waiting):
            turns[caller] = turns.get(caller, 0) + 1
            order.append((turns[caller], created, name))
        return [name for _, _, name in sorted(order)]

    def claim(self, name: str) -> Claim | None:
        """Returns the right to compute the operation; None if another process has it, or if it has ended."""
        folder = self._folder / name
        locked = lock(folder)
        if locked is None:
            return None
        facts = self._facts_of(name)
        if facts is None or (folder / END).exists() or not folder.exists():
            os.close(locked)
            return None
        return Claim(name, folder, facts, locked, self._server, self._limits.keep_seconds)

    def sweep(self) -> None:
        """Removes operations that have expired, and what processes that were killed have left behind."""
        names = set(self.names())
        for path in list(self._records):
            if path.parent.name not in names:
                self._records.pop(path, None)
        self._damaged &= names
        for name in names:
            if self._is_over(name):
                with self._alone(), suppress(OSError):  # nobody takes its id meanwhile
                    if self._is_over(name):
                        self._remove(name)
        for path in self._folder.iterdir():
            if path.name.startswith((_NEW, _OLD)):
                with suppress(OSError):
                    young = time.time() - path.stat().st_mtime < SECONDS_TO_LOCK
                    if not young and (locked := lock(path)) is not None:
                        shutil.rmtree(path, ignore_errors=True)
                        os.close(locked)

    def counts(self) -> dict[str, int]:
        """Returns how many operations wait or run, have ended, and cannot be read."""
        names = self.names()
        known = [(name, facts) for name in names if (facts := self._facts_of(name)) is not None]
        ended = sum(self._end_of(name, facts) is not None for name, facts in known)
        return {"unfinished": len(known) - ended, "ended": ended, "damaged": len(names) - len(known)}

    def bytes_used(self) -> int:
        """Returns the bytes of all requests and results."""
        used = 0
        for name in self.names():
            for part in (REQUEST, RESULT):
                with suppress(OSError):
                    used += (self._folder / name / part).stat().st_size
        return used

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_room(self, size: int) -> None:
        limits = self._limits
        if len(self.names()) >= limits.operations:
            raise OperationsFull(
                f"the server keeps {limits.operations} operations, which is as many as it may (--max-operations); "
                "delete some, or wait until they expire"
            )
        if self.bytes_used() + size > limits.bytes:
            raise OperationsFull(
                f"the requests and results of operations take all of the {limits.bytes} bytes that they may "
                "(--max-operations-bytes); delete some, or wait until they expire"
            )

    def _is_over(self, name: str) -> bool:
        """Returns whether it is to be removed: it has expired, or nobody has been able to read it for as long."""
        facts = self._facts_of(name)
        end = None if facts is None else self._end_of(name, facts)
        if facts is not None and (end is None or end.expires):
            return end is not None and end.has_expired()
        with suppress(OSError):
            return (self._folder / name).stat().st_mtime + self._limits.keep_seconds <= time.time()
        return False

    def _facts_of(self, name: str) -> Facts | None:
        """Returns None for an entry that cannot be read, which is logged once."""
        path = self._folder / name / FACTS
        try:
            return self._cached(path, Facts)
        except FileNotFoundError:
            if not path.parent.exists():
                return None
            problem = f"{FACTS} is missing"
        except (Damaged, OSError) as error:
            problem = str(error)
        if name not in self._damaged:
            self._damaged.add(name)
            log.error("the operation %s in %s is damaged: %s", name, self._folder, problem)
        return None

    def _end_of(self, name: str, facts: Facts) -> End | None:
        try:
            return self._cached(self._folder / name / END, End)
        except FileNotFoundError:
            return None
        except (Damaged, OSError) as error:
            return damaged_end(facts, str(error))

    def _cached(self, path: Path, kind: type[Read]) -> Read:
        """Returns the record in the file, which is read again when it has been replaced. Raises Damaged, OSError."""
        stat = path.stat()
        written = stat.st_ino, stat.st_mtime_ns, stat.st_size
        known = self._records.get(path)
        if known is None or known[0] != written:
            known = self._records[path] = written, kind.read(path)
        return cast(Read, known[1])

    def _operation(self, name: str, facts: Facts) -> Operation:
        folder, attempts = self._folder / name, Attempts()
        with suppress(Damaged, OSError):
            attempts = Attempts.read(folder / ATTEMPTS)
        end = self._end_of(name, facts)
        running = False
        if end is None and attempts.running:
            locked = lock(folder, fcntl.LOCK_SH)
            running = locked is None
            if locked is not None:
                os.close(locked)
        text = ""
        with suppress(OSError, UnicodeDecodeError):
            text = (folder / PROGRESS).read_text("ascii")
        return Operation(name, facts, attempts, running, end, **progress_of(text))

    def _remove(self, name: str) -> bool:
        """Returns whether it is removed; not while somebody computes it."""
        folder = self._folder / name
        locked = lock(folder)
        if locked is None:
            return not folder.exists()
        try:
            old = self._folder / f"{_OLD}{name}-{secrets.token_hex(4)}"
            os.rename(folder, old)  # gone at once for everybody, however long its files take
            shutil.rmtree(old, ignore_errors=True)
        finally:
            os.close(locked)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other threads and processes from adding an operation meanwhile."""
        with self._thread_gate:
            fcntl.flock(self._gate, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._gate, fcntl.LOCK_UN)


def _name(facts: Facts) -> str:
    """Returns the id, which repeats with the caller's request id."""
    unique = f"{facts.caller}\0{facts.request_id}" if facts.request_id else secrets.token_hex(16)
    return hashlib.sha256(unique.encode()).hexdigest()[:32]
