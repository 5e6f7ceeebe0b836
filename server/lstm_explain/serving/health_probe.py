# SPDX-License-Identifier: Apache-2.0
"""Asks a server for its health status once, for `lstm-explain health`."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def ask(address: str, service: str, timeout: float, credentials: grpc.ChannelCredentials | None = None) -> str:
    """Returns SERVING, NOT_SERVING, SERVICE_UNKNOWN, or the reason why there is no answer."""
    channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            return f"{error.code().name} {error.details()}".strip()
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
