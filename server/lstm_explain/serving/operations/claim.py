# SPDX-License-Identifier: Apache-2.0
"""The right to compute one operation, held as a lock on its folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from google.rpc import code_pb2

from lstm_explain import durable_files
from lstm_explain.serving.operations.entry import Attempts, Damaged, End, Facts, Failure

FACTS, REQUEST, ATTEMPTS, PROGRESS = "operation.json", "request", "attempts.json", "progress"
CANCEL, RESULT, END = "cancel", "result", "end.json"
MAX_DEATHS = 2  # of workers, after which the operation is not tried again
MAX_ATTEMPTS = 5  # even if the whole server ended each time: the operation may exhaust the memory of its container


def lock(folder: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Returns a descriptor that holds the lock until it is closed; None if another one holds it, or there is no such
    folder.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


class Claim:
    """Exactly one of `finish` and `release` ends it. Both may raise OSError, and the claim ends all the same. So does a
    `begin` that raises.

    locked: the descriptor that holds the lock. server: as in Attempts. keep_seconds: until the operation expires.
    """

    def __init__(self, name: str, folder: Path, facts: Facts, locked: int, server: str, keep_seconds: float) -> None:
        self.id, self.facts = name, facts
        self._folder, self._locked, self._server, self._keep_seconds = folder, locked, server, keep_seconds
        self._before = Attempts()

    def begin(self) -> Failure | None:
        """Counts another attempt; returns why there must not be one. Raises OSError, which ends the claim."""
        try:
            return self._begin()
        except BaseException:
            os.close(self._locked)
            raise

    def _begin(self) -> Failure | None:
        before = Attempts()
        with suppress(Damaged, FileNotFoundError):
            before = Attempts.read(self._folder / ATTEMPTS)
        died = before.running  # nobody holds the lock, and nobody has said that the attempt is over
        deaths = before.deaths + (died and before.server == self._server)
        if deaths >= MAX_DEATHS:
            message = f"{deaths} worker processes ended while they computed this operation; the server's log has more"
            return Failure(code_pb2.ABORTED, message)
        if before.count >= MAX_ATTEMPTS:
            message = f"the server ended {before.count} times while it computed this operation, it is not tried again"
            return Failure(code_pb2.ABORTED, message)
        self._before = Attempts(before.count, deaths, before.server)
        self._write_attempts(Attempts(before.count + 1, deaths, self._server, running=True))
        return None

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._before.count + 1

    @property
    def cancelled(self) -> bool:
        """Whether the caller has asked for the end; quick enough for the event loop."""
        return (self._folder / CANCEL).exists()

    def request(self) -> bytes:
        """Returns the request. Raises Damaged."""
        try:
            data = (self._folder / REQUEST).read_bytes()
        except OSError as error:
            raise Damaged(f"{REQUEST} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != self.facts.digest:
            raise Damaged(f"{REQUEST} is not what was written")
        return data

    def report(self, done: int, total: int) -> None:
        """Notes the progress. Where the disk is full, callers see an older one."""
        with suppress(OSError):
            durable_files.write_private(self._folder / PROGRESS, f"{done} {total}".encode(), durable=False)

    def finish(self, result: bytes | Failure) -> None:
        """Keeps the result, or why there is none: a result that does not fit on the disk is such a reason, too."""
        try:
            try:
                self._keep(result)
            except OSError as error:
                if isinstance(result, Failure):
                    raise
                for part in (REQUEST, RESULT):  # makes room for the reason
                    (self._folder / part).unlink(missing_ok=True)
                problem = f"the result of {len(result)} bytes cannot be kept: {error.strerror}"
                self._keep(Failure(code_pb2.RESOURCE_EXHAUSTED, problem))
        finally:
            os.close(self._locked)

    def _keep(self, result: bytes | Failure) -> None:
        code, message, field, digest, size = code_pb2.OK, "", "", "", 0
        if isinstance(result, Failure):
            code, message, field = result.code, result.message, result.field
        else:
            digest, size = hashlib.sha256(result).hexdigest(), len(result)
            durable_files.write_private(self._folder / RESULT, result)
        now = time.time()
        durable_files.write_private(
            self._folder / END,
            End(int(code), message, field, digest, size, now, now + self._keep_seconds).encoded(),
        )
        for part in (REQUEST, CANCEL):
            (self._folder / part).unlink(missing_ok=True)

    def release(self) -> None:
        """Leaves the operation to another process, as if this attempt had not been."""
        try:
            self._write_attempts(self._before)
        finally:
            os.close(self._locked)

    def _write_attempts(self, attempts: Attempts) -> None:
        durable_files.write_private(self._folder / ATTEMPTS, attempts.encoded())
