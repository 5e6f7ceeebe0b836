# SPDX-License-Identifier: Apache-2.0
"""Builds requests from arguments and results from responses, without calling a server."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lstm_explain_client import methods, target
from lstm_explain_client.errors import ExplainError, InvalidRequest, from_number
from lstm_explain_client.groups import Groups
from lstm_explain_client.method_base import Method
from lstm_explain_client.progress import ProgressLike, Reports
from lstm_explain_client.result import Result, read_result
from lstm_explain_client.results import Results, read_results
from lstm_explain_client.target_sets import TargetLike, TargetsLike, to_wire_targets
from lstm_explain_client.tensors import Array, as_array, to_wire
from lstm_explain_client.wire_groups import to_wire_groups, to_wire_through
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, model_pb2

CHUNK = 1 << 20

Inputs = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Request:
    """A request for one explanation. The fields are the arguments of `Client.explain`.

    targets: several at once, instead of `target`, as in `Client.explain_many`.
    id: identifies the answer in a stream; default: the position of the request in the stream, from "0".
    receipt: whether to ask for a receipt.
    progress, condition, groups, through: as in `Client.explain`.
    """

    model: str
    inputs: Inputs
    method: str | Method | None = None
    target: TargetLike | None = None
    parameters: Mapping[str, Any] | None = None
    capture: Sequence[str] = ()
    version: str = ""
    id: str = ""
    targets: TargetsLike | None = None
    receipt: bool = False
    progress: ProgressLike = None
    condition: str = ""
    groups: Groups | Mapping[str, Any] | None = None
    through: Mapping[str, Sequence[int]] | None = None

    def message(self, arrays: Mapping[str, Array]) -> explanation_pb2.ExplainRequest:
        """Returns the request message, with `arrays` from `self.arrays()`; raises InvalidRequest."""
        if not isinstance(self.model, str) or not self.model:
            raise InvalidRequest(f"model is {self.model!r}; expected a name", field="model")
        if isinstance(self.capture, str):  # a str would be read as a list of letters
            raise InvalidRequest("capture is a str; expected a list of names", field="capture")
        resolved = target.resolve(self.target)
        return explanation_pb2.ExplainRequest(
            model=self.model,
            version=self.version,
            inputs=[to_wire(array, name) for name, array in arrays.items()],
            target=target.to_wire_target(resolved) if resolved else None,
            method=self._method(),
            parameters=self._parameters(),
            capture=self.capture,
            targets=() if self.targets is None else to_wire_targets(self.targets),
            receipt=self.receipt,
            condition=str(self.condition or ""),
            groups=to_wire_groups(self.groups),
            through=to_wire_through(self.through),
        )

    def arrays(self) -> dict[str, Array]:
        """Returns the inputs as arrays that can be sent."""
        given: Any = self.inputs  # callers without a type checker pass anything
        if not isinstance(given, Mapping):
            kind = type(given).__name__
            raise InvalidRequest(f"inputs is a {kind}; expected a dict of input name to array", field="inputs")
        return {name: as_array(value, f"inputs.{name}") for name, value in given.items()}

    def _method(self) -> Any:
        if self.method is None:
            return None
        return methods.to_wire_method(methods.resolve(self.method, self.parameters))

    def _parameters(self) -> Mapping[str, str]:
        """Returns the parameters as text, for the model's default method, which this client does not know."""
        return methods.as_text(self.parameters or {}) if self.method is None else {}


