"""OpenTelemetry spans of calls and their parts; nothing at all where traces are off, which is the default.

The extra `lstm-explain[otel]` has what it takes. Where spans go is said by OpenTelemetry's own environment variables,
OTEL_EXPORTER_OTLP_ENDPOINT above all; a caller's `traceparent` (W3C Trace Context) makes its span the parent of ours.
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
    """One piece of work that is not traced."""

    trace_id = ""

    def note(self, key: str, value: str | int | float) -> None:
        """Adds an attribute."""

    def child(self, name: str, start: int, end: int, **attributes: str | int | float) -> None:
        """A part that is over already; start and end are time.time_ns()."""

    def begin(self, name: str) -> Span:
        """A part that begins now."""
        return self

    def end(self, code: str) -> None:
        """Ends it, with the name of a gRPC status."""


NOTHING = Span()
_current: ContextVar[Span] = ContextVar("lstm_explain_span", default=NOTHING)
_tracer: Tracer | None = None
_provider: TracerProvider | None = None


class _Recorded(Span):
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

        return _Recorded(self._tracer, name, SpanKind.INTERNAL, self._inside())

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
    """From now on calls are traced. Raises Error where the extra is not installed."""
    global _tracer, _provider
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Error("--traces takes the extra: pip install 'lstm-explain[otel]'") from error
    named = os.environ.get("OTEL_SERVICE_NAME", "lstm-explain")
    _provider = TracerProvider(resource=Resource.create({"service.name": named}))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("lstm_explain")


def shut_down() -> None:
    """Sends what has not been sent."""
    if _provider is not None:
        _provider.shutdown()


def start(rpc: str, metadata: Metadata) -> Span:
    """The span of a call that begins now in this thread."""
    if _tracer is None:
        return NOTHING
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried = {key: value for key, value in metadata if key in ("traceparent", "tracestate") and isinstance(value, str)}
    return _Recorded(_tracer, rpc, SpanKind.SERVER, TraceContextTextMapPropagator().extract(carried))


def current() -> Span:
    """The span of the call that this thread works for."""
    return _current.get()
