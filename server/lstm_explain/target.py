"""What is explained: one scalar a sample, taken from one output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Target:
    """A scalar a sample.

    output: name of the output; default the model's first.
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
