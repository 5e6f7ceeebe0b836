# SPDX-License-Identifier: Apache-2.0
"""Converts groups of entries and of units to and from messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_explain_client.errors import InvalidRequest
from lstm_explain_client.groups import GroupRelevance, Groups
from lstm_explain_client.tensors import from_wire
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


def to_wire_groups(groups: Groups | Mapping[str, Any] | None) -> explanation_pb2.Groups | None:
    """Return the message; raises InvalidRequest. groups: or a dict of the fields of Groups."""
    if groups is None:
        return None
    try:
        given = groups if isinstance(groups, Groups) else Groups(**groups)
        message = explanation_pb2.Groups(model_features=given.features is True)
        if given.window is not None:
            message.window = given.window
        if given.words:
            message.words = True
        if given.change_points is not None:
            message.change_points.segments = given.change_points.segments
            if given.change_points.penalty is not None:
                message.change_points.penalty = given.change_points.penalty
        if isinstance(given.features, Mapping):
            message.features.extend(_features(given.features))
        elif not isinstance(given.features, bool):
            raise TypeError(f"features is {given.features!r}, expected a dict from the name of a group to its features")
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"groups: {error}", field="groups") from error
    chosen = [given.window is not None, given.words, given.change_points is not None]
    if sum(chosen) > 1:  # the message would hold the last of them alone
        raise InvalidRequest("groups: window, words and change_points exclude each other", field="groups")
    return message


def to_wire_through(through: Mapping[str, Any] | None) -> list[explanation_pb2.Through]:
    """Return the messages; raises InvalidRequest."""
    try:
        return [explanation_pb2.Through(value=name, units=units) for name, units in (through or {}).items()]
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"through: {error}; expected units by the name of a value", field="through") from error


def _features(features: Mapping[str, Any]) -> list[explanation_pb2.FeatureGroup]:
    nested = all(isinstance(value, Mapping) for value in features.values())
    by_input: Mapping[str, Any] = features if nested else {"": features}
    found = []
    for name, groups in by_input.items():
        for group, members in groups.items():
            if isinstance(members, str):  # a str would be read as a list of letters
                raise InvalidRequest(f"groups: {group} is a str; expected a list of features", field="groups.features")
            found.append(explanation_pb2.FeatureGroup(name=group, input=name, features=map(str, members)))
    return found


def from_wire_groups(message: explanation_pb2.GroupAnswer, number: int | None = None) -> dict[str, GroupRelevance]:
    """Return the groups by input. number: of the target, where the answer has an axis of targets in front."""

    def part(tensor: Any) -> Any:
        array = from_wire(tensor)
        return array if number is None else array[number]

    errors = {tensor.name: part(tensor) for tensor in message.standard_error}
    names = {tensor.name: from_wire(tensor) for tensor in message.names}
    steps = {tensor.name: from_wire(tensor) for tensor in message.steps}
    return {
        tensor.name: GroupRelevance(part(tensor), names[tensor.name], steps[tensor.name], errors.get(tensor.name))
        for tensor in message.relevance
    }
