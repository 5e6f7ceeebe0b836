# SPDX-License-Identifier: Apache-2.0
"""`lstm-explain health` against a running server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.serving.running import Running


def health(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_explain.cli", "health", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


@pytest.mark.parametrize("service", ["", "lstm_explain.v1.ExplanationService", "model/lstm"])
def test_a_server_that_serves(running: Running, service: str) -> None:
    completed = health("--address", running.address, "--service", service)
    assert (completed.returncode, completed.stdout) == (0, "SERVING\n"), completed.stderr


@pytest.mark.parametrize("every", ["127.0.0.1", "0.0.0.0"])
def test_the_address_comes_from_the_environment(running: Running, every: str) -> None:
    """As HEALTHCHECK does in a container, whose settings are environment variables."""
    listen = f"{every}:{running.address.rsplit(':', 1)[1]}"
    completed = health(LSTM_EXPLAIN_LISTEN=listen)
    assert (completed.returncode, completed.stdout) == (0, "SERVING\n"), completed.stderr


def test_a_missing_server_is_reported_in_one_line(running: Running) -> None:
    for arguments, word in (
        (("--address", running.address, "--service", "model/none"), "NOT_FOUND"),
        (("--address", "127.0.0.1:1", "--timeout", "1"), "UNAVAILABLE"),
        (("--address", running.address, "--ca", "/no/such/file"), "/no/such/file"),
    ):
        completed = health(*arguments)
        assert completed.returncode != 0
        assert completed.stderr.startswith("lstm-explain: ")
        assert word in completed.stderr
        assert completed.stderr.count("\n") == 1
