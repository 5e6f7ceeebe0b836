"""Requests that go the whole way of a call before the server says that it is ready, so that no caller is the first.

What is slow the first time is spread over the whole way: gRPC's Python, ours (the interpreter adapts code that has run
a few times), allocators, caches, threads that are not there yet. So they go over a socket, to a server of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import grpc

from lstm_explain.serving.calls import Calls
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.observability.metrics import FORGOTTEN
from lstm_explain.serving.registration import Methods
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.scratch import scratch
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2_grpc

log = logging.getLogger(__name__)

Explain = Callable[..., bytes]
METHOD = "/lstm_explain.v1.ExplanationService/Explain"
TIMES, SECONDS = 5, 0.2  # for each request, whichever is over first
PATIENCE = 10.0  # seconds for one


def warm_up(
    servicer: ExplanationServicer, loop: Loop, background: BackgroundThreads, requests: Iterable[pb.ExplainRequest]
) -> None:
    """Sends each a few times to `servicer`, which runs in `loop`. What fails is logged: whoever calls is told."""
    try:
        with scratch() as folder:  # for nobody but us
            _rehearse(servicer, loop, background, requests, f"unix:{folder}/socket")
    except (OSError, RuntimeError) as error:
        log.warning("there is no rehearsal, the first requests will be slower: %s", error)


def _rehearse(
    servicer: ExplanationServicer,
    loop: Loop,
    background: BackgroundThreads,
    requests: Iterable[pb.ExplainRequest],
    address: str,
) -> None:
    server = loop.run(_started(servicer, background, address))
    try:
        with grpc.insecure_channel(address) as channel:
            explain: Explain = channel.unary_unary(METHOD)
            for request in requests:
                _repeat(explain, request)
    finally:
        loop.run(server.stop(None))


async def _started(servicer: ExplanationServicer, background: BackgroundThreads, address: str) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[Calls(FORGOTTEN, Access(None), background)])
    explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(servicer, Methods(server))  # type: ignore[no-untyped-call]
    server.add_insecure_port(address)
    await server.start()
    return server


def _repeat(explain: Explain, request: pb.ExplainRequest) -> None:
    message, end = request.SerializeToString(), time.monotonic() + SECONDS
    count = 0
    while count < TIMES and time.monotonic() <= end:
        try:
            explain(message, timeout=PATIENCE)
        except grpc.RpcError as error:  # not every model takes what is made up
            log.debug("model %s: the rehearsal ended with: %s", request.model, error)
            return
        count += 1
    log.debug("model %s: rehearsed %d times", request.model, count)
