# SPDX-License-Identifier: Apache-2.0
"""Converts groups of entries, their relevance, and the units that relevance passes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lstm_explain.errors import InputError
from lstm_explain.grouping import ChangePoints, Groups
from lstm_explain.model import Explanation
from lstm_explain.serving.wire.tensors import to_fields
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2


def to_groups(message: explanation_pb2.Groups) -> Groups:
    """Raises InputError."""
    features: Any = _features(message.features)
    if message.model_features:
        if features:
            raise InputError("groups: features and model_features exclude each other", field="groups.model_features")
        features = True
    steps = message.WhichOneof("steps")
    cuts = message.change_points
    penalty = cuts.penalty if cuts.HasField("penalty") else None
    return Groups(
        window=message.window if steps == "window" else None,
        words=message.words,
        change_points=None
        if steps != "change_points"
        else ChangePoints(cuts.segments, penalty)
        if cuts.HasField("segments")
        else ChangePoints(penalty=penalty),
        features=features,
    )


def _features(groups: Sequence[explanation_pb2.FeatureGroup]) -> dict[str, Any]:
    """Returns the features by the name of their group; by input, where the groups name inputs."""
    by_input: dict[str, dict[str, list[str]]] = {}
    for number, group in enumerate(groups):
        own = by_input.setdefault(group.input, {})
        if group.name in own:
            raise InputError(f"groups: {group.name!r} occurs twice", field=f"groups.features[{number}].name")
        own[group.name] = list(group.features)
    if "" in by_input and len(by_input) > 1:
        raise InputError("groups: some features name their input, others do not", field="groups.features")
    return by_input.get("", by_input)


def to_through(messages: Iterable[explanation_pb2.Through]) -> dict[str, tuple[int, ...]]:
    """Returns the units by value. Raises InputError where a value occurs twice: only one condition would hold."""
    found: dict[str, tuple[int, ...]] = {}
    for number, one in enumerate(messages):
        if one.value in found:
            raise InputError(f"through: {one.value!r} occurs twice", field=f"through[{number}].value")
        found[one.value] = tuple(one.units)
    return found


def from_groups(explanations: Sequence[Explanation], *, several: bool = False) -> dict[str, Any]:
    """Returns the field `groups` of the message; nothing where there are none. several: whether arrays have an axis of
    targets in front.
    """
    first = explanations[0].groups
    if not first:
        return {}

    def numbers(part: str) -> list[dict[str, Any]]:
        found = []
        for name in first:
            each = [getattr(one.groups[name], part) for one in explanations]
            if each[0] is not None:
                found.append(to_fields(np.stack(each) if several else each[0], name))
        return found

    answer = {
        "relevance": numbers("relevance"),
        "standard_error": numbers("standard_error"),
        "names": [to_fields(own.names, name) for name, own in first.items()],
        "steps": [to_fields(own.steps, name) for name, own in first.items()],
    }
    return {"groups": answer}
