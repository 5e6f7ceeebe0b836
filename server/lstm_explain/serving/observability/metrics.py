# SPDX-License-Identifier: Apache-2.0
"""Declares the Prometheus metrics of a server process."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from lstm_explain.model import Explanation

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PARTS = {
    "forward": "Time of the engine's forward pass, per run",
    "backward": "Time of the engine's backward pass, per run",
    "encode": "Time to convert arrays to a message, per request",
}
MAX_VERSIONS, OTHER = 100, "other"  # models, and versions of them, that metrics distinguish, in each process
TINY = float(np.finfo(np.float32).tiny)
RESIDUALS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


class Children(dict[Any, Any]):
    """Caches a metric's children by their labels: prometheus_client takes a lock and converts the labels every time."""

    def __init__(self, metric: Any) -> None:
        super().__init__()
        self.metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> Any:
        child = self[labels] = self.metric.labels(*labels)
        return child


class Metrics:
    """The metrics of one process. Those that every call updates by labels are Children."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.calls = Children(Counter("lstm_explain_calls", "Answered calls.", ["rpc", "code"], registry=registry))
        self.seconds = Children(
            Histogram(
                "lstm_explain_call_seconds",
                "Time from request to response.",
                ["rpc"],
                buckets=SECONDS,
                registry=registry,
            )
        )
        self.waiting = Histogram(
            "lstm_explain_queue_seconds", "Time that a request waits for a slot.", buckets=SECONDS, registry=registry
        )
        self.parts = {
            part: Histogram(f"lstm_explain_{part}_seconds", f"{what}.", buckets=SECONDS, registry=registry)
            for part, what in PARTS.items()
        }
        engine = "Time of the engine's forward and backward pass, per run."
        self.engine = Children(
            Histogram("lstm_explain_engine_seconds", engine, ["model", "method"], buckets=SECONDS, registry=registry)
        )
        self.version_requests = Children(
            Counter(
                "lstm_explain_version_requests",
                "Answered requests by the version of the model that was selected for them.",
                ["model", "version", "code"],
                registry=registry,
            )
        )
        self.version_seconds = Children(
            Histogram(
                "lstm_explain_version_seconds",
                "Time from request to response, by version of the model.",
                ["model", "version"],
                buckets=SECONDS,
                registry=registry,
            )
        )
        self._models: set[tuple[str, ...]] = set()
        self._versions: set[tuple[str, ...]] = set()
        self.batch = Histogram("lstm_explain_batch_size", "Samples per request.", buckets=SIZES, registry=registry)
        self.request_batching = Histogram(
            "lstm_explain_requests_together", "Requests per run, for runs that answer several requests.", buckets=SIZES,
            registry=registry,
        )  # fmt: skip
        self.left_out = Counter(
            "lstm_explain_left_out",
            "Samples (per target) that were predicted and not explained, because they do not meet a condition.",
            registry=registry,
        )
        residual = "Largest residual of the ledger, relative to the explained value."
        self.residual = Children(
            Histogram("lstm_explain_residual", residual, ["method"], buckets=RESIDUALS, registry=registry)
        )
        self.items = Children(
            Counter("lstm_explain_stream_items", "Answered requests in streams.", ["rpc", "code"], registry=registry)
        )
        self.web_refusals = Counter(
            "lstm_explain_web_refusals",
            "Requests to the page that were refused before they became a call.",
            ["why"],
            registry=registry,
        )
        self.signatures = Counter(
            "lstm_explain_model_signatures",
            "Checks of models' signatures by result: valid, missing, invalid.",
            ["result"],
            registry=registry,
        )
        self.refusals = Children(
            Counter(
                "lstm_explain_refusals",
                "Requests that were refused for who sent them: token, expired, role, model, requests, cost, streams.",
                ["why"],
                registry=registry,
            )
        )
        self.audit_lines = Children(
            Counter(
                "lstm_explain_audit_lines", "Lines of the audit log, written or lost.", ["outcome"], registry=registry
            )
        )
        self.audit_waiting = Gauge(
            "lstm_explain_audit_waiting",
            "Lines of the audit log that wait because it cannot be written.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.operations = Gauge(
            "lstm_explain_operations",
            "Operations in the folder by state: unfinished, ended, damaged.",
            ["state"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.operations_ended = Children(
            Counter("lstm_explain_operations_ended", "Operations that have ended.", ["code"], registry=registry)
        )
        self.operation_retries = Counter(
            "lstm_explain_operation_retries",
            "Attempts at operations after the first, which a process or a server left behind.",
            registry=registry,
        )
        self.at_work = Gauge(
            "lstm_explain_calls_at_work",
            "Calls that have not been answered yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.models = Gauge(
            "lstm_explain_models",
            "Model versions by state.",
            ["state"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def expect(self, rpc: str, model: str, method: str) -> None:
        """Creates the children for such calls, so that they count from 0 and the first call need not create them."""
        (name,) = _bounded(self._models, (model,))
        _ = self.calls[rpc, "OK"], self.seconds[(rpc,)], self.engine[name, method], self.residual[(method,)]

    def ran(self, model: str, method: str, seconds: float) -> None:
        """Counts a run of the engine. Beyond MAX_VERSIONS models, all further ones count as OTHER."""
        (name,) = _bounded(self._models, (model,))
        self.engine[name, method].observe(seconds)

    def answered(self, model: str, version: str, code: str, seconds: float) -> None:
        """Counts a request for which a version was selected. Beyond MAX_VERSIONS, all further ones count as OTHER."""
        which = _bounded(self._versions, (model, version))
        self.version_requests[*which, code].inc()
        self.version_seconds[which].observe(seconds)

    def explained(self, explanation: Explanation) -> None:
        """Counts the samples and the residual of an explanation."""
        explained, residual = explanation.explained.tolist(), explanation.ledger.residual.tolist()
        self.batch.observe(len(explained))
        if explanation.not_explained:
            left_out = list(map(bool, explanation.not_explained))
            self.left_out.inc(sum(left_out))
            explained, residual = (
                [v for v, out in zip(a, left_out, strict=True) if not out] for a in (explained, residual)
            )
            if all(left_out):
                return
        shares = (abs(rest) / max(abs(value), TINY) for rest, value in zip(residual, explained, strict=True))
        self.residual[(explanation.method.name,)].observe(max(shares, default=0.0))


def _bounded(known: set[tuple[str, ...]], labels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the labels, which become known; OTHER for each of them if they are not, and MAX_VERSIONS are."""
    if labels not in known:
        if len(known) >= MAX_VERSIONS:
            return (OTHER,) * len(labels)
        known.add(labels)
    return labels


class _NullMetrics:
    """Ignores every operation."""

    def __getattr__(self, _: str) -> Any:
        return self

    def __getitem__(self, _: object) -> Any:
        return self

    def __call__(self, *_: object) -> Any:
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


# For the warm-up. A second registry would not do: processes that share metrics share them by name.
DISCARDED = cast(Metrics, _NullMetrics())
