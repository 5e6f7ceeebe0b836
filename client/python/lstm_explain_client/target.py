# SPDX-License-Identifier: Apache-2.0
"""What to explain: one scalar per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lstm_explain_client.errors import InvalidRequest
from lstm_explain_client.tensors import as_array, from_wire, to_wire
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

Index = int | tuple[int, ...] | npt.NDArray[np.integer[Any]] | list[int] | list[list[int]]


MeasureKind = Literal[
    "mean_squared_error", "mean_absolute_error", "l1_norm", "l2_norm", "log_probability", "probability", "path_score"
]
_PREFIX = "MEASURE_KIND_"


@dataclass(frozen=True, eq=False)
class Measure:
    """A number of the output of each sample that is explained instead of an entry.

    kind: an error against the reference, a norm of all entries, or the probability of the entry at the target's
        `index` by the softmax over the last axis, or its logarithm; "path_score" is the sum along a path of one label
        per step, whose labels the target's `index` holds, shape [steps] or [batch, steps]. Default: the best path. -1
        after the last label stands for steps that do not count.
    reference: for an error, the name of an input, or an array of the shape of the output or of that of one sample. For
        a path, an array [labels, labels] of what the best path gains from one label to the next, as a CRF has it.
    ahead: for an error against an input, how many time steps the output is ahead of it.
    blank: for a path, the label that CTC drops. The target's `index` then holds labels without blanks, and the best of
        the paths that CTC reads so is explained.
    """

    kind: MeasureKind
    reference: str | npt.ArrayLike | None = None
    ahead: int = 0
    blank: int | None = None


@dataclass(frozen=True, eq=False)
class Target:
    """Selects one scalar per sample from one output of the model. Omitted fields take the defaults of the model.

    output: the name of the output; default: that of the model, otherwise its first output.
    index: a position in the output of one sample (the output without its batch axis): an int, or a tuple over the
        non-batch axes; or an array or list with one position per sample, shape [batch] or [batch, non-batch axes].
        Default: the largest entry on the last axis.
    contrast: a second position in the same form; the explained value is output[index] - output[contrast].
    weights: explains sum(weights * output); has the shape of the output of one sample. Excludes `index`.
    batch_axis: the batch axis of the output; None for a model without one.
    pre_activation: explain the value before the final activation (such as Softmax, Sigmoid or Exp) of the output.
    measure: explain this number of the output, such as its error; a Measure, or the name of one without a reference.
    """

    output: str | None = None
    index: Index | None = None
    contrast: Index | None = None
    weights: npt.ArrayLike | None = None
    batch_axis: int | Literal["default"] | None = "default"
    pre_activation: bool | None = None
    measure: Measure | MeasureKind | None = None


def resolve(target: Target | Index | Mapping[str, Any] | None) -> Target | None:
    """Convert the argument of `explain(target=…)` to a Target; raise InvalidRequest if that is impossible."""
    if target is None or isinstance(target, Target):
        return target
    if not isinstance(target, Mapping):
        return Target(index=target)
    known = [f.name for f in fields(Target)]
    for key in target:
        if key not in known:
            raise InvalidRequest(f"target: unknown key {key!r}, it has {', '.join(known)}", field=f"target.{key}")
    return Target(**target)


def to_wire_target(target: Target) -> explanation_pb2.Target:
    """Convert a target to its message."""
    message = explanation_pb2.Target(
        output=target.output or "",
        indices=_flat(target.index, "target.index"),
        contrast_indices=_flat(target.contrast, "target.contrast"),
        no_batch_axis=target.batch_axis is None,
    )
    if target.pre_activation is not None:
        message.pre_activation = target.pre_activation
    if isinstance(target.batch_axis, int):
        message.batch_axis = target.batch_axis
    if target.weights is not None:
        if target.index is not None or target.contrast is not None:
            raise InvalidRequest("target has weights and also index or contrast", field="target.weights")
        message.weights.CopyFrom(to_wire(as_array(target.weights, "target.weights")))
    if target.measure is not None:
        measure = target.measure if isinstance(target.measure, Measure) else Measure(target.measure)
        message.measure.CopyFrom(_to_wire_measure(measure))
    return message


def _to_wire_measure(measure: Measure) -> explanation_pb2.Measure:
    name = f"{_PREFIX}{measure.kind}".upper()
    if name not in explanation_pb2.MeasureKind.keys():  # noqa: SIM118 - not a dict
        known = [key.removeprefix(_PREFIX).lower() for key in explanation_pb2.MeasureKind.keys()[1:]]
        problem = f"the measure is {measure.kind!r}; expected one of {', '.join(known)}"
        raise InvalidRequest(problem, field="target.measure.kind")
    number: Any = explanation_pb2.MeasureKind.Value(name)
    message = explanation_pb2.Measure(kind=number, ahead=measure.ahead, blank=measure.blank)
    if isinstance(measure.reference, str):
        message.input = measure.reference
    elif measure.reference is not None:
        message.tensor.CopyFrom(to_wire(as_array(measure.reference, "target.measure.tensor")))
    return message


def _flat(index: Index | None, field: str) -> list[int]:
    """Positions row-major. The server distinguishes one position from one per sample by the number of entries."""
    if index is None:
        return []
    array = np.asarray(index)
    if array.dtype.kind not in "iu" or array.ndim > 2 or array.size == 0:
        raise InvalidRequest(f"{field} is {index!r}; expected an int, a tuple of ints or an array of ints", field=field)
    return [int(i) for i in array.flat]


def from_wire_target(message: explanation_pb2.Target, batch: int) -> Target:
    """Return the target that the server used: `index` and `contrast` are arrays of shape [batch] or [batch, axes].

    A batch of 0 stands for a default that applies to any batch; they are then an int or a tuple.
    """
    pre_activation = message.pre_activation if message.HasField("pre_activation") else None
    return Target(
        output=message.output or None,
        index=_positions(message.indices, batch),
        contrast=_positions(message.contrast_indices, batch),
        weights=from_wire(message.weights) if message.HasField("weights") else None,
        batch_axis=_batch_axis(message),
        pre_activation=pre_activation,
        measure=_from_wire_measure(message.measure) if message.HasField("measure") else None,
    )


def _from_wire_measure(message: explanation_pb2.Measure) -> Measure:
    kind: Any = explanation_pb2.MeasureKind.Name(message.kind).removeprefix(_PREFIX).lower()
    return Measure(kind, message.input or None, message.ahead, message.blank if message.HasField("blank") else None)


def _batch_axis(message: explanation_pb2.Target) -> int | Literal["default"] | None:
    if message.no_batch_axis:
        return None
    return message.batch_axis if message.HasField("batch_axis") else "default"


def _positions(flat: Any, batch: int) -> npt.NDArray[np.int64] | int | tuple[int, ...] | None:
    if not flat:
        return None
    if batch == 0:
        return int(flat[0]) if len(flat) == 1 else tuple(flat)
    array = np.array(flat, dtype=np.int64)
    if array.size <= batch or array.size % batch:
        return array
    return array.reshape(batch, -1)
