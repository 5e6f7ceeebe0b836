# SPDX-License-Identifier: Apache-2.0
"""Batch jobs that are started, watched and cancelled over the wire."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from lstm_explain.errors import InputError
from lstm_explain.serving.errors import NotOffered, TooLate
from lstm_explain.serving.operations.batch_paths import folder_of, paths_of
from lstm_explain.serving.operations.batch_work import BatchWork
from lstm_explain.serving.operations.entry import Facts
from lstm_explain.serving.operations.store import OperationStore, StoreLimits
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain_client import BatchSummary, Cancelled, Client, ExplainError, InvalidRequest, Overloaded
from lstm_explain_proto.lstm_explain.v1 import operation_pb2 as pb
from tests.batch.data import pq, weather, write
from tests.serving.running import Running, serving

ADA, BOB, EVE = "ada-0123456789abcdef", "bob-0123456789abcdef", "eve-0123456789abcdef"
TOKENS = f"""
tokens:
  - {{name: the pipeline, token: {ADA}, roles: [explain, batch]}}
  - {{name: bob, token: {BOB}, roles: [batch], quota: {{requests_per_minute: 1}}}}
  - {{name: eve, token: {EVE}, roles: [explain]}}
"""
SLOW = {"method": "shapley_sampling", "parameters": {"permutations": 10_000}}


def until(condition: Callable[[], Any], seconds: float = 600.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "this does not happen"
        time.sleep(0.05)
    return found


def jobs(server: Running) -> list[int]:
    """The processes of batch jobs."""
    lines = {process: Path(f"/proc/{process}/cmdline") for process in server.family()}
    return [process for process, line in lines.items() if line.exists() and b"\0batch\0" in line.read_bytes()]


def test_a_batch_job_is_started_watched_and_cancelled_over_the_wire(tmp_path: Path) -> None:
    root, tokens = tmp_path / "files", tmp_path / "tokens.yaml"
    (own := root / "the pipeline").mkdir(parents=True)
    (root / "bob").mkdir()
    tokens.write_text(TOKENS)
    write(own / "rows.parquet", weather(40))
    write(root / "bob" / "rows.parquet", weather(20))
    flags = ("--operations-folder", str(tmp_path / "operations"), "--batch-folder", str(root), "--tokens", str(tokens))
    with serving(Path("models"), *flags) as server:
        with Client(server.address, token=ADA) as client:
            job = client.start_batch("discharge", "rows.parquet", "out/lrp", method="lrp", key="id")
            summary = job.result(timeout=600)
            assert isinstance(summary, BatchSummary)
            assert (summary.rows, summary.failed) == (40, 0)
            assert (job.kind, job.state, job.progress) == ("batch", "succeeded", (40, 40))
            written = pq.read_table(own / "out" / "lrp" / "rows")
            assert written["key"].to_pylist() == [f"row {i}" for i in range(40)]
            wrong = client.start_batch("discharge", "rows.parquet", "out/wrong", target="no_such_output:0")
            with pytest.raises(ExplainError, match="no_such_output") as failed:
                wrong.result(timeout=600)
            assert str(tmp_path) not in str(failed.value)
            slow = client.start_batch("discharge", "rows.parquet", "out/slow", **SLOW)
            until(lambda: slow.refresh().state == "running" and jobs(server))
            (running,) = jobs(server)
            slow.cancel()
            with pytest.raises(Cancelled):
                slow.result(timeout=600)
            until(lambda: not Path(f"/proc/{running}").exists())
            slow = client.start_batch("discharge", "rows.parquet", "out/slow", **SLOW)
            until(lambda: slow.refresh().state == "running" and jobs(server))
            (running,) = jobs(server)
        with Client(server.address, token=BOB) as bob:  # with the role `batch` alone
            with pytest.raises(InvalidRequest, match="there is no such file"):
                bob.start_batch("discharge", "nothing.parquet", "out")
            waiting = bob.start_batch("discharge", "rows.parquet", "out", method="lrp")
            with pytest.raises(Overloaded):
                bob.start_batch("discharge", "rows.parquet", "out2", method="lrp")
        with Client(server.address, token=EVE) as eve, pytest.raises(ExplainError, match="role 'batch'") as refused:
            eve.start_batch("discharge", "rows.parquet", "out")
        assert refused.value.code == grpc.StatusCode.PERMISSION_DENIED
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        until(lambda: not Path(f"/proc/{running}").exists())  # a job does not outlive its server
    with serving(Path("models"), *flags) as server, Client(server.address, token=ADA) as client:
        again = client.operation(slow.name)
        until(lambda: again.refresh().state == "running" and again.attempts == 2)
        again.cancel()
        with Client(server.address, token=BOB) as bob:
            done = bob.operation(waiting.name).result(timeout=600)
            assert isinstance(done, BatchSummary)
            assert done.rows == 20


async def test_an_attempt_at_a_batch_job_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", weather(40))
    request = pb.StartBatchRequest(model="discharge", input="rows.parquet", output="out", method="lrp")
    data = request.SerializeToString()
    digest = hashlib.sha256(data).hexdigest()
    facts = Facts("batch", "", "", "call", "peer", "", "discharge", "1", digest, time.time())
    kept = OperationStore(tmp_path / "operations", StoreLimits(10, 10_000, 100.0), "server")
    claim = kept.claim(kept.add(facts, data, lambda: None))
    assert claim is not None
    work = BatchWork(Path("models"), tmp_path, None, None, lambda source: None, most_seconds=1e-9)
    with pytest.raises(TooLate, match="--max-operation-seconds"):
        await work(claim, PendingCall(None), lambda done, total: None)
    claim.release()


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../other/rows.npy", "a/../../other", "a//b", ".hidden", "a/./b", "a\0b", "a\nb", "x" * 2000,
     "link/rows.npy", "a/link.npy", "linked"],
)  # fmt: skip
def test_no_path_leaves_the_folder(tmp_path: Path, path: str) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    (own / "a").mkdir(parents=True)
    (own / "linked").mkdir()
    other.mkdir()
    (other / "rows.npy").write_bytes(b"")
    (own / "link").symlink_to(other)
    (own / "a" / "link.npy").symlink_to(other / "rows.npy")
    (own / "linked" / "deep.npy").symlink_to(other / "rows.npy")
    (own / "good.npy").write_bytes(b"")
    with pytest.raises(InputError) as refused:
        paths_of(own, path, "out")
    assert refused.value.field == "input"
    if path not in ("linked", "a/link.npy"):
        with pytest.raises(InputError) as refused:
            paths_of(own, "good.npy", path)
        assert refused.value.field == "output"


def test_an_output_is_a_folder_outside_the_input(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.npy").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    found = paths_of(tmp_path, "in", "new/out")
    assert (found.input, found.output) == (tmp_path / "in", tmp_path / "new" / "out")
    for output in ("in", "in/out", "in/rows.npy", "link", "link/out"):
        with pytest.raises(InputError):
            paths_of(tmp_path, "in", output)


def test_each_token_has_the_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ada")
    assert folder_of(tmp_path, "ada") == tmp_path / "ada"
    assert folder_of(tmp_path, "") == tmp_path
    for name in ("bob", "..", ".", "ada/../ada", "link"):
        with pytest.raises(NotOffered):
            folder_of(tmp_path, name)
