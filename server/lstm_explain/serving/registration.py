# SPDX-License-Identifier: Apache-2.0
"""Registers the services with the gRPC server, and lets health checks bypass the queue of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from lstm_explain.serving.servicers.explanation import ExplanationServicer
from lstm_explain.serving.servicers.health import Health
from lstm_explain.serving.servicers.inference import InferenceServicer
from lstm_explain.serving.servicers.models import ModelServicer
from lstm_explain.serving.servicers.operations import OperationServicer
from lstm_explain.serving.servicers.reflection import Pools
from lstm_explain_proto.inference import grpc_service_pb2, grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import (
    explanation_pb2,
    explanation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
)

# Load balancers and orchestrators call these to decide whether the server is alive.
BYPASSING = (
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)

SERVICES = (
    explanation_pb2.DESCRIPTOR.services_by_name["ExplanationService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    operation_pb2.DESCRIPTOR.services_by_name["OperationService"].full_name,
    grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


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


def register(
    server: grpc.aio.Server,
    explanation: ExplanationServicer,
    inference: InferenceServicer,
    model: ModelServicer,
    operation: OperationServicer,
    health: Health,
) -> None:
    """Adds every service to the server, and reflection of all of them."""
    methods = MethodRegistration(server)
    explanation_pb2_grpc.add_ExplanationServiceServicer_to_server(explanation, methods)  # type: ignore[no-untyped-call]
    grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, methods)  # type: ignore[no-untyped-call]
    model_pb2_grpc.add_ModelServiceServicer_to_server(model, methods)  # type: ignore[no-untyped-call]
    operation_pb2_grpc.add_OperationServiceServicer_to_server(operation, methods)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(health, methods)
    names = (*SERVICES, HEALTH, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        reflection.aio.ReflectionServicer(names, Pools()), methods
    )
