# SPDX-License-Identifier: Apache-2.0
"""What the backward pass of one direction of a recurrent node returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators.array_api import namespace


@dataclass
class Received:
    """The relevance (or gradient) of the inputs [T, B, D], of the initial states [B, H], and what is absorbed [B], None
    for gradients.
    """

    x: Array
    states: list[Array]
    absorbed: Any = None


def per_sample(r: Array, share: Array | None) -> Any:
    """[B]: the sum of r * share [T, B, H]; nothing without a share."""
    return 0 if share is None else namespace(r).sum(r * share, axis=(0, 2))


def rows_of(weights: Array, which: list[int], hidden: int) -> Array:
    """Returns the rows of the weights that belong to these sums of a cell."""
    return np.concatenate([weights[k * hidden : (k + 1) * hidden] for k in which])
