# SPDX-License-Identifier: Apache-2.0
"""A server with batching, requests that are sent at once, and the number of requests per run."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.serving.calling import stub
from tests.serving.running import Running, serving


@dataclass(frozen=True)
class Served:
    running: Running
    metrics: str

    def request_batching(self) -> tuple[int, int]:
        """The number of runs that answered several requests, and of those requests."""
        text = urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5).read().decode()
        # The order of the two differs between one process and several.
        found = dict(re.findall(r"^lstm_explain_requests_together_(count|sum) (\S+)$", text, re.MULTILINE))
        return int(float(found["count"])), int(float(found["sum"]))


@contextmanager
def served(folder: Path, *flags: str) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with serving(folder, "--metrics-listen", address, "--parallel", "1", *flags) as running:
        yield Served(running, address)


def at_once(server: Served, requests: list[Any], timeout: float = 60) -> list[Any]:
    """The answers or errors of requests that are sent at the same time."""
    with server.running.channel() as channel:
        calls = [stub(channel).Explain.future(r, timeout=timeout) for r in requests]
        return [call.exception() or call.result() for call in calls]
