# SPDX-License-Identifier: Apache-2.0
"""Calls that are opened and reset at once, by thousands: they hold little memory, give it back when they are over, and
other callers are served.
"""

from __future__ import annotations

import time
from pathlib import Path

from grpc_health.v1 import health_pb2, health_pb2_grpc

from lstm_explain.serving.procfs import resident_bytes
from tests.serving import http2
from tests.serving.calling import infer, request, stub
from tests.serving.models import lstm, write_version
from tests.serving.running import serving
from tests.serving.test_workers import until

MIB = 1 << 20
CALLS = {
    "/lstm_explain.v1.ExplanationService/Explain": request().SerializeToString(),
    "/inference.GRPCInferenceService/ModelInfer": infer().SerializeToString(),
}
AT_ONCE, TIMES = 100, 80


def test_resets_take_little_memory_and_cancel_no_other_calls(tmp_path: Path) -> None:
    """32,000 streams. All that were waiting to be accepted counted, which took 80 MiB and cancelled others' calls."""
    write_version(tmp_path, "lstm", lstm())
    with serving(tmp_path, "--no-spare") as server, server.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        stub(channel).Explain(request(), timeout=60)
        (worker,) = server.workers()
        before = resident_bytes(worker)
        for path, message in CALLS.items():
            for body in (None, message):
                with http2.connected(server.address) as connection:
                    for _ in range(TIMES):
                        streams = connection.begin(path, body, AT_ONCE)
                        time.sleep(0.01)  # so that some of the calls have begun
                        connection.reset(streams)
                    assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status
                    assert stub(channel).Explain(request(), timeout=60).model == "lstm"
        assert resident_bytes(worker) - before < 50 * MIB
        until(lambda: resident_bytes(worker) - before < 12 * MIB)  # what stayed in glibc's heaps were 24
