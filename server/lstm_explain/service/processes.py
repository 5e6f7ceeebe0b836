"""How much memory the server's processes hold, as a Prometheus metric."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PAGE = os.sysconf("SC_PAGE_SIZE")


class Resident(Collector):
    """Read when it is asked for. processes: the ids of those that are there at the moment."""

    def __init__(self, processes: Callable[[], Iterable[int]]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        total = GaugeMetricFamily("lstm_explain_resident_bytes", "Memory that is resident, of all processes.")
        total.add_metric([], sum(map(resident, self._processes())))
        yield total


def resident(process: int) -> int:
    """Bytes; 0 where there is no such process (any more), or no /proc."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0
