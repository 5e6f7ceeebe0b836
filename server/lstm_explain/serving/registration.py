"""How services are added to asyncio's gRPC server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

# Asked by those who decide whether this server is alive: they do not stand in line with all other calls.
AHEAD = (
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)


class Methods:
    """In the place of the server for the functions that protoc writes.

    They register a service as one, and each of its methods by itself, too. asyncio's server takes in one call after the
    other of all that are not registered by themselves, and one of each that is. So those that are go ahead; but the
    server looks at each of them at every call, which costs a microsecond or two. So only AHEAD are.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        ahead = {name: handler for name, handler in handlers.items() if f"/{service}/{name}" in AHEAD}
        self._server.add_registered_method_handlers(service, ahead)
