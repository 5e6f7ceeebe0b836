"""Converts requests and responses of the explanation service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_explain.errors import MethodError
from lstm_explain.inputs import probe_inputs
from lstm_explain.ledger import Ledger
from lstm_explain.methods import Method
from lstm_explain.model import Explanation
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.repository.text_notation import override_from_text
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.wire.methods import default_method, from_method, to_method
from lstm_explain.serving.wire.targets import default_target, from_target, to_target
from lstm_explain.serving.wire.tensors import Array, to_arrays, to_fields
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


def to_query(request: explanation_pb2.ExplainRequest, served: ServedModel) -> ModelRequest:
    """The request with the model's defaults filled in. Raises InputError, MethodError, TargetError."""
    target = served.default_target
    if request.HasField("target"):
        target = to_target(request.target, served.default_target, served.model.outputs)
    return ModelRequest(
        inputs=to_arrays(request.inputs, "inputs"),
        method=served.with_background(_method(request, served.default_method)),
        target=target,
        capture=tuple(request.capture),
    )


def _method(request: explanation_pb2.ExplainRequest, default: Method) -> Method:
    if not request.HasField("method"):
        return override_from_text(default, None, request.parameters)
    if request.parameters:
        raise MethodError("method and parameters exclude each other: a method has its own", field="parameters")
    return to_method(request.method, default)


def probe_request(served: ServedModel, words: int) -> explanation_pb2.ExplainRequest:
    """A small made-up request with explicit method and target; words: the number of words in each text input."""
    probe = probe_inputs(served.model.inputs, 1)
    inputs = {n: np.array(["a " * words], dtype=object) if n in served.text_inputs else a for n, a in probe.items()}
    fields: dict[str, Any] = {"inputs": _tensors(inputs)}
    return explanation_pb2.ExplainRequest(
        model=served.name,
        method=default_method(served.default_method, served.model.inputs),
        target=default_target(served.default_target),
        **fields,
    )


def from_answer(job: Job) -> explanation_pb2.ExplainResponse:
    return from_explanation(job.answer, job.served.name, str(job.served.version), job.request.tokens)


def from_explanation(
    explanation: Explanation, model: str, version: str, tokens: Mapping[str, Array]
) -> explanation_pb2.ExplainResponse:
    fields: dict[str, Any] = {
        "model": model,
        "version": version,
        "outputs": _tensors(explanation.outputs),
        "explained": to_fields(explanation.explained),
        "relevance": _tensors(explanation.relevance),
        "captured": _tensors(explanation.captured),
        "ledger": _ledger(explanation.ledger),
        "method": from_method(explanation.method),
        "target": from_target(explanation.target, len(explanation.explained)),
        "tokens": _tensors(tokens),
        "standard_error": _tensors(explanation.standard_error),
        "warnings": explanation.warnings,
        "explained_quantity": explanation.explained_quantity,
        "steps_used": [] if explanation.steps_used is None else explanation.steps_used.tolist(),
    }
    return explanation_pb2.ExplainResponse(**fields)


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "inputs": to_fields(ledger.inputs),
        "initial_states": to_fields(ledger.initial_states),
        "absorbed": to_fields(ledger.absorbed),
        "residual": to_fields(ledger.residual),
        "by_node": [{"node": node, "absorbed": to_fields(share)} for node, share in ledger.by_node.items()],
    }


def _tensors(arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    return [to_fields(array, name) for name, array in arrays.items()]
