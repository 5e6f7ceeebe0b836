"""The synchronous client. `aio` has the client for asyncio; both use `wire` to build and read messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from lstm_explain_client import errors, models, wire
from lstm_explain_client.connection import DEFAULT_RETRY, TLS, Connection, Retry, Token
from lstm_explain_client.method_base import Method
from lstm_explain_client.models import ModelDetail, ModelSummary
from lstm_explain_client.result import Result, read_result
from lstm_explain_client.wire import Answer, Files, Inputs, ModelSource, Request, TargetLike
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2_grpc, model_pb2, model_pb2_grpc

_ExplanationStub: Callable[[Any], Any] = explanation_pb2_grpc.ExplanationServiceStub
_ModelStub: Callable[[Any], Any] = model_pb2_grpc.ModelServiceStub


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
    ) -> None:
        self._connection = Connection(
            address, tls, token, timeout, max_message_bytes, retry, channel_options, plaintext_token
        )
        self._channel = self._connection.open(self._grpc)
        self._explanations = _ExplanationStub(self._channel)
        self._models = _ModelStub(self._channel)

    def _start(self, method: Callable[..., Any], request: Any, timeout: float | None, *, unary: bool = True) -> Any:
        """Start a call, with the default deadline if it is unary."""
        if timeout is None and unary:
            timeout = self._connection.timeout
        return method(request, timeout=timeout, metadata=self._connection.metadata())


class Client(BaseClient):
    """Calls an explanation server. Several threads can use it at the same time.

    address: "host:port". The client sends nothing before the first call.
    tls: False for plain text, True for TLS with the authorities that gRPC ships, or a TLS object.
    token: sent as a bearer token with every call; a function is called for every call.
    timeout: default time limit of a call in seconds, or None for no limit. Streams and imports have no default.
    max_message_bytes: size limit for one message in either direction.
    retry: when to retry read-only calls; None turns retries off.
    channel_options: additional gRPC channel arguments.
    plaintext_token: allow a token over an unencrypted connection that leaves this machine.

    Every failed call raises a subclass of ExplainError; `lstm_explain_client.errors` shows the class hierarchy.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and cancel running calls."""
        self._channel.close()

    def explain(
        self,
        model: str,
        inputs: Inputs,
        method: str | Method | None = None,
        target: TargetLike | None = None,
        parameters: Mapping[str, Any] | None = None,
        capture: Sequence[str] = (),
        version: str = "",
        timeout: float | None = None,
    ) -> Result:
        """Predict one batch and explain the prediction.

        model, version: as `models()` lists them; an empty version selects the newest one that is ready.
        inputs: input name to ndarray or nested lists (floats become float32, ints int64), with the batch axis that
            the model has; an input with a tokenizer also accepts a str, or a list with one str per sample.
        method: a name with its `parameters`, or an object such as LRP(product_rule="half"). None: the default of the
            model (model.yaml), otherwise LRP.
        parameters: replace those of the model's default method one by one, if `method` is that method or None.
        target: the scalar of the output to explain: an int, a tuple over the non-batch axes, an array or list
            with one position per sample, or a Target or dict. None: the default of the model.
        capture: names of inner values whose relevance the result also contains.
        timeout: time limit in seconds.
        """
        request = Request(model, inputs, method, target, parameters, capture, version)
        arrays = request.arrays()
        response = self._call(self._explanations.Explain, request.message(arrays), timeout)
        return read_result(response, arrays)

    def explain_many(
        self,
        model: str,
        inputs: Inputs,
        targets: Iterable[TargetLike | None],
        method: str | Method | None = None,
        parameters: Mapping[str, Any] | None = None,
        capture: Sequence[str] = (),
        version: str = "",
        timeout: float | None = None,
    ) -> list[Result]:
        """Explain one batch for several targets, such as every class; a result per target, in their order.

        Each target is a request of its own on one stream, so that the server works on them side by side. The
        arguments are those of `explain`; the first target that fails raises its error. timeout: of them all.
        """
        requests = wire.requests_of(targets, model, inputs, method, parameters, capture, version)
        return wire.in_order(self.explain_stream(requests, timeout))

    def explain_stream(
        self, requests: Iterable[Request | Mapping[str, Any]], timeout: float | None = None
    ) -> Iterator[Answer]:
        """Send many requests over one stream: Request objects, or dicts of the arguments of `explain`.

        Answers come as they are ready, in any order, each with its request's id. A request that fails is answered by
        its error and the stream goes on; this raises only if the stream itself breaks, or `requests` does.
        """
        stream = wire.Stream()
        broken: list[Exception] = []

        def messages() -> Iterator[Any]:
            try:
                for item in requests:
                    if (message := stream.encode(item)) is not None:
                        yield message
            except Exception as error:  # gRPC would swallow it
                broken.append(error)

        call = self._start(self._explanations.ExplainStream, messages(), timeout, unary=False)
        try:
            for response in call:
                yield from stream.take_failed()
                yield stream.decode(response)
        except grpc.RpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()
        yield from stream.take_failed()
        if broken:
            raise broken[0]

    def models(self) -> list[ModelSummary]:
        """List all models and versions, including those that failed to load."""
        response = self._call(self._models.ListModels, model_pb2.ListModelsRequest())
        return [models.summary(message) for message in response.models]

    def model(self, name: str, version: str = "") -> ModelDetail:
        """Describe one model: its inputs, outputs and defaults, and what can be explained."""
        response = self._call(self._models.GetModel, model_pb2.GetModelRequest(name=name, version=version))
        return models.detail(response.model)

    def import_model(
        self,
        name: str,
        path: ModelSource,
        version: str | None = None,
        config: str | None = None,
        timeout: float | None = None,
        files: Files = (),
    ) -> ModelDetail:
        """Import a model from a file or its bytes.

        version: default: one above the newest. config: the text of a model.yaml. files: further files of the model
        (external weights, a tokenizer), as paths, or by the name that the model or its config uses. The server must
        allow imports.
        """
        plan = wire.import_plan(name, path, version, config, files)
        response = self._call(self._models.ImportModel, wire.import_messages(plan), timeout, unary=False)
        return models.detail(response.model)

    def delete_model(self, name: str, version: str = "") -> None:
        """Delete one version or all versions of a model. The server must allow it."""
        self._call(self._models.DeleteModel, model_pb2.DeleteModelRequest(name=name, version=version))

    def _call(
        self, method: Callable[..., Any], request: Any, timeout: float | None = None, *, unary: bool = True
    ) -> Any:
        try:
            return self._start(method, request, timeout, unary=unary)
        except grpc.RpcError as error:
            raise errors.from_call(error) from error
