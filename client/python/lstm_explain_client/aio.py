# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio has the same calls as `Client`, as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from lstm_explain_client import errors, models, wire
from lstm_explain_client.base_client import BaseClient
from lstm_explain_client.groups import Groups
from lstm_explain_client.method_base import Method
from lstm_explain_client.models import ModelDetail, ModelRoute, ModelSummary
from lstm_explain_client.operations import AsyncOperation, BatchSummary, OperationResult, batch_request, start_request
from lstm_explain_client.progress import ProgressLike, is_wanted
from lstm_explain_client.result import Result, read_result
from lstm_explain_client.results import Results, read_results
from lstm_explain_client.target_sets import TargetLike, TargetsLike
from lstm_explain_client.wire import Answer, Files, Inputs, ModelSource, Request
from lstm_explain_proto.lstm_explain.v1 import model_pb2, operation_pb2

Requests = Iterable[Request | Mapping[str, Any]] | AsyncIterable[Request | Mapping[str, Any]]


class AsyncClient(BaseClient):
    """Calls an explanation server from asyncio. Options, calls and errors are those of `Client`; calls are coroutines.

    Create and use it inside one event loop. Cancelling the awaiting task cancels the call.
    """

    _grpc = grpc.aio

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and cancel running calls."""
        await self._channel.close()

    async def explain(
        self,
        model: str,
        inputs: Inputs,
        method: str | Method | None = None,
        target: TargetLike | None = None,
        parameters: Mapping[str, Any] | None = None,
        capture: Sequence[str] = (),
        version: str = "",
        timeout: float | None = None,
        receipt: bool = False,
        progress: ProgressLike = None,
        condition: str = "",
        groups: Groups | Mapping[str, Any] | None = None,
        through: Mapping[str, Sequence[int]] | None = None,
    ) -> Result:
        """Predict one batch and explain the prediction; see Client.explain."""
        request = Request(
            model, inputs, method, target, parameters, capture, version, receipt=receipt, progress=progress,
            condition=condition, groups=groups, through=through,
        )  # fmt: skip
        if is_wanted(progress):
            return (await self._reporting(request, timeout)).get()
        arrays = request.arrays()
        response = await self._call(self._explanations.Explain, request.message(arrays), timeout)
        result = read_result(response, arrays)
        await self._learn_names(result)
        return self._described.named(result)

    async def explain_many(
        self,
        model: str,
        inputs: Inputs,
        targets: TargetsLike,
        method: str | Method | None = None,
        parameters: Mapping[str, Any] | None = None,
        capture: Sequence[str] = (),
        version: str = "",
        timeout: float | None = None,
        receipt: bool = False,
        progress: ProgressLike = None,
        condition: str = "",
        groups: Groups | Mapping[str, Any] | None = None,
        through: Mapping[str, Sequence[int]] | None = None,
    ) -> Results:
        """Explain one batch for several targets in one request; see Client.explain_many."""
        request = Request(
            model, inputs, method, None, parameters, capture, version, targets=targets, receipt=receipt,
            progress=progress, condition=condition, groups=groups, through=through,
        )  # fmt: skip
        arrays = request.arrays()
        message = request.message(arrays)
        if not message.targets:
            return Results()
        if is_wanted(progress):
            return (await self._reporting(request, timeout)).get_many()
        results = read_results(await self._call(self._explanations.Explain, message, timeout), arrays)
        await self._learn_names(results[0])
        return self._described.all_named(results)

    async def explain_stream(self, requests: Requests, timeout: float | None = None) -> AsyncGenerator[Answer, None]:
        """Send many requests, from an iterable or an async iterable, over one stream; see Client.explain_stream."""
        stream = wire.Stream()
        broken: list[Exception] = []

        async def messages() -> AsyncIterator[Any]:
            try:
                async for item in _each(requests):
                    if (message := stream.encode(item)) is not None:
                        yield message
            except Exception as error:  # gRPC would swallow it
                broken.append(error)

        call = self._start(self._explanations.ExplainStream, messages(), timeout, unary=False)
        end = _End(call)
        try:
            async for response in call:
                for failed in stream.take_failed():
                    yield failed
                answer = stream.decode(response)
                if answer is None:
                    continue
                await self._learn_names(answer.result or next(iter(answer.results or ()), None))
                yield self._described.named_answer(answer)
        except grpc.RpcError as error:
            raise errors.from_call(end.of(error)) from error
        finally:
            call.cancel()
            stream.reports.close()
        for failed in stream.take_failed():
            yield failed
        if broken:
            raise broken[0]

    async def _reporting(self, request: Request, timeout: float | None) -> Answer:
        """Answer one request and report its progress, which a stream carries."""
        seconds = self._connection.timeout if timeout is None else timeout
        async with aclosing(self.explain_stream([request], seconds)) as all_:
            async for answer in all_:
                return answer
        raise errors.MalformedResponse("the server ended the stream without an answer")

    async def start(
        self,
        model: str,
        inputs: Inputs,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **arguments: Any,
    ) -> AsyncOperation:
        """Start an explanation that the server keeps as an operation; see Client.start."""
        request = wire.as_request({"model": model, "inputs": inputs, **arguments})
        arrays = request.arrays()
        message = start_request(request.message(arrays), request_id)
        return self._opened((await self._operate("StartExplain", message, timeout)).operation, arrays)

    async def start_batch(self, model: str, input: str, output: str, **arguments: Any) -> AsyncOperation:
        """Start a batch job over files in the caller's folder on the server; see Client.start_batch."""
        response = await self._operate("StartBatch", batch_request(model, input, output, **arguments))
        return self._opened(response.operation)

    async def operation(self, name: str) -> AsyncOperation:
        """Return an operation that was started before; see Client.operation."""
        response = await self._operate("GetOperation", operation_pb2.GetOperationRequest(name=name))
        return self._opened(response.operation)

    async def operations(self) -> list[AsyncOperation]:
        """List the operations of this caller, the newest first."""
        response = await self._operate("ListOperations", operation_pb2.ListOperationsRequest())
        return [self._opened(message) for message in response.operations]

    async def _operate(self, rpc: str, request: Any, timeout: float | None = None) -> Any:
        return await self._call(getattr(self._operations, rpc), request, timeout)

    def _opened(self, message: operation_pb2.Operation, inputs: Mapping[str, Any] | None = None) -> AsyncOperation:
        return AsyncOperation(message, self._operate, self._named, inputs)

    async def _named(self, found: OperationResult) -> OperationResult:
        if isinstance(found, BatchSummary):
            return found
        await self._learn_names(found if isinstance(found, Result) else found[0])
        return self._described.named(found) if isinstance(found, Result) else self._described.all_named(found)

    async def models(self) -> list[ModelSummary]:
        """List all models and versions; see Client.models."""
        response = await self._call(self._models.ListModels, model_pb2.ListModelsRequest())
        return [models.summary(message) for message in response.models]

    async def model(self, name: str, version: str = "") -> ModelDetail:
        """Describe one model; see Client.model."""
        response = await self._call(self._models.GetModel, model_pb2.GetModelRequest(name=name, version=version))
        return models.detail(response.model)

    async def import_model(
        self,
        name: str,
        path: ModelSource,
        version: str | None = None,
        config: str | None = None,
        timeout: float | None = None,
        files: Files = (),
    ) -> ModelDetail:
        """Import a model from a file or its bytes; see Client.import_model."""
        plan = await asyncio.to_thread(wire.import_plan, name, path, version, config, files)
        response = await self._call(self._models.ImportModel, wire.import_messages(plan), timeout, unary=False)
        return models.detail(response.model)

    async def delete_model(self, name: str, version: str = "") -> None:
        """Delete one version or all versions of a model; see Client.delete_model."""
        await self._call(self._models.DeleteModel, model_pb2.DeleteModelRequest(name=name, version=version))

    async def route_model(
        self, name: str, default_version: str = "", canary_version: str = "", canary_share: float = 0.0
    ) -> ModelRoute:
        """Choose which version of a model answers; see Client.route_model."""
        request = model_pb2.RouteModelRequest(
            name=name, default_version=default_version, canary_version=canary_version, canary_share=canary_share
        )
        response = await self._call(self._models.RouteModel, request)
        return models.route(response.route)

    async def roll_back_model(self, name: str) -> ModelRoute:
        """End the canary of a model, or return to its previous default version; see Client.roll_back_model."""
        response = await self._call(self._models.RollBackModel, model_pb2.RollBackModelRequest(name=name))
        return models.route(response.route)

    async def _learn_names(self, result: Result | None) -> None:
        """Ask for the names of the model that made the result, unless they are known."""
        question = self._described.question(result)
        if question is not None:
            try:
                response = await self._call(self._models.GetModel, question, self._described.SECONDS)
            except errors.ExplainError as error:
                self._described.failed(question, error)
            else:
                self._described.learn(question, response)

    async def _call(
        self, method: Callable[..., Any], request: Any, timeout: float | None = None, *, unary: bool = True
    ) -> Any:
        call = self._start(method, request, timeout, unary=unary)
        end = _End(call)
        try:
            return await call
        except grpc.RpcError as error:
            raise errors.from_call(end.of(error)) from error


class _End:
    """The status with which the server ended a call.

    If a message was being sent at that moment, grpc.aio may report INTERNAL instead (grpc/grpc issue 36066), either to
    the first reader of the status or to later ones.
    """

    def __init__(self, call: Any) -> None:
        self._heard: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._hear)

    def of(self, error: grpc.RpcError) -> grpc.RpcError:
        """Return the true status of the two."""
        return self._heard if self._heard is not None and error.code() is grpc.StatusCode.INTERNAL else error

    def _hear(self, call: Any) -> None:
        code = _at_once(call.code())
        if code is not None and code is not grpc.StatusCode.OK:
            trailing, nothing = _at_once(call.trailing_metadata()), grpc.aio.Metadata()
            self._heard = grpc.aio.AioRpcError(code, nothing, trailing or nothing, _at_once(call.details()))


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of the coroutine if it completes without waiting, as queries about a finished call do; else
    None.
    """
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    answer.close()
    return None


async def _each(requests: Requests) -> AsyncIterator[Request | Mapping[str, Any]]:
    if isinstance(requests, AsyncIterable):
        async for item in requests:
            yield item
    else:
        for item in requests:
            yield item
