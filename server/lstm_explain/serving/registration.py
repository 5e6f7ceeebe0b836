# SPDX-License-Identifier: Apache-2.0
"""Registers the services with the gRPC server, and lets health checks bypass the queue of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

# Load balancers and orchestrators call these to decide whether the server is alive.
BYPASSING = (
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)


class MethodRegistration:
    """Replaces the server in the generated functions `add_…Servicer_to_server`.

    These register each service as a whole, and each of its methods individually. The asyncio server accepts one call at
    a time for all methods that are not registered individually, and one call at a time for each method that is. So the
    latter bypass the queue, but each of them adds a microsecond or two to every call. Therefore only the methods in
    BYPASSING are registered individually.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        bypassing = {name: handler for name, handler in handlers.items() if f"/{service}/{name}" in BYPASSING}
        self._server.add_registered_method_handlers(service, bypassing)
