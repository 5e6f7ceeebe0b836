# SPDX-License-Identifier: Apache-2.0
"""Exports memory, files and the state of the workers as Prometheus metrics of the parent process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from platform import machine, python_version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lstm_explain import __version__
from lstm_explain.serving.drift.summaries import VersionDrift
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
    """Collects the metrics when Prometheus reads them. pids: returns the ids of the current processes. drifts: returns
    the drift of each version that is measured.
    """

    def __init__(
        self,
        pids: Callable[[], Iterable[int]],
        counts: Callable[[], WorkerCounts] = WorkerCounts,
        drifts: Callable[[], Iterable[VersionDrift]] = tuple,
    ) -> None:
        self._pids = pids
        self._counts = counts
        self._drifts = drifts
        labels = ("version", "python", "onnxruntime", "numpy", "machine")
        self._build = GaugeMetricFamily("lstm_explain_build_info", "Always 1; the labels say what runs.", labels=labels)
        self._build.add_metric((__version__, python_version(), version("onnxruntime"), version("numpy"), machine()), 1)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        pids, counts = list(self._pids()), self._counts()
        memory, files = sum(map(resident_bytes, pids)), max(map(open_files, pids), default=0)
        yield self._build
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
        yield from self._drift()

    def _drift(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        labels = ("model", "version")
        help_text = (
            "Distance of recent relevance from the model's reference, relative to what chance explains: above 1, "
            "relevance has drifted."
        )
        distance = GaugeMetricFamily("lstm_explain_relevance_drift", help_text, labels=labels)
        help_text = "Explanations that were compared with the model's reference."
        samples = CounterMetricFamily("lstm_explain_relevance_drift_samples", help_text, labels=labels)
        for one in self._drifts():
            which = one.model, str(one.version)
            samples.add_metric(which, one.samples)
            if one.drift is not None:
                distance.add_metric(which, one.drift)
        yield distance
        yield samples
