"""The account of one explanation: where the whole explained value went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Ledger:
    """explained = inputs + initial_states + absorbed + residual, for every sample. Every array has shape [batch].

    inputs: relevance of all inputs that the caller supplied.
    initial_states: relevance of initial states that are constants of the model.
    absorbed: with LRP what biases, constants and stabilisers kept; what the baseline scores, where there is one.
    residual: what is left; with LRP rounding only, else by how much the method misses completeness.
    by_node: `absorbed`, a node each.
    """

    inputs: Array
    initial_states: Array
    absorbed: Array
    residual: Array
    by_node: dict[str, Array]
