"""Exports memory, files and the state of the workers as Prometheus metrics of the parent process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lstm_explain.serving.procfs import open_files, resident_bytes


@dataclass(frozen=True)
class WorkerCounts:
    """What the parent knows of its workers.

    replaced: workers that ended and were replaced. spares: workers that are ready to replace another one. quarantined:
    model versions in quarantine. connections, most_connections: open to all workers, and their limit.
    """

    replaced: int = 0
    spares: int = 0
    quarantined: int = 0
    connections: int = 0
    most_connections: int = 0


class ProcessMetrics(Collector):
    """Collects the metrics when Prometheus reads them. pids: returns the ids of the current processes."""

    def __init__(self, pids: Callable[[], Iterable[int]], counts: Callable[[], WorkerCounts] = WorkerCounts) -> None:
        self._pids = pids
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        pids, counts = list(self._pids()), self._counts()
        memory, files = sum(map(resident_bytes, pids)), max(map(open_files, pids), default=0)
        yield GaugeMetricFamily("lstm_explain_resident_bytes", "Resident memory of all processes.", memory)
        yield GaugeMetricFamily("lstm_explain_open_files", "Open files of the process with the most open files.", files)
        help_text = "Workers that ended and were replaced."
        yield CounterMetricFamily("lstm_explain_workers_replaced", help_text, counts.replaced)
        help_text = "Workers that are ready to replace a worker that ends."
        yield GaugeMetricFamily("lstm_explain_workers_spare", help_text, counts.spares)
        help_text = "Model versions that are not served because workers crashed while they ran."
        yield GaugeMetricFamily("lstm_explain_models_quarantined", help_text, counts.quarantined)
        help_text = "Open gRPC connections to all workers."
        yield GaugeMetricFamily("lstm_explain_connections", help_text, counts.connections)
        help_text = "Limit of gRPC connections to all workers."
        yield GaugeMetricFamily("lstm_explain_connections_limit", help_text, counts.most_connections)
