# SPDX-License-Identifier: Apache-2.0
"""The products of matrices that no gradient of an LSTM can do without, and nothing else: no activation, no tape.

Forward, every step multiplies the states by R and the inputs by W; backward, the gradients of all four gates by both
again. No explanation by gradients is faster than that with our product, which runs near the peak of the processor where
the weights fit into its second-level cache (`--part pieces`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.models import Shape
from lstm_explain.kernels.recurrent_matmul import WIDTH, multiply, pack

ROWS = 256  # of a product over several steps: few enough to stay in the cache


def products_of_gradient(shape: Shape, T: int, B: int) -> Callable[[], None]:
    """Returns a function that runs them once, for T steps of B samples."""
    rng = np.random.default_rng(0)
    W, R = (rng.standard_normal((4 * shape.H, n)).astype(np.float32) for n in (shape.D, shape.H))
    every_step = [_product(B, matrix) for matrix in (R.T, R)]
    rows = min(ROWS, T * B)
    over_steps = [_product(rows, matrix) for matrix in (W.T, W)]
    directions = 1 + shape.bidirectional

    def run() -> None:
        for product in every_step:
            for step in range(directions * T):
                product(step)
        for product in over_steps:
            for part in range(directions * T * B // rows):
                product(part)

    return run


def _product(rows: int, matrix: np.ndarray) -> Callable[[int], None]:
    packed, (inputs, outputs) = pack(matrix), matrix.shape
    vectors, out = np.ones((rows, inputs), np.float32), np.empty((rows, -(-outputs // WIDTH) * WIDTH), np.float32)
    return lambda step: multiply(vectors, packed, out, rows, step)