@dataclass(frozen=True)
class Answer:
    """The answer to one request of a stream: a result, the results of a request with `targets`, or an error."""

    id: str
    result: Result | None = None
    error: ExplainError | None = None
    results: Results | None = None

    def get(self) -> Result:
        """Return the result, or raise the error; raise ValueError for a request with several targets."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise ValueError("the request has several targets: use get_many")
        return self.result

    def get_many(self) -> Results:
        """Return the results of a request with several targets, or raise the error."""
        if self.error is not None:
            raise self.error
        return Results() if self.results is None else self.results


@dataclass
class Stream:
    """The bookkeeping of one ExplainStream: which request belongs to which answer.

    A request that cannot be built is answered with its error, as the server would do.
    """

    failed: deque[Answer] = field(default_factory=deque)
    reports: Reports = field(default_factory=Reports)
    _sent: dict[str, dict[str, Array]] = field(default_factory=dict)
    _count: int = 0

    def encode(self, item: Request | Mapping[str, Any]) -> explanation_pb2.ExplainStreamRequest | None:
        """Returns the message for a request, or None: its answer is then in `failed`."""
        number, self._count = str(self._count), self._count + 1
        identity = number
        try:
            request = as_request(item, number)
            identity = request.id
            if identity in self._sent:
                raise InvalidRequest(f"the id {identity!r} is in use by a request without an answer yet", field="id")
            arrays = request.arrays()
            message = request.message(arrays)
            progress = self.reports.ask(identity, request.progress, _label(request))
        except ExplainError as error:
            self.failed.append(Answer(identity, error=error))
            return None
        self._sent[identity] = arrays
        return explanation_pb2.ExplainStreamRequest(id=identity, request=message, progress=progress)

    def decode(self, response: explanation_pb2.ExplainStreamResponse) -> Answer | None:
        """Reads the answer from a message; None where the message is no answer, but its progress."""
        if response.WhichOneof("result") == "progress":
            self.reports.tell(response.id, response.progress.done, response.progress.total)
            return None
        self.reports.answered(response.id)
        inputs = self._sent.pop(response.id, {})
        if response.WhichOneof("result") == "error":
            error = response.error
            return Answer(response.id, error=from_number(error.code, error.message, error.field))
        try:
            if response.response.targets:
                return Answer(response.id, results=read_results(response.response, inputs))
            return Answer(response.id, result=read_result(response.response, inputs))
        except ExplainError as unreadable:
            return Answer(response.id, error=unreadable)

    def take_failed(self) -> Iterator[Answer]:
        """Answers of requests that were never sent, each once."""
        while self.failed:
            yield self.failed.popleft()


def _label(request: Request) -> str:
    name = request.method.name if isinstance(request.method, Method) else request.method
    return request.model if name is None else f"{request.model}, {name}"


def as_request(item: Request | Mapping[str, Any], number: str = "") -> Request:
    """Returns the request that has these arguments. number: its id, unless it has one. Raises InvalidRequest."""
    if isinstance(item, Request):
        return item if item.id else replace(item, id=number)
    known = [f.name for f in fields(Request)]
    for key in item:
        if key not in known:
            raise InvalidRequest(f"unknown argument {key!r}, there are {', '.join(known)}", field=str(key))
    for key in ("model", "inputs"):
        if key not in item:
            raise InvalidRequest(f"the argument {key} is missing", field=key)
    return Request(**{"id": number, **item})


ModelSource = str | os.PathLike[str] | bytes
Files = Sequence[str | os.PathLike[str]] | Mapping[str, ModelSource]


def import_plan(
    name: str, source: ModelSource, version: str | None, config: str | None, files: Files
) -> list[tuple[model_pb2.ImportModelRequest, ModelSource]]:
    """Returns the messages that announce each file with its checksum, and the contents of the files. Raises OSError
    where one cannot be read.
    """
    digest, size = _digest(source)
    start = model_pb2.ImportModelStart(
        name=name, version=version or "", sha256=digest, size=size, config_yaml=config or ""
    )
    plan = [(model_pb2.ImportModelRequest(start=start), source)]
    for own_name, file in _named(files).items():
        digest, size = _digest(file)
        announced = model_pb2.ImportModelFile(name=own_name, sha256=digest, size=size)
        plan.append((model_pb2.ImportModelRequest(file=announced), file))
    return plan


def import_messages(
    plan: Sequence[tuple[model_pb2.ImportModelRequest, ModelSource]],
) -> Iterator[model_pb2.ImportModelRequest]:
    """Yields all messages of an import, in order."""
    for announcing, source in plan:
        yield announcing
        for chunk in _chunks(source):
            yield model_pb2.ImportModelRequest(chunk=chunk)


def _named(files: Files) -> Mapping[str, ModelSource]:
    return files if isinstance(files, Mapping) else {Path(path).name: path for path in files}


def _digest(source: ModelSource) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(source):
        digest.update(chunk)
        size += len(chunk)
    return digest.digest(), size


def _chunks(source: ModelSource) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield from (source[at : at + CHUNK] for at in range(0, len(source), CHUNK))
        return
    with Path(source).open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
