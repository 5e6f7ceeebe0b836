# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1.Health in asyncio's loop.

The servicer of grpcio-health-checking is not used, because it forgets all watchers of a service when one of them
leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from lstm_explain.serving.calls import Malformed

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN
Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Everything here, including the constructor, runs in the loop's thread."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._ended = self._closed = False
        self._changed = asyncio.Event()  # set at the next change, and then replaced by another one

    def set(self, statuses: Mapping[str, int]) -> None:
        """Sets the status by service; services that are not named keep theirs."""
        if not self._ended:
            self._statuses |= statuses
            self._tell()

    def end(self) -> None:
        """Reports NOT_SERVING from now on, whatever `set` says, and notifies watchers."""
        self._ended = True
        self._statuses = dict.fromkeys(self._statuses, NOT_SERVING)
        self._tell()

    def close(self) -> None:
        """Ends all watches, since a server that stops would wait for them."""
        self._closed = True
        self._tell()

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:  # noqa: N802
        await _check_message(request, context)
        status = self._statuses.get(request.service, UNKNOWN)
        if status == UNKNOWN:
            await _not_found(context)
        return pb.HealthCheckResponse(status=status)

    async def Watch(self, request: pb.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        await _check_message(request, context)
        sent: int | None = None
        while True:
            status, changed = self._statuses.get(request.service, UNKNOWN), self._changed
            if status != sent:
                await context.write(pb.HealthCheckResponse(status=status))
                sent = status
            if self._closed:
                return
            await changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _check_message(request: pb.HealthCheckRequest | Malformed, context: Context) -> None:
    if isinstance(request, Malformed):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.problem)


async def _not_found(context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.NOT_FOUND)
    raise AssertionError("abort raises")
