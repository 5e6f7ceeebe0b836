# SPDX-License-Identifier: Apache-2.0
"""The descriptor pool of server reflection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool

from lstm_explain_proto.inference import grpc_service_pb2


class Pools:
    """Searches the default pool, then that of the Open Inference Protocol; scripts/generate_stubs.py explains why there
    are two.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def find(*arguments: Any) -> Any:
            try:
                return getattr(descriptor_pool.Default(), name)(*arguments)
            except KeyError:
                return getattr(grpc_service_pb2.DESCRIPTOR.pool, name)(*arguments)

        return find
