# SPDX-License-Identifier: Apache-2.0
"""Traces calls and their parts with OpenTelemetry. Traces are off by default.

They need the extra `lstm-explain[otel]`. OpenTelemetry's environment variables say where spans are sent to,
OTEL_EXPORTER_OTLP_ENDPOINT above all. A caller's `traceparent` (W3C Trace Context) makes its span the parent of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lstm_explain.errors import Error

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Metadata = Iterable[tuple[str, str | bytes]]


class Span:
    """A span that records nothing."""

    trace_id = ""

    def note(self, key: str, value: str | int | float) -> None:
        """Adds an attribute."""

    def child(self, name: str, start: int, end: int, **attributes: str | int | float) -> None:
        """Adds a part that has already ended; start and end are values of time.time_ns()."""

    def begin(self, name: str) -> Span:
        """Begins a part; it is the current span until it ends."""
        return self

    def end(self, code: str) -> None:
        """Ends the span. code: the name of a gRPC status."""


NOTHING = Span()
_current: ContextVar[Span] = ContextVar("lstm_explain_span", default=NOTHING)
_tracer: Tracer | None = None
_provider: TracerProvider | None = None


class _RecordedSpan(Span):
    """A span that OpenTelemetry records."""

    def __init__(self, tracer: Tracer, name: str, kind: Any, parent: Any) -> None:
        self._tracer, self._outer = tracer, _current.get()
        self._span = tracer.start_span(name, parent, kind=kind)
        self.trace_id = format(self._span.get_span_context().trace_id, "032x")
        _current.set(self)

    def note(self, key: str, value: str | int | float) -> None:
        self._span.set_attribute(key, value)

    def child(self, name: str, start: int, end: int, **attributes: str | int | float) -> None:
        span = self._tracer.start_span(name, self._inside(), attributes=attributes, start_time=start)
        span.end(end)

    def begin(self, name: str) -> Span:
        from opentelemetry.trace import SpanKind

        return _RecordedSpan(self._tracer, name, SpanKind.INTERNAL, self._inside())

    def end(self, code: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self.note("rpc.grpc.status_code", code)
        if code != "OK":
            self._span.set_status(Status(StatusCode.ERROR, code))
        self._span.end()
        _current.set(self._outer)

    def _inside(self) -> Any:
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self._span)


def set_up() -> None:
    """Switches tracing on. Raises Error where the extra is not installed."""
    global _tracer, _provider
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Error("--traces needs the extra `otel`: pip install 'lstm-explain[otel]'") from error
    service = os.environ.get("OTEL_SERVICE_NAME", "lstm-explain")
    _provider = TracerProvider(resource=Resource.create({"service.name": service}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("lstm_explain")


def shut_down() -> None:
    """Sends the spans that have not been sent yet."""
    if _provider is not None:
        _provider.shutdown()


def start(rpc: str, metadata: Metadata) -> Span:
    """Begins the span of a call."""
    if _tracer is None:
        return NOTHING
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried = {key: value for key, value in metadata if key in ("traceparent", "tracestate") and isinstance(value, str)}
    return _RecordedSpan(_tracer, rpc, SpanKind.SERVER, TraceContextTextMapPropagator().extract(carried))


def current() -> Span:
    """Returns the current span, of the call or the part that this context works for."""
    return _current.get()
