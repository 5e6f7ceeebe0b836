# SPDX-License-Identifier: Apache-2.0
"""Descriptions of models from the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lstm_explain_client.method_base import Method
from lstm_explain_client.methods import from_wire_method
from lstm_explain_client.names import Names
from lstm_explain_client.target import Target, from_wire_target
from lstm_explain_client.tensors import NAMES
from lstm_explain_proto.lstm_explain.v1 import model_pb2

_STATES: dict[int, str] = {
    number: name.removeprefix("MODEL_STATE_").lower() for name, number in model_pb2.ModelState.items()
}


@dataclass(frozen=True)
class ModelSummary:
    """One version of a model. `state` is "loading", "ready", "failed" (with its `reason`) or "unloaded".

    digest: over the files of the version, the same wherever the same files are served. is_default: whether it answers
    requests that name no version. canary_share: the share of these that it gets as the canary, from 0 to 1.
    """

    name: str
    version: str
    state: str
    reason: str = ""
    description: str = ""
    digest: str = ""
    is_default: bool = False
    canary_share: float = 0.0


@dataclass(frozen=True)
class ModelRoute:
    """Which version of a model answers requests that name none.

    default_version: empty for the newest that is ready. canary_version: empty for none. canary_share: the share that it
    gets, from 0 to 1. previous_version: the default version before the last change of it.
    """

    default_version: str
    canary_version: str
    canary_share: float
    previous_version: str


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: `dtype` is NumPy's name of the type, or "string"; `shape` with the names of symbolic axes."""

    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class NodeReport:
    """One node of the graph: whether LRP supports it, and the rule or the reason why there is none."""

    name: str
    op_type: str
    supported: bool
    rule: str


@dataclass(frozen=True)
class ModelDetail(Names, ModelSummary):
    """A model with its inputs, outputs and defaults.

    inputs, outputs: by name. lrp_supported: whether LRP supports it. nodes: what LRP does at each node.
    default_method, default_target: from the model's settings, or None.
    text_inputs: inputs that may be sent as text.
    guessed_axes: inputs for which the batch and time axes are a guess, to be set in model.yaml.
    background_samples: input name to the number of samples that the model's background set has of it.
    examples: input name to examples as text: texts, or tables as CSV with a line per time step.
    feature_groups: the groups of features that `Groups(features=True)` stands for, by input and name.
    """

    inputs: dict[str, TensorSpec] = field(default_factory=dict)
    outputs: dict[str, TensorSpec] = field(default_factory=dict)
    lrp_supported: bool = False
    nodes: tuple[NodeReport, ...] = ()
    default_method: Method | None = None
    default_target: Target | None = None
    text_inputs: tuple[str, ...] = ()
    guessed_axes: tuple[str, ...] = ()
    background_samples: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    feature_groups: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)


def summary(message: model_pb2.ModelSummary) -> ModelSummary:
    """Read a summary from a message."""
    return ModelSummary(**_summary_fields(message))


def detail(message: model_pb2.ModelDetail) -> ModelDetail:
    """Read a description from a message."""
    return ModelDetail(
        **_summary_fields(message.summary),
        inputs={spec.name: _spec(spec) for spec in message.inputs},
        outputs={spec.name: _spec(spec) for spec in message.outputs},
        lrp_supported=message.lrp_supported,
        nodes=tuple(NodeReport(n.name, n.op_type, n.supported, n.rule) for n in message.nodes),
        default_method=from_wire_method(message.default_method),
        default_target=from_wire_target(message.default_target, 0) if message.HasField("default_target") else None,
        class_names={name: tuple(names.values) for name, names in message.class_names.items()},
        feature_names={name: tuple(names.values) for name, names in message.feature_names.items()},
        text_inputs=tuple(message.text_inputs),
        batch_axes=dict(message.batch_axes),
        time_axes=dict(message.time_axes),
        guessed_axes=tuple(message.guessed_axes),
        units={name: tuple(names.values) for name, names in message.units.items()},
        background_samples=dict(message.background_samples),
        examples={name: tuple(names.values) for name, names in message.examples.items()},
        feature_groups=_feature_groups(message),
    )


def _feature_groups(message: model_pb2.ModelDetail) -> dict[str, dict[str, tuple[str, ...]]]:
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for group in message.feature_groups:
        found.setdefault(group.input, {})[group.name] = tuple(group.features)
    return found


def route(message: model_pb2.ModelRoute) -> ModelRoute:
    """Read a route from a message."""
    return ModelRoute(message.default_version, message.canary_version, message.canary_share, message.previous_version)


def _summary_fields(message: model_pb2.ModelSummary) -> dict[str, Any]:
    state = _STATES.get(message.state, "unspecified")
    return {
        "name": message.name,
        "version": message.version,
        "state": state,
        "reason": message.reason,
        "description": message.description,
        "digest": message.digest,
        "is_default": message.is_default,
        "canary_share": message.canary_share,
    }


def _spec(message: model_pb2.TensorSpec) -> TensorSpec:
    shape = tuple(d.symbol if d.WhichOneof("dimension") == "symbol" else d.size for d in message.shape)
    return TensorSpec(NAMES.get(message.dtype, "unspecified"), shape)
