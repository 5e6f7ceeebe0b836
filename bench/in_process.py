# SPDX-License-Identifier: Apache-2.0
"""Measures the parts of one request without the wire, by running the code of the service in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.request_limits import Limits
from lstm_explain.serving.calls import Calls
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.execution.explainer import Explainer, read_text
from lstm_explain.serving.models.manager import ModelManager
from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.scheduling.admission import Admission, ConcurrencyLimit, PendingCall, Slots, StreamPermits
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain.serving.wire import from_answer, probe_request, to_query
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

ROUNDS, TIMES, WORDS = 40, 25, 18
MOST = 64  # requests at once
METHOD = "/lstm_explain.v1.ExplanationService/Explain"


class Context:
    """The part of a gRPC context that the service uses."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, _: object) -> None: ...

    def time_remaining(self) -> float | None:
        return None


def explain_handler(models: Path, *, warm: bool = True) -> tuple[ModelManager, Any]:
    """Return the server's gRPC handler of Explain for the models in a folder, with everything around a call.

    warm: every model has answered often enough to be known as short.
    """
    repository = ModelManager(models)
    repository.load()
    metrics, limit = Metrics(CollectorRegistry()), ConcurrencyLimit(MOST, "requests")
    admission, background = Admission(limit, limit, StreamPermits(limit, 1), 1), BackgroundThreads(1)
    servicer = ExplanationServicer(Explainer(repository, Slots(MOST), metrics, background), admission)
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.Explain,
        request_deserializer=explanation_pb2.ExplainRequest.FromString,
        response_serializer=explanation_pb2.ExplainResponse.SerializeToString,
    )
    details: Any = SimpleNamespace(method=METHOD, invocation_metadata=())

    async def found(_: object) -> Any:
        return handler

    wrapped = stepped(Calls(metrics, Access(None), background).intercept_service(found, details))
    for served in repository.snapshot if warm else ():
        for _ in range(TIMES):
            asyncio.run(wrapped.unary_unary(probe_request(served, WORDS), Context()))
    return repository, wrapped


def stepped(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that never waits, such as that of a short request."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waits for something")


def pieces(models: Path, message: bytes) -> dict[str, float]:
    """Return the microseconds by part: the minimum of many rounds of single calls, with everything in the cache."""
    repository, wrapped = explain_handler(models)
    context = Context()

    request = explanation_pb2.ExplainRequest.FromString(message)
    served = repository.ready(request.model)
    job = Job(served, PendingCall(None))
    job.request = to_query(request, served)
    texts = dict(job.request.inputs)
    read_text(served, job.request, Limits())
    inputs, method, target = job.request.inputs, job.request.method or served.default_method, job.request.target
    job.answer = served.model.explain(inputs, method, target)

    def tokens() -> None:
        read_text(served, ModelRequest(texts), Limits())

    least = _least(
        {
            "all": lambda: wrapped.response_serializer(
                stepped(wrapped.unary_unary(wrapped.request_deserializer(message), context))
            ),
            "engine": lambda: served.model.explain(inputs, method, target),
            "text to tokens": tokens,
            "message to arrays, method, target": lambda: to_query(
                explanation_pb2.ExplainRequest.FromString(message), served
            ),
            "answer to message": lambda: from_answer(job).SerializeToString(),
        }
    )
    rest = least["all"] - sum(value for name, value in least.items() if name != "all")
    return least | {"limits, metrics, request id, deadline, slots": rest}


def _least(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    least = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            work()
            start = time.perf_counter()
            for _ in range(TIMES):
                work()
            least[name] = min(least[name], (time.perf_counter() - start) / TIMES * 1e6)
    return least
