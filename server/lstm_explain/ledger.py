# SPDX-License-Identifier: Apache-2.0
"""The account of one explanation: where the explained value went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


@dataclass  # not frozen: every request makes one, and a frozen dataclass sets fields by a function call each
class Ledger:
    """explained = inputs + initial_states + absorbed + residual, for every sample. Every array has shape [batch].

    inputs: relevance of all inputs that the caller supplied.
    initial_states: relevance of initial states that are constants of the model.
    absorbed: for LRP, what biases, constants and stabilisers absorb; otherwise the score of the baseline, if there is
    one. residual: the remainder; for LRP it is rounding, otherwise how far the method is from completeness. by_node:
    `absorbed`, per node.
    """

    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array
    by_node: dict[str, Array]

    def take(self, rows: slice | npt.NDArray[np.intp]) -> Ledger:
        """Returns the ledger of these samples alone."""
        return Ledger(
            self.inputs[rows],
            self.initial_states[rows],
            self.absorbed[rows],
            self.residual[rows],
            {name: amounts[rows] for name, amounts in self.by_node.items()},
        )

    def replaced(self, place: Callable[[Array | None, Array | None], Array], other: Ledger) -> Ledger:
        """Applies place(own, other) to every array; an array is None for a node that one of the two ledgers does not
        name.
        """
        nodes = dict.fromkeys([*self.by_node, *other.by_node])
        return Ledger(
            place(self.inputs, other.inputs),
            place(self.initial_states, other.initial_states),
            place(self.absorbed, other.absorbed),
            place(self.residual, other.residual),
            {name: place(self.by_node.get(name), other.by_node.get(name)) for name in nodes},
        )

    @staticmethod
    def joined(ledgers: Sequence[Ledger], order: npt.NDArray[np.intp]) -> Ledger:
        """Returns the ledger of a batch from those of its parts; sample i is at position order[i] of the concatenated
        parts.
        """
        zeros = [np.zeros(len(ledger.inputs)) for ledger in ledgers]
        nodes = dict.fromkeys(name for ledger in ledgers for name in ledger.by_node)
        by_node = {
            name: [ledger.by_node.get(name, zero) for ledger, zero in zip(ledgers, zeros, strict=True)]
            for name in nodes
        }
        return Ledger(
            np.concatenate([ledger.inputs for ledger in ledgers])[order],
            np.concatenate([ledger.initial_states for ledger in ledgers])[order],
            np.concatenate([ledger.absorbed for ledger in ledgers])[order],
            np.concatenate([ledger.residual for ledger in ledgers])[order],
            {name: np.concatenate(amounts)[order] for name, amounts in by_node.items()},
        )
