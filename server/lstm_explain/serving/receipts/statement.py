# SPDX-License-Identifier: Apache-2.0
"""Writes what a receipt states: an in-toto statement (https://in-toto.io/Statement/v1) about one answer.

Its subjects are the arrays of the answer, its predicate says what they were computed from. The digest of an array is
the SHA-256 of the `data` of its tensor on the wire: the elements in row-major order, little-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from google.protobuf.message import Message

from lstm_explain.condition import Condition, parse_condition
from lstm_explain.grouping import Groups
from lstm_explain.inputs import check_inputs
from lstm_explain.methods import METHODS, Method
from lstm_explain.methods.background import Background
from lstm_explain.methods.base import BaselineMethod
from lstm_explain.model import Explanation
from lstm_explain.repository.as_json import listed
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.serving.receipts.environment import environment
from lstm_explain.serving.wire.groups import to_groups, to_through
from lstm_explain.serving.wire.methods import from_method, to_method
from lstm_explain.serving.wire.targets import from_target, to_target
from lstm_explain.serving.wire.tensors import to_fields, to_tensor
from lstm_explain.several import joined
from lstm_explain.target import Target
from lstm_explain_client.wire_groups import to_wire_groups, to_wire_through
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2, method_pb2, tensor_pb2

Array = npt.NDArray[Any]
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://lstm-explain.dev/receipt/v1"
LEDGER = ("inputs", "initial_states", "absorbed", "residual")
GROUP_NAMES, GROUP_STEPS = "group_names/", "group_steps/"  # and the input


@dataclass(frozen=True)
class Answered:
    """One answered request. several: whether it asked for a list of targets, even of one. without_kernels: whether
    NumPy answered, because kernels were not compiled yet. groups, through: see ModelRequest.
    """

    served: ServedModel
    inputs: Mapping[str, Array]
    explanations: Sequence[Explanation]
    several: bool
    capture: tuple[str, ...] = ()
    condition: Condition | None = None
    without_kernels: bool = False
    groups: Groups | None = None
    through: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What a receipt says was asked for."""

    method: Method
    targets: list[Target]
    several: bool
    capture: tuple[str, ...]
    condition: Condition | None
    groups: Groups | None
    through: dict[str, tuple[int, ...]]


def statement(answered: Answered, request_id: str, time: str, public_key: str) -> dict[str, Any]:
    """Returns the statement as plain JSON. time: in UTC, as RFC 3339 writes it. public_key: of the signer, PEM."""
    served, first = answered.served, answered.explanations[0]
    numbers = joined(answered.explanations) if answered.several else first
    return {
        "_type": STATEMENT_TYPE,
        "subject": described(arrays_of(answered)),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "time": time,
            "requestId": request_id,
            "signer": {"publicKey": public_key},
            "model": {
                "name": served.name,
                "version": str(served.version),
                "digest": {"sha256": served.card.digest},
                "files": [{"name": n, "digest": {"sha256": d}} for n, d in served.card.file_digests.items()],
            },
            "inputs": described(check_inputs(served.model.inputs, answered.inputs)),
            "method": _plain(_method_message(first.method, served)),
            "targets": [_plain(_target_message(e.target, len(e.explained))) for e in answered.explanations],
            "several": answered.several,
            "capture": list(answered.capture),
            **_of_condition(answered),
            **_of_groups(answered),
            **({"through": [_plain(one) for one in to_wire_through(answered.through)]} if answered.through else {}),
            "explained": numbers.explained.tolist(),
            "ledger": {part: listed(getattr(numbers.ledger, part)) for part in LEDGER},
            "warnings": list(numbers.warnings),
            "environment": environment(without_kernels=answered.without_kernels),
        },
    }


def _of_condition(answered: Answered) -> dict[str, Any]:
    if answered.condition is None:
        return {}
    reasons = [list(one.not_explained) for one in answered.explanations]
    return {"condition": str(answered.condition), "notExplained": reasons}


def _of_groups(answered: Answered) -> dict[str, Any]:
    message = to_wire_groups(answered.groups)
    return {} if message is None else {"groups": _plain(message)}


