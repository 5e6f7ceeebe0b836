# SPDX-License-Identifier: Apache-2.0
"""The results of one request with several targets."""

from __future__ import annotations

from collections.abc import Mapping

from lstm_explain_client.errors import MalformedResponse
from lstm_explain_client.explained_batch import Array
from lstm_explain_client.methods import from_wire_method
from lstm_explain_client.models import ModelDetail
from lstm_explain_client.result import Result, arrays_of, captured_axes_of, ledger_of
from lstm_explain_client.side_by_side import SideBySide
from lstm_explain_client.target import from_wire_target
from lstm_explain_client.tensors import from_wire
from lstm_explain_client.wire_groups import from_wire_groups
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


class Results(SideBySide[Result]):
    """A result per target, in the order of the targets. They share the outputs, the tokens and the receipt."""

    def with_names(self, detail: ModelDetail) -> Results:
        """Return a copy with the model's names, units and axes, which pictures and data frames then use."""
        return Results(one.with_names(detail) for one in self)


def read_results(response: explanation_pb2.ExplainResponse, inputs: Mapping[str, Array]) -> Results:
    """Read the results from a response to a request with `targets`; raises MalformedResponse if it has none."""
    if not response.targets:
        raise MalformedResponse("the answer is for one target: the server is older than requests with several targets")
    outputs, tokens = arrays_of(response.outputs), arrays_of(response.tokens)
    relevance, captured, error = (
        arrays_of(tensors) for tensors in (response.relevance, response.captured, response.standard_error)
    )
    explained, ledger = from_wire(response.explained), ledger_of(response.ledger)
    method, sent = from_wire_method(response.method), dict(inputs)
    return Results(
        Result(
            relevance=_of(relevance, number),
            outputs=outputs,
            explained=explained[number],
            captured=_of(captured, number),
            ledger=ledger.of_target(number),
            tokens=tokens,
            standard_error=_of(error, number),
            method=method,
            target=from_wire_target(own.target, explained[number].size),
            model=response.model,
            version=response.version,
            inputs=sent,
            warnings=tuple(own.warnings),
            explained_quantity=own.explained_quantity,
            steps_used=tuple(own.steps_used),
            receipt=response.receipt,
            not_explained=tuple(own.not_explained),
            groups=from_wire_groups(response.groups, number),
            captured_axes=captured_axes_of(response),
        )
        for number, own in enumerate(response.targets)
    )


def _of(arrays: Mapping[str, Array], number: int) -> dict[str, Array]:
    """Return the arrays of one target; the first axis of each array is that of the targets."""
    return {name: array[number] for name, array in arrays.items()}
