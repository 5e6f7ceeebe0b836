# SPDX-License-Identifier: Apache-2.0
"""Converts requests and responses of the explanation service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lstm_explain.condition import parse_condition
from lstm_explain.errors import MethodError, TargetError
from lstm_explain.inputs import probe_inputs
from lstm_explain.ledger import Ledger
from lstm_explain.methods import Method
from lstm_explain.model import Explanation
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.repository.text_notation import override_from_text
from lstm_explain.serving.execution.batcher import Job
from lstm_explain.serving.wire.groups import from_groups, to_groups, to_through
from lstm_explain.serving.wire.methods import default_method, from_method, to_method
from lstm_explain.serving.wire.targets import default_target, from_target, to_target, to_targets
from lstm_explain.serving.wire.tensors import Array, to_arrays, to_fields
from lstm_explain.several import joined
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


def to_query(request: explanation_pb2.ExplainRequest, served: ServedModel) -> ModelRequest:
    """Returns the request with the model's defaults filled in. Raises InputError, MethodError, TargetError."""
    target = served.default_target
    if request.HasField("target"):
        if request.targets:
            raise TargetError("target and targets exclude each other", field="target")
        target = to_target(request.target, served.default_target, served.model.outputs)
    return ModelRequest(
        inputs=to_arrays(request.inputs, "inputs"),
        method=served.with_background(_method(request, served.default_method)),
        target=target,
        targets=to_targets(request.targets, served.default_target, served.model.outputs),
        capture=tuple(request.capture),
        receipt=request.receipt,
        condition=parse_condition(request.condition),
        groups=to_groups(request.groups) if request.HasField("groups") else None,
        through=to_through(request.through),
    )


def _method(request: explanation_pb2.ExplainRequest, default: Method) -> Method:
    if not request.HasField("method"):
        return override_from_text(default, None, request.parameters)
    if request.parameters:
        raise MethodError("method and parameters exclude each other: a method has its own", field="parameters")
    return to_method(request.method, default)


def probe_request(served: ServedModel, words: int) -> explanation_pb2.ExplainRequest:
    """Returns a small made-up request with explicit method and target; words: the number of words in each text
    input.
    """
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
    write = from_explanations if job.request.targets else from_explanation
    message = write(job.answer, job.served.name, str(job.served.version), job.request.tokens)
    if job.receipt:
        message.receipt = job.receipt
    return message


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
        "not_explained": explanation.not_explained,
        **from_groups([explanation]),
        "captured_axes": _captured_axes(explanation),
    }
    return explanation_pb2.ExplainResponse(**fields)


def from_explanations(
    explanations: Sequence[Explanation], model: str, version: str, tokens: Mapping[str, Array]
) -> explanation_pb2.ExplainResponse:
    """Returns the message for several targets, at least one. Raises TargetError where their numbers of samples
    differ.
    """
    first = explanations[0]
    together = joined(explanations)
    fields: dict[str, Any] = {
        "model": model,
        "version": version,
        "outputs": _tensors(first.outputs),
        "explained": to_fields(together.explained),
        "relevance": _tensors(together.relevance),
        "captured": _tensors(together.captured),
        "ledger": _ledger(together.ledger),
        "method": from_method(first.method),
        "tokens": _tensors(tokens),
        "standard_error": _tensors(together.standard_error),
        "warnings": together.warnings,
        "targets": [
            explanation_pb2.TargetAnswer(
                target=from_target(one.target, len(one.explained)),
                warnings=one.warnings,
                explained_quantity=one.explained_quantity,
                steps_used=[] if one.steps_used is None else one.steps_used.tolist(),
                not_explained=one.not_explained,
            )
            for one in explanations
        ],
        **from_groups(explanations, several=True),
        "captured_axes": _captured_axes(first),
    }
    return explanation_pb2.ExplainResponse(**fields)


def _captured_axes(explanation: Explanation) -> list[dict[str, Any]]:
    return [
        {"name": name, "batch_axis": axes.batch, "time_axis": axes.time}
        for name, axes in explanation.captured_axes.items()
    ]


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
