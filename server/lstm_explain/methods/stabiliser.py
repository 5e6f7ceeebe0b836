# SPDX-License-Identifier: Apache-2.0
"""The relative stabiliser of LRP (docs/stabilisers.md derives it): its numbers, as the engine reads them."""

from __future__ import annotations

from typing import NamedTuple


class Stabiliser(NamedTuple):
    """LRP divides relevance by z + beta * (S - |z|) * sign(z), where S is the sum of the absolute terms of z.

    A neuron whose terms agree in sign loses nothing, and no neuron passes on more than 1 / beta times what it gets.
    There is a beta for each kind of sum:

    pre_activations: gates and cell inputs of recurrent layers.
    cells: the sum that carries a recurrent layer's state; 0 shares it exactly, so that nothing leaks along the cell.
    layers: all layers around them.
    ceiling: the most that the density of relevance (relevance over state) may grow on its way back through the hidden
        states of a recurrent node, as a multiple of what arrives from above.
    """

    pre_activations: float = 0.1
    cells: float = 0.0
    layers: float = 0.02
    ceiling: float = 10.0


DEFAULT = Stabiliser()
