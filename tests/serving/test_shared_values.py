"""Metrics that several processes share in files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, multiprocess

# Two thousand labels, so that the file grows and is mapped anew under the values that are there.
PROGRAM = """
import threading
from lstm_explain.serving.observability import shared_values
shared_values.use()
from lstm_explain.serving.observability.metrics import Metrics
metrics = Metrics()
calls, seconds = metrics.calls["Explain", "OK"], metrics.seconds[("Explain",)]
calls.inc()
for i in range(2000):
    metrics.calls[f"{'long' * 50}{i}", "OK"].inc(i)
def count():
    for _ in range(1000):
        calls.inc()
        seconds.observe(0.002)
threads = [threading.Thread(target=count) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
metrics.models.labels("ready").set(3)
"""


def test_counts_of_processes_are_added_up(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=120)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(tmp_path))
    lines = generate_latest(registry).decode().splitlines()
    found = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}
    assert found['lstm_explain_calls_total{code="OK",rpc="Explain"}'] == 2 * 4001
    assert found[f'lstm_explain_calls_total{{code="OK",rpc="{"long" * 50}1999"}}'] == 2 * 1999
    assert found['lstm_explain_call_seconds_count{rpc="Explain"}'] == 2 * 4000
    assert found['lstm_explain_call_seconds_bucket{le="0.0025",rpc="Explain"}'] == 2 * 4000
    assert found['lstm_explain_call_seconds_bucket{le="0.001",rpc="Explain"}'] == 0
    assert found['lstm_explain_models{state="ready"}'] == 3
