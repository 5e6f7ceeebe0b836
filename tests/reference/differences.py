# SPDX-License-Identifier: Apache-2.0
"""Gradients by central differences: slow, independent of any backward pass.

The five-point formula, f' = (f(-2s) - 8 f(-s) + 8 f(s) - f(2s)) / 12 s, whose error falls with s^4. That allows steps
wide enough for float32, where rounding of f divided by s is what limits the accuracy. Functions with kinks (Relu,
HardSigmoid, clip) are only differentiated correctly where no kink lies within two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from .common import Array

STENCIL = ((-2, 1.0 / 12.0), (-1, -8.0 / 12.0), (1, 8.0 / 12.0), (2, -1.0 / 12.0))
STEP64 = 1e-3  # s^4 and 1e-16 / s are both near 1e-13
STEP32 = 3e-2  # s^4 / 30 is near 3e-8, 1e-7 / s near 4e-6


def central_difference(function: Callable[[Array], float], x: npt.NDArray[Any], step: float = STEP64) -> Array:
    """Gradient of a scalar function of an array, evaluated in float64, at x.

    For a batch of independent samples, a function that sums its score over the batch gives every sample's own
    gradient.
    """
    at = np.array(x, dtype=np.float64)
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        kept = at[index]
        for multiple, weight in STENCIL:
            at[index] = kept + multiple * step
            gradient[index] += weight * function(at) / step
        at[index] = kept
    return gradient


def onnx_difference(
    model: onnx.ModelProto | bytes | str,
    feeds: Mapping[str, npt.NDArray[Any]],
    name: str,
    output: str,
    index: Sequence[int],
    batch_axis: int | None = 0,
    step: float = STEP32,
) -> Array:
    """Gradient of output[index] of an ONNX model, as ONNX Runtime computes it, with respect to the feed `name`.

    `index` counts one sample's axes, after `batch_axis` is taken out; None: the output has no batch axis. Every
    sample's own gradient, in the feed's shape. Good to about 1e-4 where the model computes in float32.
    """
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])

    def score(x: Array) -> float:
        (y,) = session.run([output], {**feeds, name: x.astype(feeds[name].dtype)})
        samples = np.asarray(y, dtype=np.float64)
        samples = samples[np.newaxis] if batch_axis is None else np.moveaxis(samples, batch_axis, 0)
        return float(sum(sample[tuple(index)] for sample in samples))

    return central_difference(score, feeds[name], step)
