# SPDX-License-Identifier: Apache-2.0
"""The explained value in a compiled file: weights of an output's elements that the target selects."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_explain.errors import TargetError
from lstm_explain.target import Target
from lstm_explain.tracing.arrays import Traced
from lstm_explain.tracing.extents import Extent

RUNTIME = "runtime"
TARGET_INPUT = "target"  # the input that names the target when the file runs


def weights_of(target: Target, output: Traced, name: str, chosen: Traced | None) -> tuple[Traced, Any]:
    """Returns the weight of each element of the output, and the number of samples, which may be an extent.

    chosen: the input `target`, int64 [batch], where it decides; -1 stands for the largest entry. Raises TargetError.
    """
    xp, axis = output.trace.namespace, target.batch_axis
    if axis is not None and not -output.ndim <= axis < output.ndim:
        raise TargetError(f"output {name!r} has {output.ndim} axes, no axis {axis} for the batch", field="target")
    samples = xp.expand_dims(output, axis=0) if axis is None else xp.moveaxis(output, axis, 0)
    if target.weights is not None:
        weights = xp.broadcast_to(xp.asarray(np.asarray(target.weights, output.dtype)), samples.shape)
    else:
        weights = _one_hot(samples, _positions(target.index, samples, name, chosen))
        if target.contrast is not None:
            weights = weights - _one_hot(samples, _positions(target.contrast, samples, name, None))
    restored = xp.squeeze(weights, 0) if axis is None else xp.moveaxis(weights, 0, axis)
    return restored, samples.shape[0]


def _positions(requested: Any, samples: Traced, name: str, chosen: Traced | None) -> list[Any]:
    """Returns where the entry lies along each axis of a sample: a number, or [batch]."""
    shape = samples.shape[1:]
    choice = [i for i, n in enumerate(shape) if isinstance(n, Extent) or n > 1] or list(range(len(shape)))[-1:]
    if requested is None:
        if any(i < len(shape) - 1 for i in choice):
            raise TargetError(
                f"samples of output {name!r} have {len(shape)} axes: specify the position to explain",
                field="target.index",
            )
        if not shape:
            return []
        return [0] * (len(shape) - 1) + [_largest(samples, chosen)]
    if chosen is not None:
        raise TargetError("a target that is chosen at run time cannot have an index too", field="target.index")
    if not isinstance(requested, (int, tuple, np.integer)):
        raise TargetError(
            "a compiled file has one position for all samples; compile with target='runtime' for one of each sample",
            field="target.index",
        )
    numbers = list(requested) if isinstance(requested, tuple) else [int(requested)]
    if len(numbers) == 1 and len(shape) != 1 and len(choice) == 1:
        numbers = [numbers[0] if i == choice[0] else 0 for i in range(len(shape))]
    if len(numbers) != len(shape):
        raise TargetError(
            f"the target has {len(numbers)} numbers, expected {len(shape)}, one for each axis of a sample of output "
            f"{name!r}",
            field="target.index",
        )
    for at, size in zip(numbers, shape, strict=True):
        if not isinstance(size, Extent) and not -size <= at < size:
            raise TargetError(f"index {tuple(numbers)} is outside output {name!r}", field="target.index")
    return [at if at >= 0 else size + at for at, size in zip(numbers, shape, strict=True)]


def _largest(samples: Traced, chosen: Traced | None) -> Traced:
    """[batch]: the position of each sample's largest entry, unless `chosen` names another one."""
    xp, shape = samples.trace.namespace, samples.shape
    rows = xp.reshape(samples, (shape[0], shape[-1]))
    best = xp.argmax(rows, axis=-1)
    if chosen is None:
        return best
    return xp.where(chosen == -1, best, xp.where(chosen < 0, chosen + shape[-1], chosen))


def _one_hot(samples: Traced, positions: list[Any]) -> Traced:
    """1 at the positions, in the shape and type of the samples."""
    xp, shape = samples.trace.namespace, samples.shape
    at: Any = None
    for axis, position in enumerate(positions, 1):
        size = shape[axis]
        if not isinstance(size, Extent) and size == 1 and not isinstance(position, Traced):
            continue
        numbers = xp.reshape(xp.arange(size), tuple(size if i == axis else 1 for i in range(len(shape))))
        if isinstance(position, Traced):
            position = xp.reshape(position, (shape[0], *(1,) * (len(shape) - 1)))
        elif isinstance(position, Extent):
            position = xp.reshape(position.traced, (1,) * len(shape))
        here = numbers == position
        at = here if at is None else at & here
    if at is None:
        return xp.ones_like(samples)
    return xp.broadcast_to(xp.astype(at, samples.dtype), shape)
