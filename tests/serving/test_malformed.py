# SPDX-License-Identifier: Apache-2.0
"""Thousands of malformed requests cause no crash, no hang, no leak and no internal error."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.serving.procfs import resident_bytes
from tests.serving.calling import array_of, request, sequence, stub, tensor
from tests.serving.malformed import EXPLAIN, malformed
from tests.serving.running import Running, serving

# Large work leaves memory behind that comes and goes by hundreds of megabytes, in which a leak would not be seen.
LIMITS = ("--max-samples", "20000", "--max-steps", "20000", "--max-request-bytes-estimate", "20000000")
STORMS = 20
# What a caller's own fault may come to. DEADLINE_EXCEEDED would be a hang, INTERNAL and UNKNOWN the server's fault.
FINE = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"),
    "ALREADY_EXISTS",
}


@pytest.fixture
def folder(models_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models_folder, tmp_path / "models"))


@pytest.fixture
def server(folder: Path) -> Iterator[Running]:
    """A server that allows imports. One malloc arena, since the fluctuation of several would hide a leak."""
    flags = (*LIMITS, "--max-message-bytes", "4000000", "--allow-import")
    with serving(folder, *flags, MALLOC_ARENA_MAX="1") as server:
        yield server


def send(channel: grpc.Channel, method: str, messages: list[bytes]) -> str:
    """Sends a request, and returns the name of the status."""
    try:
        list(channel.stream_stream(method)(iter(messages), timeout=60))
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def storm(server: Running, count: int, seed: int) -> Counter[str]:
    """Sends `count` malformed requests from four callers, and counts their statuses."""

    def some(number: int) -> Counter[str]:
        rng = random.Random(f"{seed} {number}")
        with server.channel() as channel:
            return Counter(send(channel, *malformed(rng)) for _ in range(count // 4))

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(some, range(4)), Counter())


def check(server: Running, count: int, folder: Path, warm_up: int = 0) -> tuple[Counter[str], float]:
    """How requests ended, and by what share the least memory of the last third is above that of the first third.

    warm_up: requests before that, which fill what is kept on purpose: compiled plans, pools of threads and of memory.
    """
    there = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    ended, sizes = storm(server, warm_up, STORMS), []
    for seed in range(STORMS):
        ended += storm(server, count // STORMS, seed)
        sizes.append(sum(map(resident_bytes, server.family())))
    third = STORMS // 3
    growth = min(sizes[-third:]) / min(sizes[:third]) - 1
    assert server.process.poll() is None
    assert set(ended) <= FINE, ended
    assert "Traceback" not in server.logged()
    with server.channel() as channel:
        answer = stub(channel).Explain(request(version="1"), timeout=20)
    expected = lx.load(folder / "lstm" / "1" / "model.onnx").explain({"x": sequence()})
    np.testing.assert_array_equal(array_of(answer.relevance[0]), expected.relevance["x"])
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in there} == there
    brought = {path.relative_to(folder).parts[0] for path in after.keys() - there.keys()}
    assert brought <= {".staging", "fuzzed"}
    return ended, growth


def test_malformed_requests_do_no_harm(server: Running, folder: Path) -> None:
    ended, growth = check(server, 1000, folder)
    assert ended["INVALID_ARGUMENT"] > 300
    assert growth < 0.5  # caches still fill up; the long run holds it to 5 %


@pytest.mark.slow
def test_ten_thousand_malformed_requests_do_no_harm(server: Running, folder: Path) -> None:
    ended, growth = check(server, 10_000, folder, warm_up=5000)
    print(f"ended: {dict(ended)}, memory grew by {growth:.1%}")
    assert growth < 0.05


def test_a_compressed_message_is_limited_by_its_full_size(server: Running) -> None:
    """A request of 400 MB that takes 400 KB on the wire."""
    before = sum(map(resident_bytes, server.family()))
    big = tensor("x", np.zeros((1, 25_000_000, 4), np.float32))
    data = request(inputs=[big]).SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        method = channel.unary_unary(EXPLAIN)
        with pytest.raises(grpc.RpcError) as raised:
            method(data, timeout=60, compression=grpc.Compression.Gzip)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sum(map(resident_bytes, server.family())) < before + 100_000_000
