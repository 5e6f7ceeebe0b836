# SPDX-License-Identifier: Apache-2.0
"""Converts targets between messages and the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import TargetError
from lstm_explain.measure import PATH, Measure
from lstm_explain.model import TensorSpec
from lstm_explain.serving.wire.tensors import to_array, to_tensor
from lstm_explain.target import Target
from lstm_explain.target_sets import CLASSES, Every, TargetSet
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

KIND_PREFIX, KIND_NUMBERS = "MEASURE_KIND_", explanation_pb2.MeasureKind.values()
Index = int | tuple[int, ...] | npt.NDArray[np.integer[Any]] | None


def to_target(
    message: explanation_pb2.Target,
    default: Target,
    outputs: Mapping[str, TensorSpec],
    path: str = "target",
    *,
    free_axes: int = 0,
) -> Target:
    """Returns the engine's target. Output and batch axis default to those of `default`; a missing index stands for the
    largest entry. path: of the message, for errors. free_axes: how many axes of the output a position leaves open.
    Raises TargetError.
    """
    output = message.output or default.output or next(iter(outputs))
    if output not in outputs:
        raise TargetError(f"there is no output {output!r}, only {', '.join(outputs)}", field=f"{path}.output")
    batch_axis = message.batch_axis if message.HasField("batch_axis") else default.batch_axis
    if message.no_batch_axis:
        batch_axis = None
    axes = len(outputs[output].shape) - (batch_axis is not None) - free_axes
    measure = _measure(message.measure, f"{path}.measure") if message.HasField("measure") else None
    if measure is not None and measure.kind == PATH:
        axes = 0  # the indices are labels, and how many depends on the output
    return Target(
        output=output,
        index=_index(message.indices, axes, f"{path}.indices"),
        batch_axis=batch_axis,
        contrast=_index(message.contrast_indices, axes, f"{path}.contrast_indices"),
        weights=to_array(message.weights, f"{path}.weights") if message.HasField("weights") else None,
        pre_activation=message.pre_activation if message.HasField("pre_activation") else default.pre_activation,
        measure=measure,
    )


def _measure(message: explanation_pb2.Measure, path: str) -> Measure:
    """Raises TargetError."""
    reference: str | npt.NDArray[Any] | None = None
    if message.HasField("input"):
        reference = message.input
    elif message.HasField("tensor"):
        reference = to_array(message.tensor, f"{path}.tensor")
    kind = explanation_pb2.MeasureKind.Name(message.kind) if message.kind in KIND_NUMBERS else str(message.kind)
    try:
        blank = message.blank if message.HasField("blank") else None
        return Measure(kind.removeprefix(KIND_PREFIX).lower(), reference, message.ahead, blank)
    except TargetError as error:
        raise TargetError(str(error), field=f"{path}.{error.field.rpartition('.')[2]}") from None


def to_targets(
    messages: Sequence[explanation_pb2.TargetSet], default: Target, outputs: Mapping[str, TensorSpec]
) -> tuple[TargetSet, ...]:
    """Returns the engine's targets of one request. Raises TargetError."""
    return tuple(_target_set(one, default, outputs, f"targets[{number}]") for number, one in enumerate(messages))


def _target_set(
    message: explanation_pb2.TargetSet, default: Target, outputs: Mapping[str, TensorSpec], path: str
) -> TargetSet:
    if message.WhichOneof("targets") is None:
        return default
    if not message.HasField("every"):
        return to_target(message.target, default, outputs, f"{path}.target")
    every = message.every
    target = to_target(every.target, default, outputs, f"{path}.every.target", free_axes=1)
    axis = every.axis if every.HasField("axis") else CLASSES
    return Every(axis, tuple(every.entries) or None, target)


def from_target(target: Target, batch: int) -> explanation_pb2.Target:
    """Returns the message for the resolved target, with one position per sample."""
    message = explanation_pb2.Target(
        output=target.output or "",
        indices=_positions(target.index, batch),
        contrast_indices=_positions(target.contrast, batch),
        batch_axis=target.batch_axis,
        no_batch_axis=target.batch_axis is None,
        pre_activation=target.pre_activation,
    )
    if target.weights is not None:
        message.weights.CopyFrom(to_tensor(np.asarray(target.weights)))
    if target.measure is not None:
        measure: Any = message.measure
        measure.kind = explanation_pb2.MeasureKind.Value(KIND_PREFIX + target.measure.kind.upper())
        measure.ahead = target.measure.ahead
        if target.measure.blank is not None:
            measure.blank = target.measure.blank
        if isinstance(target.measure.reference, str):  # a given array is not sent back
            measure.input = target.measure.reference
    return message


def default_target(target: Target) -> explanation_pb2.Target:
    """Returns the message for a model's default target, which applies to any batch."""
    message = from_target(replace(target, index=None, contrast=None), 0)
    message.indices.extend(_positions(target.index, 1))
    message.contrast_indices.extend(_positions(target.contrast, 1))
    return message


def _index(indices: Sequence[int], axes: int, field: str) -> Index:
    """`indices` hold one position (one index per axis) or one per sample (a multiple of that). Raises TargetError."""
    if not indices:
        return None
    if axes <= 0:  # there are no axes to index, or their number is not known: the engine decides
        return tuple(indices)
    if len(indices) % axes:
        raise TargetError(f"got {len(indices)} indices, but a position in this output takes {axes}", field=field)
    if len(indices) == axes:
        return int(indices[0]) if axes == 1 else tuple(indices)
    positions = np.array(indices, np.int64)
    return positions if axes == 1 else positions.reshape(-1, axes)


def _positions(index: Index, batch: int) -> list[int]:
    if index is None:
        return []
    positions: list[int] = np.asarray(index).ravel().tolist()
    each_sample = isinstance(index, np.ndarray) and index.ndim > 0
    return positions if each_sample else positions * batch
