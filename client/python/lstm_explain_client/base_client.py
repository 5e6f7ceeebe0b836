# SPDX-License-Identifier: Apache-2.0
"""What the synchronous client and the client for asyncio have in common: the connection and its stubs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from lstm_explain_client.connection import DEFAULT_RETRY, TLS, Connection, Retry, Token
from lstm_explain_client.described_models import DescribedModels
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2_grpc, model_pb2_grpc, operation_pb2_grpc

_ExplanationStub: Callable[[Any], Any] = explanation_pb2_grpc.ExplanationServiceStub
_ModelStub: Callable[[Any], Any] = model_pb2_grpc.ModelServiceStub
_OperationStub: Callable[[Any], Any] = operation_pb2_grpc.OperationServiceStub


class BaseClient:
    """Base class of both clients, which holds the connection. Client describes the options."""

    _grpc: Any = grpc

    def __init__(
        self,
        address: str,
        *,
        tls: TLS | bool = False,
        token: Token | None = None,
        timeout: float | None = 60.0,
        max_message_bytes: int = 64 << 20,
        retry: Retry | None = DEFAULT_RETRY,
        channel_options: Sequence[tuple[str, Any]] = (),
        plaintext_token: bool = False,
        names: bool = True,
    ) -> None:
        self._connection = Connection(
            address, tls, token, timeout, max_message_bytes, retry, channel_options, plaintext_token
        )
        self._channel = self._connection.open(self._grpc)
        self._explanations = _ExplanationStub(self._channel)
        self._models = _ModelStub(self._channel)
        self._operations = _OperationStub(self._channel)
        self._described = DescribedModels(names)

    def _start(self, method: Callable[..., Any], request: Any, timeout: float | None, *, unary: bool = True) -> Any:
        """Start a call, with the default deadline if it is unary."""
        if timeout is None and unary:
            timeout = self._connection.timeout
        return method(request, timeout=timeout, metadata=self._connection.metadata())
