# SPDX-License-Identifier: Apache-2.0
"""The ledger of a result, which accounts for all of the explained value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ledger:
    """explained = inputs + initial_states + absorbed + residual, for every sample. Every array has shape [batch].

    inputs: relevance of all inputs of the request. initial_states: relevance of constant initial states.
    absorbed: for LRP, the relevance that biases, constants and stabilisers absorb; for a method with a baseline, the
    value of the baseline. residual: for LRP, rounding; otherwise, the amount by which the relevance misses the
    explained value.
    by_node: `absorbed`, split by node.
    """

    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array
    by_node: dict[str, Array] = field(default_factory=dict)

    def sample(self, index: int) -> dict[str, float]:
        """Return the four entries of one sample, by name."""
        return entries_of(self, index)

    def of_target(self, number: int) -> Ledger:
        """Return the ledger of one target, where every array has shape [targets, batch]."""
        nodes = {name: share[number] for name, share in self.by_node.items()}
        inputs, states = self.inputs[number], self.initial_states[number]
        return Ledger(inputs, states, self.absorbed[number], self.residual[number], nodes)

    def nodes(self, index: int) -> dict[str, float]:
        """Return what each node absorbed of one sample."""
        return nodes_of(self, index)


def entries_of(ledger: Any, sample: int) -> dict[str, float]:
    """Return the four entries of one sample, by name; `ledger` is this package's or the engine's."""
    names = ("inputs", "initial_states", "absorbed", "residual")
    return {name: float(getattr(ledger, name)[sample]) for name in names if getattr(ledger, name).size > sample}


def nodes_of(ledger: Any, sample: int) -> dict[str, float]:
    """Return what each node absorbed of one sample; `ledger` is this package's or the engine's."""
    return {name: float(share[sample]) for name, share in ledger.by_node.items()}
