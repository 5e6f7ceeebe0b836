# SPDX-License-Identifier: Apache-2.0
"""Stabilisers for layer-wise relevance propagation: what relevance is divided by at a sum z.

Each takes z and S = Σ|terms|, the sum of the absolute terms (weighted inputs and bias) that make up z, and returns the
denominator. S ≥ |z|; S / |z| says how much the terms cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Stabiliser = Callable[[Array, Array], Array]

LEAST = 1e-30  # keeps 0 / 0 at 0


def sign(z: Array) -> Array:
    return np.where(z >= 0, 1.0, -1.0)


def absolute(epsilon: float) -> Stabiliser:
    """z + ε sign z: Bach et al. 2015, Arras et al. 2017. In the units of z."""
    return lambda z, s: z + epsilon * sign(z)


def relative(beta: float) -> Stabiliser:
    """z + β S sign z. A neuron passes on at most 1 / β times what it gets, and at least 1 / (1 + β) of it."""
    return lambda z, s: z + (beta * s + LEAST) * sign(z)


def clipped(beta: float) -> Stabiliser:
    """max(|z|, β S) sign z. It acts only where terms cancel to less than the share β."""
    return lambda z, s: np.maximum(np.abs(z), beta * s + LEAST) * sign(z)


def gap(beta: float) -> Stabiliser:
    """z + β (S − |z|) sign z. A neuron whose terms all agree in sign loses nothing; bounded by 1 / β as `relative`."""
    return lambda z, s: z + (beta * np.maximum(s - np.abs(z), 0) + LEAST) * sign(z)


@dataclass(frozen=True)
class Rule:
    """LRP-all with a stabiliser for each kind of sum.

    pre: at pre-activations inside a recurrent cell. cell: at the sum that carries the state (c of an LSTM, h of a GRU).
    dense: at layers around it. ceiling: the most that the density of relevance at a cell may grow by on its way back
    through the hidden states, as a multiple of what it was where it arrived from above; see `cells`. None: no bound.
    """

    name: str
    pre: Stabiliser
    cell: Stabiliser
    dense: Stabiliser
    ceiling: float | None = None


def same(name: str, stabiliser: Stabiliser) -> Rule:
    """One stabiliser everywhere, no ceiling."""
    return Rule(name, stabiliser, stabiliser, stabiliser)


def bounded(beta: float, ceiling: float | None = 10.0) -> Rule:
    """What the study arrives at: gap at pre-activations, exact shares at the cell, and a ceiling."""
    suffix = "" if ceiling is None else f", ceiling {ceiling:g}"
    return Rule(f"gap {beta:g}, exact cell{suffix}", gap(beta), gap(0.0), gap(0.02), ceiling)
