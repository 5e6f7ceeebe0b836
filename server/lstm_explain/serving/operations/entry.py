# SPDX-License-Identifier: Apache-2.0
"""What is known of one operation: the facts it began with, its attempts, and how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from google.rpc import code_pb2

Kind = Literal["explain", "batch"]


class Damaged(Exception):  # noqa: N818 - says what is wrong with the file
    """A file of an operation is missing, or not what was written."""


@dataclass(frozen=True)
class _Record:
    """A flat record that is kept as a JSON file."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises Damaged, FileNotFoundError, OSError."""
        try:
            fields = json.loads(path.read_bytes())
            types = get_type_hints(cls)
            if set(fields) != set(types):
                raise ValueError(f"the fields are {sorted(fields)}, expected {sorted(types)}")
            record = cls(**fields)
        except (ValueError, TypeError, RecursionError) as error:
            raise Damaged(f"{path.name} cannot be read: {error}") from error
        if any(not isinstance(value, _plain(types[name])) for name, value in fields.items()):
            raise Damaged(f"{path.name} has a field of another type than was written")
        return record

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def _plain(hint: Any) -> tuple[type, ...]:
    return (int, float) if hint is float else (hint,) if isinstance(hint, type) else (str,)


@dataclass(frozen=True)
class Facts(_Record):
    """What an operation began with; never changes.

    caller: the name of the token. request_id: chosen by the caller, or empty. call_id, peer, subject: of the call that
    started it, for the audit log. version: of the model, chosen at the start. digest: SHA-256 of the request, in
    hexadecimal digits. created: seconds since 1970.
    """

    kind: Kind
    caller: str
    request_id: str
    call_id: str
    peer: str
    subject: str
    model: str
    version: str
    digest: str
    created: float


@dataclass(frozen=True)
class Attempts(_Record):
    """How often an operation has begun.

    deaths: attempts during which the worker process ended although the server went on, so that the operation may have
    been the reason. server: an id of the server that made the latest attempt. running: whether that attempt ended
    without a word, unless it still runs.
    """

    count: int = 0
    deaths: int = 0
    server: str = ""
    running: bool = False


@dataclass(frozen=True)
class End(_Record):
    """How an operation ended.

    code: of google.rpc; OK with a result. message, field: of the error. digest, size: of the result. ended, expires:
    seconds since 1970; expires is 0 where the end cannot be read.
    """

    code: int
    message: str
    field: str
    digest: str
    size: int
    ended: float
    expires: float

    def has_expired(self) -> bool:
        return 0 < self.expires <= time.time()


@dataclass(frozen=True)
class Failure:
    """Why an operation has no result: a code of google.rpc, a message, and the field of the request that is wrong."""

    code: int
    message: str
    field: str = ""


CANCELLED = Failure(code_pb2.CANCELLED, "the caller has cancelled the operation")


@dataclass(frozen=True)
class Operation:
    """An operation as it is now. end: None until it has ended. done, total: its progress, 0 where none is known."""

    id: str
    facts: Facts
    attempts: Attempts
    running: bool
    end: End | None
    done: int = 0
    total: int = 0


def damaged_end(facts: Facts, problem: str) -> End:
    """Stands for an end that cannot be read."""
    message = f"what the server kept of this operation is damaged: {problem}"
    return End(code_pb2.DATA_LOSS, message, "", "", 0, facts.created, 0.0)


def progress_of(text: str) -> Mapping[str, int]:
    """Returns `done` and `total` as written; nothing where they cannot be read: progress is not worth an error."""
    done, _, total = text.partition(" ")
    return {"done": int(done), "total": int(total)} if done.isdecimal() and total.isdecimal() else {}
