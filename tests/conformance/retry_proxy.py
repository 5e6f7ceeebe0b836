# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of the server that refuses the first attempt of every call that may be retried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

CONFIG = Path(__file__).resolve().parents[2] / "proto" / "lstm_explain" / "v1" / "service_config.json"
REPEATABLE = {f"/{n['service']}/{n['method']}" for n in json.loads(CONFIG.read_text())["methodConfig"][0]["name"]}
ATTEMPTS = "grpc-previous-rpc-attempts"
OWN = ("user-agent", ATTEMPTS, "grpc-accept-encoding", "accept-encoding")


class Unsteady(grpc.GenericRpcHandler):
    """Forwards bytes. A call is a retry if its metadata says so, or if it equals the call that was refused."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._refused: set[tuple[str, str, bytes]] = set()  # peer, method, request

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method, metadata = details.method, [(k, v) for k, v in details.invocation_metadata if k not in OWN]
        if method in REPEATABLE:
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._unary(method, request, context, metadata)
            )
        call = self._channel.stream_stream(method)

        def answers(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            with errors_passed_on(context):
                yield from call(requests, metadata=metadata, timeout=remaining(context))

        return grpc.stream_stream_rpc_method_handler(answers)

    def _unary(self, method: str, request: bytes, context: Any, metadata: list[Any]) -> bytes:
        call = (context.peer(), method, request)
        if ATTEMPTS not in dict(context.invocation_metadata()) and call not in self._refused:
            self._refused.add(call)
            context.abort(grpc.StatusCode.UNAVAILABLE, "turned away at first")
        self._refused.discard(call)
        with errors_passed_on(context):
            future = self._channel.unary_unary(method).future(request, metadata=metadata, timeout=remaining(context))
            context.add_callback(future.cancel)
            return future.result()
        raise AssertionError("errors_passed_on() always aborts after an error")


def remaining(context: Any) -> float | None:
    """Without a deadline, gRPC returns a number of years, which it does not accept as a timeout."""
    seconds = context.time_remaining()
    return None if seconds is None or seconds > 3600 else seconds


@contextmanager
def errors_passed_on(context: Any) -> Iterator[None]:
    """Passes an error of the server to the caller, with its details."""
    try:
        yield
    except grpc.FutureCancelledError:
        context.abort(grpc.StatusCode.CANCELLED, "cancelled")
    except grpc.RpcError as error:
        context.set_trailing_metadata(error.trailing_metadata())  # type: ignore[attr-defined]
        context.abort(error.code(), error.details())  # type: ignore[attr-defined]


@contextmanager
def unsteady(address: str) -> Iterator[str]:
    """Runs the proxy and yields its address."""
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((Unsteady(channel),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()