def arrays_of(answered: Answered) -> dict[str, Array]:
    """Returns the arrays of the answer by name. Those of several targets have an axis of targets in front."""
    first = answered.explanations[0]
    numbers = joined(answered.explanations) if answered.several else first
    return {
        **{f"relevance/{name}": array for name, array in numbers.relevance.items()},
        **{f"captured/{name}": array for name, array in numbers.captured.items()},
        **{f"standard_error/{name}": array for name, array in numbers.standard_error.items()},
        **_group_arrays(answered),
        **{f"output/{name}": array for name, array in first.outputs.items()},
        "explained": numbers.explained,
        **{f"ledger/{part}": getattr(numbers.ledger, part) for part in LEDGER},
    }


def _group_arrays(answered: Answered) -> dict[str, Array]:
    """Returns the arrays of the field `groups` of the answer."""
    found: dict[str, Array] = {}
    for name, own in answered.explanations[0].groups.items():
        found |= {f"{GROUP_NAMES}{name}": own.names, f"{GROUP_STEPS}{name}": own.steps}
        for part in ("relevance", "standard_error"):
            each = [getattr(one.groups[name], part) for one in answered.explanations]
            if each[0] is not None:
                found[f"group_{part}/{name}"] = np.stack(each) if answered.several else each[0]
    return found


def described(arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Returns in-toto resource descriptors: name, digest, type and shape of each array."""
    found = []
    for name, array in arrays.items():
        fields = to_fields(np.asarray(array), name)
        dtype = tensor_pb2.DataType.Name(fields["dtype"]).removeprefix("DATA_TYPE_")
        found.append(
            {
                "name": name,
                "digest": {"sha256": hashlib.sha256(fields["data"]).hexdigest()},
                "annotations": {"dtype": dtype, "shape": list(fields["shape"])},
            }
        )
    return found


def asked(predicate: Mapping[str, Any], served: ServedModel) -> Asked:
    """Returns what the predicate says was asked of the model. Raises Error, ParseError of protobuf."""
    message = json_format.ParseDict(predicate["method"], method_pb2.Method())
    name = message.WhichOneof("method")
    method = served.with_background(to_method(message, METHODS[name]()))
    targets = []
    for one in predicate["targets"]:
        target = to_target(json_format.ParseDict(one, explanation_pb2.Target()), Target(), served.model.outputs)
        targets.append(target)
    condition = parse_condition(predicate.get("condition", ""))
    groups = None
    if "groups" in predicate:
        groups = to_groups(json_format.ParseDict(predicate["groups"], explanation_pb2.Groups()))
    through = to_through(json_format.ParseDict(o, explanation_pb2.Through()) for o in predicate.get("through", ()))
    several, capture = bool(predicate["several"]), tuple(predicate["capture"])
    return Asked(method, targets, several, capture, condition, groups, through)


def _plain(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message)


def _method_message(method: Method, served: ServedModel) -> method_pb2.Method:
    """Returns the message with every parameter, so that no default of a later version takes its place. Samples that
    came with the request are part of it; those of the model are part of its digest.
    """
    message = from_method(method)
    baseline = method.baseline if isinstance(method, BaselineMethod) else None
    own = served.model.background
    if not isinstance(baseline, Background) or baseline.samples is None or baseline.samples is own:
        return message
    if own is not None and Background(own, baseline.draws, baseline.seed) == baseline:
        return message
    complete = method_pb2.Method()
    complete.CopyFrom(message)
    background = getattr(complete, method.name).background
    background.samples.extend(to_tensor(array, name) for name, array in baseline.samples.items())
    return complete


def _target_message(target: Target, batch: int) -> explanation_pb2.Target:
    """Returns the message with the array that an error compares with, which answers omit."""
    message = from_target(target, batch)
    if target.measure is not None and target.measure.reference is not None:
        reference = target.measure.reference
        if not isinstance(reference, str):
            message.measure.tensor.CopyFrom(to_tensor(np.asarray(reference)))
    return message
