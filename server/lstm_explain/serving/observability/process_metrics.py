"""What the operating system knows of the server's processes, as Prometheus metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Counts:
    """What the parent knows of its workers: how many have ended, stand ready; models in quarantine; connections, and
    how many there may be.
    """

    replaced: int = 0
    spares: int = 0
    quarantined: int = 0
    connections: int = 0
    most_connections: int = 0


class ProcessMetrics(Collector):
    """Read when it is asked for.

    ids: of the processes that are there at the moment.
    """

    def __init__(self, ids: Callable[[], Iterable[int]], counts: Callable[[], Counts] = Counts) -> None:
        self._ids = ids
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        ids, counts = list(self._ids()), self._counts()
        memory, files = sum(map(resident, ids)), max(map(open_files, ids), default=0)
        yield GaugeMetricFamily("lstm_explain_resident_bytes", "Memory that is resident, of all processes.", memory)
        yield GaugeMetricFamily("lstm_explain_open_files", "File descriptors of the process that has most.", files)
        told = "Workers that ended and were replaced."
        yield CounterMetricFamily("lstm_explain_workers_replaced", told, counts.replaced)
        told = "Workers that stand ready to take the place of one that ends."
        yield GaugeMetricFamily("lstm_explain_workers_spare", told, counts.spares)
        told = "Model versions that are not served because workers crashed while they ran."
        yield GaugeMetricFamily("lstm_explain_models_quarantined", told, counts.quarantined)
        told = "Connections for gRPC that are open, to all workers."
        yield GaugeMetricFamily("lstm_explain_connections", told, counts.connections)
        told = "Connections for gRPC that all workers may have."
        yield GaugeMetricFamily("lstm_explain_connections_limit", told, counts.most_connections)


def resident(process: int) -> int:
    """Bytes; 0 where there is no such process (any more), or no /proc."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0


def open_files(process: int) -> int:
    """File descriptors; 0 where there is no such process (any more), or no /proc."""
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0
