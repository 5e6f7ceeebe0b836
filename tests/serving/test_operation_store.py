# SPDX-License-Identifier: Apache-2.0
"""The folder in which operations are kept."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2

from lstm_explain import durable_files
from lstm_explain.serving.errors import NoSpace, OperationNotFound, OperationsFull, OverQuota
from lstm_explain.serving.operations import store as module
from lstm_explain.serving.operations.claim import MAX_ATTEMPTS, Claim
from lstm_explain.serving.operations.entry import Facts, Failure
from lstm_explain.serving.operations.store import OperationStore, StoreLimits

REQUEST = b"a request"


def store(
    folder: Path, operations: int = 10, size: int = 1000, keep: float = 100.0, server: str = "s"
) -> OperationStore:
    return OperationStore(folder, StoreLimits(operations, size, keep), server)


def facts(caller: str = "ada", request: bytes = REQUEST, request_id: str = "", created: float = 0.0) -> Facts:
    digest = hashlib.sha256(request).hexdigest()
    return Facts("explain", caller, request_id, "call", "peer", "", "m", "1", digest, created or time.time())


def free() -> None:
    """A quota that nothing is charged to."""


def claimed(kept: OperationStore, name: str) -> Claim:
    claim = kept.claim(name)
    assert claim is not None
    return claim


def test_what_is_full_is_refused_until_something_goes(tmp_path: Path) -> None:
    kept = store(tmp_path, operations=2, size=100)
    first, _ = kept.add(facts(), REQUEST, free), kept.add(facts(), REQUEST, free)
    with pytest.raises(OperationsFull, match="--max-operations"):
        kept.add(facts(), REQUEST, free)
    kept.delete(kept.get(first, "ada"))
    large = bytes(100)
    with pytest.raises(OperationsFull, match="--max-operations-bytes"):
        kept.add(facts(request=large), large, free)
    kept.add(facts(), REQUEST, free)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".new", ".old"))]


def test_what_is_not_paid_is_not_kept(tmp_path: Path) -> None:
    def poor() -> None:
        raise OverQuota("too much", "cost", 1.0, "ada")

    kept = store(tmp_path)
    with pytest.raises(OverQuota):
        kept.add(facts(request_id="a"), REQUEST, poor)
    assert kept.names() == []
    assert kept.add(facts(request_id="a"), REQUEST, free) == kept.names()[0]


def test_ended_operations_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, other = store(tmp_path, keep=100.0), store(tmp_path)
    name, waiting = kept.add(facts(request_id="a"), REQUEST, free), kept.add(facts(), REQUEST, free)
    claim = claimed(kept, name)
    assert claim.begin() is None
    claim.finish(b"result")
    assert kept.get(name, "ada").end is not None
    assert other.get(name, "ada").end is not None
    other.sweep()
    later = time.time() + 200
    monkeypatch.setattr(module.time, "time", lambda: later)
    with pytest.raises(OperationNotFound, match="expired"):
        other.get(name, "ada")
    other.sweep()
    assert other.names() == [waiting]
    # The id comes back with the caller's own; nothing of the old operation does.
    assert other.add(facts(request_id="a"), REQUEST, free) == name
    assert kept.get(name, "ada").end is None
    assert kept.get(name, "ada").attempts.count == 0
    claimed(other, name).finish(Failure(code_pb2.INTERNAL, "why"))
    end = kept.get(name, "ada").end
    assert end is not None
    assert end.message == "why"


def test_the_id_of_an_expired_operation_is_free_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, other = store(tmp_path, operations=1), b"another request"
    name = kept.add(facts(request_id="a"), REQUEST, free)
    claimed(kept, name).finish(b"result")
    later = time.time() + 200
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert kept.repeated(facts(request=other, request_id="a")) is None
    assert kept.add(facts(request=other, request_id="a"), other, free) == name
    kept.sweep()
    assert kept.get(name, "ada").end is None
    assert claimed(kept, name).request() == other


def test_a_damaged_end_is_kept_as_long_as_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(tmp_path, keep=100.0)
    name = kept.add(facts(), REQUEST, free)
    claimed(kept, name).finish(b"result")
    (tmp_path / name / module.END).write_text("{")
    kept.sweep()
    end = kept.get(name, "ada").end
    assert end is not None
    assert end.code == code_pb2.DATA_LOSS
    later = time.time() + 200
    monkeypatch.setattr(module.time, "time", lambda: later)
    kept.sweep()
    assert kept.names() == []


def test_an_attempt_that_cannot_be_noted_leaves_the_operation_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = store(tmp_path)
    name = kept.add(facts(), REQUEST, free)
    claim = claimed(kept, name)
    with monkeypatch.context() as patched:
        patched.setattr(durable_files, "write_private", full)
        with pytest.raises(OSError, match="No space left"):
            claim.begin()
    claim = claimed(kept, name)
    assert claim.begin() is None
    assert claim.attempt == 1
    claim.release()


def test_only_one_process_computes_an_operation(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    name = one.add(facts(), REQUEST, free)
    claim = claimed(one, name)
    assert other.claim(name) is None
    assert one.claim(name) is None
    assert claim.begin() is None
    assert other.get(name, "ada").running
    claim.release()
    assert not other.get(name, "ada").running
    again = claimed(other, name)
    assert again.begin() is None
    assert again.attempt == 1
    again.finish(Failure(code_pb2.INTERNAL, "why"))
    assert one.claim(name) is None
    assert one.pending() == []


def test_callers_take_turns(tmp_path: Path) -> None:
    kept = store(tmp_path)
    first = [kept.add(facts("ada", created=time_), REQUEST, free) for time_ in (1.0, 2.0, 3.0)]
    later = kept.add(facts("bob", created=4.0), REQUEST, free)
    assert kept.pending() == [first[0], later, *first[1:]]


def test_an_operation_with_which_the_whole_server_ends_is_given_up_after_some_attempts(tmp_path: Path) -> None:
    name = store(tmp_path).add(facts(), REQUEST, free)
    for number in range(MAX_ATTEMPTS):
        claim = claimed(store(tmp_path, server=f"server {number}"), name)
        assert claim.begin() is None
        assert claim.attempt == number + 1
        _end_of_process(claim)
    refused = claimed(store(tmp_path), name).begin()
    assert refused is not None
    assert "not tried again" in refused.message


def test_a_full_disk_ends_an_operation_and_not_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(tmp_path)
    name = kept.add(facts(), REQUEST, free)
    claim = claimed(kept, name)
    assert claim.begin() is None
    write = durable_files.write_private

    def full(path: Path, data: bytes, **options: Any) -> None:
        if len(data) > 1000 or path.name == module.FACTS:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    monkeypatch.setattr(durable_files, "write_private", full)
    claim.finish(bytes(2000))
    end = kept.get(name, "ada").end
    assert end is not None
    assert end.code == code_pb2.RESOURCE_EXHAUSTED
    assert "No space left" in end.message
    with pytest.raises(NoSpace, match="No space left"):
        kept.add(facts(), REQUEST, free)
    assert kept.names() == [name]


def test_what_killed_processes_leave_behind_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store(tmp_path)
    name = kept.add(facts(), REQUEST, free)
    shutil.copytree(tmp_path / name, tmp_path / ".new-0123456789abcdef")
    (tmp_path / f".old-{name}-01234567").mkdir()
    kept.sweep()
    assert len(list(tmp_path.iterdir())) == 4  # they are young: their owners may have to lock them yet
    monkeypatch.setattr(module, "SECONDS_TO_LOCK", 0.0)
    kept.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {name, ".lock"}


def _end_of_process(claim: Claim) -> None:
    """Loses the lock as the end of the process would."""
    os.close(claim._locked)
