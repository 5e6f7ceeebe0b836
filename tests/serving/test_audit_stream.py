# SPDX-License-Identifier: Apache-2.0
"""The stream of the audit log never blocks, and loses no line without saying so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from lstm_explain.serving.audit import stream as module
from lstm_explain.serving.audit.destination import STDOUT
from lstm_explain.serving.audit.stream import AuditStream, moment
from lstm_explain.serving.observability.metrics import Metrics


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_ATTEMPTS", 0.01)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.0)
    return CollectorRegistry()


def line(number: int) -> bytes:
    return json.dumps({"number": number}).encode() + b"\n"


def numbers(text: str) -> list[int]:
    return [json.loads(one).get("number", -1) for one in text.splitlines()]


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def test_lines_wait_in_order_until_they_can_be_written(tmp_path: Path, registry: CollectorRegistry) -> None:
    path = tmp_path / "later" / "log"
    stream = AuditStream(str(path), -1, Metrics(registry))
    for number in range(10):
        stream.write(line(number))
    assert registry.get_sample_value("lstm_explain_audit_waiting") == 10
    path.parent.mkdir()
    until(lambda: registry.get_sample_value("lstm_explain_audit_waiting") == 0)
    stream.write(line(10))
    assert numbers(path.read_text()) == list(range(11))
    assert registry.get_sample_value("lstm_explain_audit_lines_total", {"outcome": "written"}) == 11


def test_lost_lines_are_counted_and_leave_a_line(
    tmp_path: Path, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 3 * len(line(0)))
    path = tmp_path / "later" / "log"
    stream = AuditStream(str(path), -1, Metrics(registry))
    for number in range(8):
        stream.write(line(number))
    assert registry.get_sample_value("lstm_explain_audit_lines_total", {"outcome": "lost"}) == 5
    path.parent.mkdir()
    until(lambda: path.is_file() and len(path.read_text().splitlines()) == 4)
    stream.write(line(8))
    written = [json.loads(one) for one in path.read_text().splitlines()]
    assert [one.get("number") for one in written] == [0, 1, 2, None, 8]
    assert (written[3]["event"], written[3]["lines"]) == ("lost", 5)


def test_a_full_disk_stops_nobody(registry: CollectorRegistry) -> None:
    stream = AuditStream("/dev/full", -1, Metrics(registry))
    for number in range(5):
        stream.write(line(number))
    assert registry.get_sample_value("lstm_explain_audit_waiting") == 5
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 5
    assert registry.get_sample_value("lstm_explain_audit_lines_total", {"outcome": "lost"}) == 5


def test_a_pipe_that_nobody_reads_stops_nobody(registry: CollectorRegistry) -> None:
    reading, writing = os.pipe()
    stream = AuditStream(STDOUT, writing, Metrics(registry))
    count, began = 20_000, time.monotonic()
    for number in range(count):
        stream.write(line(number))
    assert time.monotonic() - began < 10
    assert registry.get_sample_value("lstm_explain_audit_waiting") > 0
    data = b""
    while data.count(b"\n") < count:
        data += os.read(reading, 1 << 16)
    assert numbers(data.decode()) == list(range(count))


def test_a_renamed_file_is_begun_again(tmp_path: Path, registry: CollectorRegistry) -> None:
    path = tmp_path / "log"
    stream = AuditStream(str(path), -1, Metrics(registry))
    stream.write(line(0))
    path.rename(tmp_path / "log.1")
    stream.write(line(1))
    path.unlink()
    stream.write(line(2))
    assert numbers((tmp_path / "log.1").read_text()) == [0]
    assert numbers(path.read_text()) == [2]


def test_a_moment_is_in_utc() -> None:
    assert moment(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
