"""What is explained: one scalar a sample, taken from one output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import TargetError


@dataclass(frozen=True, eq=False)
class Target:
    """A scalar a sample.

    output: name of the output; default: the model's first that holds floating-point numbers.
    index: position in one sample's output (the output without its batch axis): an int, a tuple over the non-batch
        axes, or an integer array with one position a sample, shape [batch] or [batch, non-batch axes]. Default: the
        position of the largest entry on the last axis, if that has more than one.
    batch_axis: the output's axis along which samples lie; None for a model without one.
    contrast: a second position; output[index] - output[contrast] is explained.
    weights: shape of one sample's output; sum(weights * output) is explained. Excludes `index` and `contrast`.
    pre_activation: where the output ends in Softmax, LogSoftmax or Sigmoid, explain the value before it. LRP does so
        always.
    """

    output: str | None = None
    index: int | tuple[int, ...] | npt.NDArray[np.integer[Any]] | None = None
    batch_axis: int | None = 0
    contrast: int | tuple[int, ...] | npt.NDArray[np.integer[Any]] | None = None
    weights: npt.NDArray[np.floating[Any]] | None = None
    pre_activation: bool = True


@dataclass(frozen=True, eq=False)
class Selection:
    """A target resolved on an actual output.

    weights: of the output's shape; the explained value of a sample is the sum of weights * value over the sample.
    index, contrast: [batch, non-batch axes], or None where weights were given.
    """

    weights: npt.NDArray[Any]
    batch: int
    index: npt.NDArray[np.int64] | None
    contrast: npt.NDArray[np.int64] | None


def select(target: Target, output: npt.NDArray[Any], name: str) -> Selection:
    """Resolves `target` on the output called `name`; raises TargetError."""
    axis = target.batch_axis
    if axis is not None and not -output.ndim <= axis < output.ndim:
        raise TargetError(
            f"output {name!r} has shape {output.shape}: no axis {axis} for the batch", field="target.batch_axis"
        )
    samples = output[None] if axis is None else output if axis == 0 else np.moveaxis(output, axis, 0)
    weights = np.zeros(samples.shape, output.dtype if output.dtype.kind == "f" else np.float32)
    index = contrast = None
    if target.weights is not None:
        if target.index is not None or target.contrast is not None:
            raise TargetError("weights exclude index and contrast", field="target.weights")
        weights[:] = _weights(target.weights, samples.shape[1:], name)
    else:
        index = _positions(target.index, samples, name, "index")
        weights[(np.arange(len(samples)), *index.T)] = 1
        if target.contrast is not None:
            contrast = _positions(target.contrast, samples, name, "contrast")
            weights[(np.arange(len(samples)), *contrast.T)] -= 1
    restored = weights[0] if axis is None else weights if axis == 0 else np.moveaxis(weights, 0, axis)
    return Selection(np.ascontiguousarray(restored), len(samples), index, contrast)


def _weights(weights: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    weights = np.asarray(weights)
    if weights.shape != shape or weights.dtype.kind not in "fiu" or not np.isfinite(weights).all():
        raise TargetError(
            f"weights have shape {weights.shape} and type {weights.dtype}, wanted finite numbers of shape {shape}: "
            f"one sample of output {name!r}",
            field="target.weights",
        )
    return weights


def _positions(wanted: Any, samples: npt.NDArray[Any], name: str, what: str) -> npt.NDArray[np.int64]:
    """One position a sample, [batch, non-batch axes], in range."""
    shape = samples.shape[1:]
    field = f"target.{what}"
    rows = _best(samples, name) if wanted is None else _rows(wanted, len(samples), shape, name, field)
    sizes = np.array(shape, np.int64).reshape(1, len(shape))
    bad = (rows < -sizes) | (rows >= sizes)
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        raise TargetError(
            f"{what} {tuple(rows[row].tolist())} is outside output {name!r}, whose samples have shape {shape}",
            field=field,
        )
    return np.where(rows < 0, rows + sizes, rows)


def _best(samples: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """The largest entry on the last axis, where the others leave no choice."""
    shape = samples.shape[1:]
    if any(n > 1 for n in shape[:-1]):
        raise TargetError(
            f"samples of output {name!r} have shape {shape}: say which position to explain", field="target.index"
        )
    rows = np.zeros((len(samples), len(shape)), np.int64)
    if shape:
        rows[:, -1] = samples.reshape(len(samples), -1).argmax(axis=1)
    return rows


def _rows(wanted: Any, batch: int, shape: tuple[int, ...], name: str, field: str) -> npt.NDArray[np.int64]:
    each = isinstance(wanted, (np.ndarray, list)) and np.ndim(wanted) > 0
    array = np.asarray(wanted)
    if array.dtype.kind not in "iu" and array.size:
        raise TargetError(f"{field} is {wanted!r}, wanted whole numbers", field=field)
    if not each:
        array = np.broadcast_to(array.reshape(1, -1), (batch, array.size))
    elif array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != batch:
        raise TargetError(
            f"{field} has shape {np.shape(wanted)}, wanted one position for each of {batch} samples", field=field
        )
    if array.shape[1] == len(shape):
        return array.astype(np.int64)
    choice = [i for i, n in enumerate(shape) if n > 1] or list(range(len(shape)))[-1:]
    if array.shape[1] == 1 and len(choice) == 1:  # one number, and one axis only where it can make a difference
        rows = np.zeros((batch, len(shape)), np.int64)
        rows[:, choice[0]] = array[:, 0]
        return rows
    raise TargetError(
        f"{field} has {array.shape[1]} numbers a sample, wanted {len(shape)}: "
        f"samples of output {name!r} have shape {shape}",
        field=field,
    )
