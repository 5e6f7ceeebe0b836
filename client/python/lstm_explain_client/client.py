# SPDX-License-Identifier: Apache-2.0
"""The synchronous client. `aio` has the client for asyncio; both use `wire` to build and read messages."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self

import grpc

from lstm_explain_client import errors, models, wire
from lstm_explain_client.base_client import BaseClient
from lstm_explain_client.groups import Groups
from lstm_explain_client.method_base import Method
from lstm_explain_client.models import ModelDetail, ModelRoute, ModelSummary
from lstm_explain_client.operations import BatchSummary, Operation, OperationResult, batch_request, start_request
from lstm_explain_client.progress import ProgressLike, is_wanted
from lstm_explain_client.result import Result, read_result
from lstm_explain_client.results import Results, read_results
from lstm_explain_client.target_sets import TargetLike, TargetsLike
from lstm_explain_client.wire import Answer, Files, Inputs, ModelSource, Request
from lstm_explain_proto.lstm_explain.v1 import model_pb2, operation_pb2


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
    names: ask the server once per model and version for the names of classes and features, which the pictures of
        results show. Without an answer within a few seconds, pictures have no names.

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
        receipt: bool = False,
        progress: ProgressLike = None,
        condition: str = "",
        groups: Groups | Mapping[str, Any] | None = None,
        through: Mapping[str, Sequence[int]] | None = None,
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
        receipt: ask for a signed record of the answer, which `lstm-explain verify` checks; the server needs a key.
        progress: True for a progress bar on stderr, or a function that is called with how often the model has run
            and how often it is expected to run in all, at most ten times a second; what it raises ends the call.
            Only methods that run the model many times report, and such a call is not retried.
        condition: what the prediction of a sample must meet to be explained, such as "probability > 0.8", "class is
            positive", "change > 5 from 12.5", joined by "and" (docs/conditions.md). Other samples are only predicted;
            `not_explained` of the result says why. Or an object whose str() says it, such as lstm_explain.Condition.
        groups: entries that belong together, such as Groups(window=24), or a dict of its fields. The result has the
            relevance of each; they are the players of Occlusion and ShapleySampling, and sums under other methods.
        through: by inner value (as in `capture`), the units on its last axis that relevance passes through; that of
            other units is absorbed.
        """
        request = Request(
            model, inputs, method, target, parameters, capture, version, receipt=receipt, progress=progress,
            condition=condition, groups=groups, through=through,
        )  # fmt: skip
        if is_wanted(progress):
            return self._reporting(request, timeout).get()
        arrays = request.arrays()
        response = self._call(self._explanations.Explain, request.message(arrays), timeout)
        result = read_result(response, arrays)
        self._learn_names(result)
        return self._described.named(result)

    def explain_many(
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
        """Explain one batch for several targets in one request; return a result per target, in their order.

        targets: a list of targets as `explain` takes them (None: the default of the model), of Every objects and of
            words: "every class", "every step", "classes 0,2", "steps 0,6,23", or with an output and a position on its
            other axes "scores:every class at 5". One Every or words alone will do.

        The results share the outputs. The other arguments are those of `explain`.
        """
        request = Request(
            model, inputs, method, None, parameters, capture, version, targets=targets, receipt=receipt,
            progress=progress, condition=condition, groups=groups, through=through,
        )  # fmt: skip
        arrays = request.arrays()
        message = request.message(arrays)
        if not message.targets:
            return Results()
        if is_wanted(progress):
            return self._reporting(request, timeout).get_many()
        results = read_results(self._call(self._explanations.Explain, message, timeout), arrays)
        self._learn_names(results[0])
        return self._described.all_named(results)

    def explain_stream(
        self, requests: Iterable[Request | Mapping[str, Any]], timeout: float | None = None
    ) -> Generator[Answer, None, None]:
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
                answer = stream.decode(response)
                if answer is None:
                    continue
                self._learn_names(answer.result or next(iter(answer.results or ()), None))
                yield self._described.named_answer(answer)
        except grpc.RpcError as error:
            raise errors.from_call(error) from error
        finally:
            call.cancel()
            stream.reports.close()
        yield from stream.take_failed()
        if broken:
            raise broken[0]

    def _reporting(self, request: Request, timeout: float | None) -> Answer:
        """Answer one request and report its progress, which a stream carries."""
        with closing(self.explain_stream([request], self._connection.timeout if timeout is None else timeout)) as all_:
            for answer in all_:
                return answer
        raise errors.MalformedResponse("the server ended the stream without an answer")

    def start(
        self,
        model: str,
        inputs: Inputs,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **arguments: Any,
    ) -> Operation:
        """Start an explanation that the server keeps as an operation, whether or not anybody waits for it.

        arguments: `method`, `target` or `targets`, `parameters`, `capture`, `version` and `receipt`, as for `explain`
        and `explain_many`; an operation may cost more than they may. request_id: a call with the id of an earlier one
        returns the operation that it started, and is not charged again; by default a new id. timeout: of the call, in
        seconds, not of the explanation. The server must keep operations.
        """
        request = wire.as_request({"model": model, "inputs": inputs, **arguments})
        arrays = request.arrays()
        message = start_request(request.message(arrays), request_id)
        return self._opened(self._operate("StartExplain", message, timeout).operation, arrays)

    def start_batch(self, model: str, input: str, output: str, **arguments: Any) -> Operation:
        """Start a batch job over files in the caller's folder on the server, as `lstm-explain batch` does.

        input: a Parquet, Arrow or NumPy file, or a folder of them. output: a new folder, or that of an unfinished job.
        arguments: `method`, `target` or `targets` as text, `parameters`, `columns` (by input), `key` (a column to copy
        to the output), `condition`, `groups` as text, `through` as for `explain`, `version`, and `request_id` as for
        `start`. The server must run batch jobs.
        """
        return self._opened(self._operate("StartBatch", batch_request(model, input, output, **arguments)).operation)

    def operation(self, name: str) -> Operation:
        """Return an operation that was started before, here or elsewhere with the same token, by its name."""
        return self._opened(self._operate("GetOperation", operation_pb2.GetOperationRequest(name=name)).operation)

    def operations(self) -> list[Operation]:
        """List the operations of this caller, the newest first."""
        response = self._operate("ListOperations", operation_pb2.ListOperationsRequest())
        return [self._opened(message) for message in response.operations]

    def _operate(self, rpc: str, request: Any, timeout: float | None = None) -> Any:
        return self._call(getattr(self._operations, rpc), request, timeout)

    def _opened(self, message: operation_pb2.Operation, inputs: Mapping[str, Any] | None = None) -> Operation:
        return Operation(message, self._operate, self._named, inputs)

    def _named(self, found: OperationResult) -> OperationResult:
        if isinstance(found, BatchSummary):
            return found
        self._learn_names(found if isinstance(found, Result) else found[0])
        return self._described.named(found) if isinstance(found, Result) else self._described.all_named(found)

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

    def route_model(
        self, name: str, default_version: str = "", canary_version: str = "", canary_share: float = 0.0
    ) -> ModelRoute:
        """Choose which version of a model answers requests that name none, and a canary that gets a share of them.

        default_version: empty for the newest that is ready. canary_version: empty for none. canary_share: from 0 to 1.
        The server must allow it.
        """
        request = model_pb2.RouteModelRequest(
            name=name, default_version=default_version, canary_version=canary_version, canary_share=canary_share
        )
        response = self._call(self._models.RouteModel, request)
        return models.route(response.route)

    def roll_back_model(self, name: str) -> ModelRoute:
        """End the canary of a model or, if it has none, make its previous default version the default again."""
        response = self._call(self._models.RollBackModel, model_pb2.RollBackModelRequest(name=name))
        return models.route(response.route)

    def _learn_names(self, result: Result | None) -> None:
        """Ask for the names of the model that made the result, unless they are known."""
        question = self._described.question(result)
        if question is not None:
            try:
                response = self._call(self._models.GetModel, question, self._described.SECONDS)
            except errors.ExplainError as error:
                self._described.failed(question, error)
            else:
                self._described.learn(question, response)

    def _call(
        self, method: Callable[..., Any], request: Any, timeout: float | None = None, *, unary: bool = True
    ) -> Any:
        try:
            return self._start(method, request, timeout, unary=unary)
        except grpc.RpcError as error:
            raise errors.from_call(error) from error
