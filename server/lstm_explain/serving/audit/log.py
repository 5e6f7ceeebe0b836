# SPDX-License-Identifier: Apache-2.0
"""Writes one JSON object per explanation, per prediction and per change of the repository."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from select import PIPE_BUF
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.methods.base import Method
from lstm_explain.repository.group_notation import groups_as_text
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.through_notation import through_as_text
from lstm_explain.serving.audit.note import Origin, RequestNote
from lstm_explain.serving.audit.stream import AuditStream, moment
from lstm_explain.target import Target, text_of

# Characters of any text of a line; the smaller number applies where a line would not fit into one write to a pipe.
MAX_TEXT, MIN_TEXT = 300, 60
MAX_NAMED_TARGETS = 16
# What a call does, by its name. Other calls only read; they get a line where they are refused.
EVENTS = {
    "Explain": "explain",
    "ExplainStream": "explain",
    "ModelInfer": "explain",
    "ModelStreamInfer": "explain",
    "StartExplain": "start",
    "StartBatch": "start",
    "RunOperation": "explain",
    "CancelOperation": "cancel",
    "DeleteOperation": "delete",
    "ImportModel": "import",
    "DeleteModel": "delete",
    "RouteModel": "route",
    "RollBackModel": "rollback",
    "RepositoryModelLoad": "load",
    "RepositoryModelUnload": "unload",
}
STREAMS = frozenset({"ExplainStream", "ModelStreamInfer"})
PREDICT, CALL = "predict", "call"
REFUSALS = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"})


class AuditLog:
    """with_inputs: whether lines hold the inputs of the request. with_subjects: whether clients have certificates."""

    def __init__(self, stream: AuditStream, *, with_inputs: bool, with_subjects: bool) -> None:
        self._stream = stream
        self.with_subjects = with_subjects
        self._with_inputs = with_inputs

    def call(self, rpc: str, origin: Origin, note: RequestNote, code: str, seconds: float) -> None:
        """Writes the line of a call. One that opened a stream, or only reads, gets one if it was refused or failed; the
        requests of a stream have their own.
        """
        if (rpc in EVENTS and rpc not in STREAMS) or (code != "OK" and rpc in STREAMS) or code in REFUSALS:
            self.request(rpc, origin, note, code, seconds)

    def request(self, rpc: str, origin: Origin, note: RequestNote, code: str, seconds: float) -> None:
        """Writes the line of one request. code: the name of a gRPC status. seconds: how long it took."""
        line = self._line(rpc, origin, note, code, seconds, MAX_TEXT)
        if len(line) > PIPE_BUF and not self._with_inputs:
            line = self._line(rpc, origin, note, code, seconds, MIN_TEXT)
        self._stream.write(line)

    def _line(self, rpc: str, origin: Origin, note: RequestNote, code: str, seconds: float, most: int) -> bytes:
        """Returns the line. Written by hand from parts that are kept, in a third of the time of `json.dumps`.

        most: characters of any text.
        """
        event, more = EVENTS.get(rpc, CALL), ""
        if note.item:
            more = f', "item": {json.dumps(_short(note.item, most))}'
        if note.error:
            more += f', "error": {json.dumps(_short(note.error, most))}'
        if note.change:
            more += f', "change": {json.dumps(note.change)}'
        request = note.request
        if request is not None:
            if request.method is None:
                event = PREDICT
            else:
                target = _targets(request, note.targets)
                more += f', "method": {_described(request.method, most)}, "target": {_quoted(target, most)}'
                if request.condition is not None:
                    more += f', "condition": {_quoted(str(request.condition), most)}, "left_out": {note.left_out}'
                if request.groups is not None:
                    more += f', "groups": {_quoted(groups_as_text(request.groups), most)}'
                if request.through:
                    more += f', "through": {_quoted(through_as_text(request.through), most)}'
            if self._with_inputs:
                more += f', "inputs": {json.dumps({name: _array(value) for name, value in request.inputs.items()})}'
        who = _who(origin.caller, origin.subject, origin.peer, origin.face, most)
        return (
            f'{{"time": "{moment(time.time())}", "event": "{event}", "rpc": "{rpc}", "status": "{code}", '
            f'"milliseconds": {seconds * 1e3:.3f}, {who}, "request_id": "{origin.request_id}", '
            f"{_what(note.model, note.version, note.digest, most)}{more}}}\n"
        ).encode()

    def close(self) -> None:
        self._stream.close()


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 2]} …"


@lru_cache(maxsize=1024)
def _quoted(text: str, most: int) -> str:
    """Returns a text as JSON that recurs: the name of a caller, a model or a target."""
    return json.dumps(_short(text, most))


@lru_cache(maxsize=1024)
def _who(caller: str, subject: str, peer: str, face: str, most: int) -> str:
    fields = {"caller": caller, "subject": subject, "peer": peer, "face": face}
    return ", ".join(f'"{name}": {_quoted(text, most)}' for name, text in fields.items())


@lru_cache(maxsize=256)
def _what(model: str, version: str, digest: str, most: int) -> str:
    fields = {"model": model, "version": version, "digest": digest}
    return ", ".join(f'"{name}": {_quoted(text, most)}' for name, text in fields.items())


def _described(method: Method, most: int) -> str:
    """Returns the method and its parameters as JSON."""
    try:
        return _cached_description(method, most)
    except TypeError:  # it holds arrays, which have no hash
        return json.dumps(_short(str(method), most))


@lru_cache(maxsize=256)
def _cached_description(method: Method, most: int) -> str:
    return json.dumps(_short(str(method), most))


def _targets(request: ModelRequest, explained: Sequence[Target]) -> str:
    """Returns the targets as text, such as `logits:3; logits:0`. explained: those of the answer, if there is one."""
    if request.targets and not explained:
        return f"{len(request.targets)} targets or sets of targets"
    shown = [_target(one) for one in (explained or (request.target,))[:MAX_NAMED_TARGETS]]
    more = "; …" if len(explained) > MAX_NAMED_TARGETS else ""
    return "; ".join(shown) + more


def _target(target: Target) -> str:
    index = target.index
    if isinstance(index, np.ndarray) and index.size == 1:
        index = index.item()
    if isinstance(index, int) and target.contrast is None and target.measure is None:
        return f"{target.output}:{index}"
    if target.weights is not None:
        return f"{target.output}: weighted sum"
    if isinstance(index, np.ndarray) and len(index) > MAX_NAMED_TARGETS:
        return f"{target.output}: a position for each of {len(index)} samples"
    against = "" if target.contrast is None else f" minus {text_of(Target(target.output, target.contrast))}"
    return f"{text_of(target)}{against}"


def _array(array: npt.NDArray[Any]) -> Mapping[str, Any]:
    """Returns an array as JSON: its type, its shape, and its bytes as base64 in row-major order, little-endian."""
    if array.dtype == object:
        return {"dtype": "text", "shape": array.shape, "values": array.ravel().tolist()}
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": str(array.dtype), "shape": array.shape, "data": base64.b64encode(little.tobytes()).decode()}
