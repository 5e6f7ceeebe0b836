"""The relative stabiliser at the sums inside recurrent cells: computes the kernels' arguments for it from a tape.

The kernels' arguments are the same for every stabiliser; under the absolute one (`LRP.epsilon`) they are None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.graph.ir import Array
from lstm_explain.kernels import stabilisers
from lstm_explain.kernels.recurrent_matmul import pack
from lstm_explain.methods import LRP
from lstm_explain.methods.stabiliser import Stabiliser
from lstm_explain.operators.tape import Lengths, Tape
from lstm_explain.threads import in_threads

HIGHEST = 1e20  # stands for "no ceiling", since the kernels' arithmetic has no infinity
Arguments = tuple[Any, ...]


class Sums:
    """The packed absolute weights and the absolute biases of the sums in rows [first, end) of a direction's W and R.

    recurrent_bias: the bias of a sum that is a neuron of its own, as R h + Rb is in a GRU with linear_before_reset.
    """

    def __init__(
        self, W: Array, R: Array, bias: Array, first: int, end: int, recurrent_bias: Array | None = None
    ) -> None:
        self.count = end - first
        self.W, self.R = (pack(np.abs(w[first:end]).T) for w in (W, R))
        self.bias = np.abs(bias[first:end])
        self.recurrent_bias = self.bias[:0] if recurrent_bias is None else np.abs(recurrent_bias)

    def gaps(self, tape: Tape, reverse: bool, z: Array, beta: float, more: Array | None = None) -> Array:
        """[T, B, sums]: what the stabiliser adds to z [T, B, sums or more]. more: further absolute terms."""
        out, lens = np.zeros((*z.shape[:2], self.count), tape.dtype), tape.lens
        in_threads(
            lambda order: stabilisers.gaps(
                tape.x, tape.hidden, tape.h0, lens.steps, order, reverse, self.W, self.R, self.bias, z, more,
                tape.dtype.type(beta), out,
            ),
            lens.parts,
        )  # fmt: skip
        return out

    def candidate_gaps(self, tape: Tape, reverse: bool, before: bool, beta: float) -> tuple[Array, Array]:
        """The same for a GRU's candidate and for the sum inside it, [T, B, H] each."""
        out, lens, kept = np.zeros((*tape.hidden.shape,), tape.dtype), tape.lens, tape.kept
        inner = np.zeros_like(out)
        in_threads(
            lambda order: stabilisers.gaps_of_candidate(
                before, tape.x, kept["gates"], kept["inner"], tape.hidden, tape.h0, lens.steps, order, reverse, self.W,
                self.R, self.bias, self.recurrent_bias, kept["z"], tape.dtype.type(beta), out, inner,
            ),
            lens.parts,
        )  # fmt: skip
        return out, inner


def sizes_of(states: Array, more: Array, lens: Lengths, reverse: bool, dtype: npt.DTypeLike) -> Array:
    """[B, H]: root mean square of each state over its sequence."""
    out = np.zeros(states.shape[1:], dtype)
    in_threads(lambda order: stabilisers.sizes_of_states(states, more, lens.steps, order, reverse, out), lens.parts)
    return out


def state_before(states: Array, initial: Array, lens: Lengths, *, reverse: bool) -> Array:
    """[T, B, H]: the state that each step starts from. states [T, B, H]; initial [B, H]."""
    before = np.zeros_like(states)
    if reverse:
        before[:-1] = states[1:]
        for b, steps in enumerate(lens.steps):
            if steps:
                before[steps - 1, b] = initial[b]
    else:
        before[1:], before[:1] = states[:-1], initial
    return before


@lru_cache(maxsize=256)
def numbers(stabiliser: Stabiliser, dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """The kernels' arguments of_cell, of_product and ceiling."""
    number = dtype.type
    ceiling = number(min(stabiliser.ceiling, HIGHEST))
    return number(stabiliser.cells), number(stabiliser.pre_activations), ceiling


Relative = Callable[[Tape, Stabiliser], Arguments]


def arguments(lrp: LRP, count: int, relative: Relative) -> Callable[[Tape], Arguments]:
    """The kernel's last arguments, as a function of the tape. count: how many there are."""
    stabiliser, none = lrp.relative, (None,) * count
    if stabiliser is None:
        return lambda tape: none
    return lambda tape: relative(tape, stabiliser)
