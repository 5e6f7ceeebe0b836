"""How services are added to asyncio's gRPC server."""

from __future__ import annotations

from collections.abc import Sequence

import grpc


class Methods:
    """In the place of the server for the functions that protoc writes.

    They register each method by itself, beside all of a service as one. asyncio's server then looks at every registered
    method at every call, which costs a microsecond or two for each: so here the methods are known as one only.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None: ...
