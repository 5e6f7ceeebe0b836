# SPDX-License-Identifier: Apache-2.0
"""Results: arrays, the ledger that accounts for them, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from lstm_explain_client.explained_batch import Array
from lstm_explain_client.groups import GroupRelevance
from lstm_explain_client.ledger import Ledger
from lstm_explain_client.method_base import Method
from lstm_explain_client.methods import from_wire_method
from lstm_explain_client.models import ModelDetail
from lstm_explain_client.neurons import CapturedAxes
from lstm_explain_client.shown import Shown
from lstm_explain_client.target import Target, from_wire_target
from lstm_explain_client.tensors import from_wire
from lstm_explain_client.wire_groups import from_wire_groups
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


@dataclass(frozen=True, eq=False, repr=False)
class Result(Shown):
    """The explanation of one batch, which can show itself as a page, a picture or a data frame.

    relevance: input name to an array in the shape of the input; for token ids and text, one number per token.
    outputs: output name to the prediction.
    explained: [batch] the explained value of each sample.
    captured: relevance of the inner values that the request captures.
    ledger: accounts for all of `explained`.
    standard_error: standard error of the relevance, in its shape, for answers that draw samples (ShapleySampling,
        GradientShap, and draws from a background set).
    warnings: reasons not to rely on the answer, one sentence each; if empty, the answer can be acted on.
    explained_quantity: how `explained` relates to the output of the target: "output" (the output itself), "logit" (the
        value before its Softmax or Sigmoid), "score" (before LogSoftmax, Exp or Softplus) or "probability" (the output
        converted to a probability). Empty if the server is older than this field.
    steps_used: for IntegratedGradients, the number of points on the line that each sample needed; for Counterfactual,
        how often the model ran.
    receipt: for a request with `receipt`, a signed record of the answer; write it to a file for `lstm-explain verify`.
    not_explained: for a request with a condition, one text per sample: why it is not explained, or empty. The relevance
        and ledger of such a sample are NaN.
    captured_axes: where samples and time steps lie in the captured values; `neurons()` reads them.
    groups: for a request with `groups`, the groups and their relevance by input; `group_frame()` is a table of them.
    tokens: the tokens of inputs sent as text, in the shape of the relevance; padding is the empty string.
    method, target: those that the server used. model, version: the model that answered.
    inputs: the arrays that were sent. detail: the description of the model, whose names pictures show.
    batch_axes: input name to the batch axis, or None. `with_names` fills it in; without an entry, the first axis of
        the size of the batch is used.
    """

    relevance: dict[str, Array]
    outputs: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    tokens: dict[str, Array] = field(default_factory=dict)
    method: Method | None = None
    target: Target | None = None
    model: str = ""
    version: str = ""
    inputs: dict[str, Array] = field(default_factory=dict)
    detail: ModelDetail | None = None
    batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    standard_error: dict[str, Array] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    explained_quantity: str = ""
    steps_used: tuple[int, ...] = ()
    receipt: str = ""
    not_explained: tuple[str, ...] = ()
    groups: dict[str, GroupRelevance] = field(default_factory=dict)
    captured_axes: Mapping[str, CapturedAxes] = field(default_factory=dict)

    def with_names(self, detail: ModelDetail) -> Self:
        """Return a copy with the model's names, units and axes, which pictures and data frames then use."""
        described = {name: detail.batch_axes.get(name) for name in self.relevance} if detail.batch_axes else {}
        return replace(self, detail=detail, batch_axes={**described, **self.batch_axes})


def read_result(response: explanation_pb2.ExplainResponse, inputs: Mapping[str, Array]) -> Result:
    """Read the result from a response; `inputs` are the arrays that were sent."""
    explained = from_wire(response.explained)
    return Result(
        relevance=arrays_of(response.relevance),
        outputs=arrays_of(response.outputs),
        explained=explained,
        captured=arrays_of(response.captured),
        ledger=ledger_of(response.ledger),
        tokens=arrays_of(response.tokens),
        standard_error=arrays_of(response.standard_error),
        method=from_wire_method(response.method),
        target=from_wire_target(response.target, explained.size),
        model=response.model,
        version=response.version,
        inputs=dict(inputs),
        warnings=tuple(response.warnings),
        explained_quantity=response.explained_quantity,
        steps_used=tuple(response.steps_used),
        receipt=response.receipt,
        not_explained=tuple(response.not_explained),
        groups=from_wire_groups(response.groups),
        captured_axes=captured_axes_of(response),
    )


def captured_axes_of(response: explanation_pb2.ExplainResponse) -> dict[str, CapturedAxes]:
    """Return where samples and time steps lie in the captured values, by name."""
    return {
        one.name: CapturedAxes(
            one.batch_axis if one.HasField("batch_axis") else None, one.time_axis if one.HasField("time_axis") else None
        )
        for one in response.captured_axes
    }


def arrays_of(tensors: Any) -> dict[str, Array]:
    """Return the arrays of tensors, by name."""
    return {tensor.name: from_wire(tensor) for tensor in tensors}


def ledger_of(message: explanation_pb2.Ledger) -> Ledger:
    """Read a ledger from its message."""
    return Ledger(
        inputs=from_wire(message.inputs),
        initial_states=from_wire(message.initial_states),
        absorbed=from_wire(message.absorbed),
        residual=from_wire(message.residual),
        by_node={share.node: from_wire(share.absorbed) for share in message.by_node},
    )
