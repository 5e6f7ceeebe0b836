# SPDX-License-Identifier: Apache-2.0
"""Warms up the process before it reports that it is ready, so that no caller waits for work that is slow the first
time.

Such work occurs on the whole path of a call: the interpreter specialises code that has run a few times, and allocators,
caches and threads are set up on first use. So the requests go over a socket, to a server that exists only for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

import grpc

from lstm_explain.serving.calls import Calls
from lstm_explain.serving.loop import Loop
from lstm_explain.serving.observability.metrics import DISCARDED
from lstm_explain.serving.registration import MethodRegistration
from lstm_explain.serving.scheduling.background import BackgroundThreads
from lstm_explain.serving.scratch import scratch_folder
from lstm_explain.serving.security.access import Access
from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2_grpc

log = logging.getLogger(__name__)

Explain = Callable[..., bytes]
METHOD = "/lstm_explain.v1.ExplanationService/Explain"
REPETITIONS, SECONDS = 5, 0.2  # limits for each request, whichever ends first
TIMEOUT = 10.0  # seconds for one request


def warm_up(
    servicer: ExplanationServicer, loop: Loop, background: BackgroundThreads, requests: Iterable[pb.ExplainRequest]
) -> None:
    """Sends each request a few times to `servicer`, which runs in `loop`. Failures are only logged."""
    try:
        with scratch_folder() as folder:  # a folder that other users cannot open
            _send_all(servicer, loop, background, requests, f"unix:{folder}/socket")
    except (OSError, RuntimeError) as error:
        log.warning("the warm-up failed, so the first requests will be slower: %s", error)


def _send_all(
    servicer: ExplanationServicer,
    loop: Loop,
    background: BackgroundThreads,
    requests: Iterable[pb.ExplainRequest],
    address: str,
) -> None:
    server = loop.run(_start_server(servicer, background, address))
    try:
        with grpc.insecure_channel(address) as channel:
            explain: Explain = channel.unary_unary(METHOD)
            for request in requests:
                _repeat(explain, request)
    finally:
        loop.run(server.stop(None))


async def _start_server(servicer: ExplanationServicer, background: BackgroundThreads, address: str) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[Calls(DISCARDED, Access(None), background)])
    explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(servicer, MethodRegistration(server))  # type: ignore[no-untyped-call]
    server.add_insecure_port(address)
    await server.start()
    return server


def _repeat(explain: Explain, request: pb.ExplainRequest) -> None:
    message, end = request.SerializeToString(), time.monotonic() + SECONDS
    count = 0
    while count < REPETITIONS and time.monotonic() <= end:
        try:
            explain(message, timeout=TIMEOUT)
        except grpc.RpcError as error:  # not every model accepts made-up inputs
            log.debug("model %s: the warm-up ended with: %s", request.model, error)
            return
        count += 1
    log.debug("model %s: warmed up with %d requests", request.model, count)
