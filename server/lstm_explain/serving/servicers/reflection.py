"""What server reflection looks its descriptors up in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool

from lstm_explain_proto.inference import grpc_service_pb2


class Pools:
    """The usual pool, then that of the Open Inference Protocol, as one; see scripts/generate_stubs.py for why two."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def find(*arguments: Any) -> Any:
            try:
                return getattr(descriptor_pool.Default(), name)(*arguments)
            except KeyError:
                return getattr(grpc_service_pb2.DESCRIPTOR.pool, name)(*arguments)

        return find
