# SPDX-License-Identifier: Apache-2.0
"""The relative stabiliser at the sums inside recurrent cells: the kernels' arguments for it.

The kernels' arguments are the same for every stabiliser; under the absolute one (`LRP.epsilon`) they are None.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.kernels.recurrent_matmul import pack
from lstm_explain.methods import LRP
from lstm_explain.operators.tape import Lengths

HIGHEST = 1e20  # stands for "no ceiling", since the kernels' arithmetic has no infinity
NO_SUMS = None, None, None, None  # under the absolute stabiliser


class Sums(NamedTuple):
    """What the kernels read of sums of absolute terms: the packed absolute weights of x and of h, and absolute biases.

    recurrent_bias: the bias of a sum that is a neuron of its own, as R h + Rb is in a GRU with linear_before_reset.
    """

    W: Array
    R: Array
    bias: Array
    recurrent_bias: Array

    @classmethod
    def of(cls, W: Array, R: Array, bias: Array, first: int, end: int, recurrent_bias: Array | None = None) -> Sums:
        """Of the sums in rows [first, end) of a direction's W and R."""
        of_x, of_h = (pack(np.abs(w[first:end]).T) for w in (W, R))
        own = np.abs(bias[first:end])
        return cls(of_x, of_h, own, own[:0] if recurrent_bias is None else np.abs(recurrent_bias))


def state_before(states: Array, initial: Array, lens: Lengths, *, reverse: bool) -> Array:
    """Returns an array [T, B, H]: the state that each step starts from. states [T, B, H]; initial [B, H]."""
    before = np.zeros_like(states)
    if reverse:
        before[:-1] = states[1:]
        for b, steps in enumerate(lens.steps):
            if steps:
                before[steps - 1, b] = initial[b]
    else:
        before[1:], before[:1] = states[:-1], initial
    return before


def numbers(lrp: LRP, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """Returns the kernels' arguments: beta at pre-activations and products, beta at cells, and the ceiling."""
    stabiliser, number = lrp.relative, dtype.type
    if stabiliser is None:
        return None, None, None
    ceiling = number(min(stabiliser.ceiling, HIGHEST))
    return number(stabiliser.pre_activations), number(stabiliser.cells), ceiling
