# SPDX-License-Identifier: Apache-2.0
"""One direction of a recurrent node: lays out its weights for the kernels, and runs the kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from lstm_explain.cancellation import stop_flag
from lstm_explain.graph.ir import Array, Node
from lstm_explain.kernels import buffer_pool
from lstm_explain.kernels.compilation import soon
from lstm_explain.kernels.scalar_functions import CODES
from lstm_explain.kernels.single_steps import differ
from lstm_explain.methods import LRP
from lstm_explain.operators.tape import DirectionBack, DirectionRun, Lengths, SavedTensors, Tape
from lstm_explain.threads import each_of

RULES = {"all": 0, "half": 1, "prop": 2, "abs": 3}  # the kernels' numbers of the product rules


class Direction(ABC):
    """One direction of one node, with its weights in the kernels' layout. bias: W's and R's, except for Rb_h, which a
    GRU with linear_before_reset scales. plain: of an LSTM, whether it is the usual one, see lstm.is_plain.
    """

    bias: Array
    Rb_h: Array
    plain: bool

    def __init__(
        self,
        W: Array,
        R: Array,
        B: Array,
        P: Array,
        names: list[tuple[str, float, float]],
        node: Node,
        *,
        reverse: bool,
    ) -> None:
        self.W, self.R, self.P = W, R, P
        self.B = B
        self.dtype = W.dtype
        self.reverse = reverse
        self.codes = np.array([CODES[name] for name, _, _ in names], np.int64)
        self.params = np.array([(alpha, beta) for _, alpha, beta in names], W.dtype)
        self.scalar = W.dtype.type
        self.clip = self.scalar(node.attribute("clip", 0.0))
        self.coupled = bool(node.attribute("input_forget", 0))
        self.linear_before_reset = bool(node.attribute("linear_before_reset", 0))
        self.hidden = R.shape[1]
        self.units = W.shape[1] + R.shape[1]
        soon(differ)
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 - not every cell needs it
        """Lays out what depends on the weights alone."""

    def forward(self, x: Array, states: list[Array], lens: Lengths, keep: SavedTensors) -> tuple[Tape, list[Array]]:
        """The tape and the last states, [B, H] each."""
        return self.ready(len(x), lens, keep)(x, states, stop_flag())

    @abstractmethod
    def ready(self, steps: int, lens: Lengths, keep: SavedTensors) -> DirectionRun:
        """`forward`, specialised for arrays of this many steps: everything that does not depend on their values is done
        in advance.
        """

    @abstractmethod
    def predict(
        self, x: Array, states: list[Array], lens: Lengths, order: Array, hidden: Array, last: list[Array], stop: Array
    ) -> int:
        """Fills hidden [T, B, H], unless it is [0, 0, 0], and the last states [B, H] for the samples in `order`; not
        after the end of a sequence, nor the states of one without steps. Saves nothing, and runs sequences once that
        begin alike: see kernels/prefixes.py. Returns how many steps it ran, of as many samples as differ. stop: see
        kernels/lstm.py.
        """

    @abstractmethod
    def ready_back(self, steps: int, lens: Lengths, dtype: np.dtype[Any], lrp: LRP | None) -> DirectionBack:
        """The backward pass as a function of a tape, r_y, r_ends, lost and the stop flag. It returns the relevance of
        x [T, B, D], overwrites r_y, and r_ends with the relevance of the initial states, [B, H] each, and adds to lost
        [B], in float64, what is absorbed. All other arrays are in `dtype`.

        r_y: [T, B, H], or [0, 0, 0] where no relevance arrives at the steps.
        """

    def sums_in(self, keep: SavedTensors) -> np.dtype[Any]:
        """The type of the sums that the backward pass divides by, and thus of the backward pass itself."""
        return np.dtype(np.float64) if keep is SavedTensors.GATES_FLOAT64 else self.dtype

    def kernel(self, function: Callable[..., object], lens: Lengths, *fixed: object) -> Callable[..., object]:
        """A kernel as a function of the arguments that follow the lengths, the order, the direction and the `fixed`
        ones; the samples are distributed among threads.
        """
        return each_of([partial(function, lens.steps, order, self.reverse, *fixed) for order in lens.parts])

    def room(self, lens: Lengths, shape: tuple[int, ...], dtype: np.dtype[Any] | None = None) -> Callable[[], Array]:
        """Allocates arrays for a kernel to fill. Positions after the end of a shorter sequence, which the kernel does
        not write, are zero.
        """
        return (buffer_pool.maker if lens.whole else buffer_pool.maker_of_zeros)(
            shape, self.dtype if dtype is None else dtype
        )

    def ends(self, lens: Lengths) -> Callable[..., list[Array]]:
        """Returns a function of the hidden states [T, B, H] and of further states [B, H] at the end. It returns the
        states [B, H] after the last step of each sequence in the direction of the recurrence; zero for a sequence of
        length 0.
        """
        if not lens.steps.any():
            return lambda hidden, *further: [np.zeros(hidden.shape[1:], hidden.dtype), *map(np.zeros_like, further)]
        if lens.whole:
            at = 0 if self.reverse else -1
            return lambda hidden, *further: [hidden[at], *further]
        steps = lens.steps
        last, samples = np.zeros_like(steps) if self.reverse else np.maximum(steps - 1, 0), np.arange(len(steps))
        some = (steps > 0)[:, None].astype(self.dtype)
        return lambda hidden, *further: [hidden[last, samples] * some, *(state * some for state in further)]


class InPlaceOfKernels(Protocol):
    """Answers where the kernels are not compiled yet, up to rounding. The arguments are those of `Direction`'s methods
    of these names, and its results; of `backward`, those of the function that `ready_back` returns. lens: of the
    samples of all passes.
    """

    def forward(
        self, direction: Direction, x: Array, states: list[Array], lens: Lengths, keep: SavedTensors
    ) -> tuple[Tape, list[Array]]: ...

    def predict(
        self,
        direction: Direction,
        x: Array,
        states: list[Array],
        lens: Lengths,
        order: Array,
        hidden: Array,
        last: list[Array],
    ) -> None: ...

    def backward(
        self,
        direction: Direction,
        lrp: LRP | None,
        tape: Tape,
        lens: Lengths,
        r_y: Array,
        r_ends: list[Array],
        lost: Array,
    ) -> Array: ...
