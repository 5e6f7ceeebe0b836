# SPDX-License-Identifier: Apache-2.0
"""Explanations of one batch for several targets as arrays with an axis of targets in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import TargetError
from lstm_explain.explanation import Explanation
from lstm_explain.ledger import Ledger

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Together:
    """The fields of Explanation whose arrays have one more axis, [targets, ...]; the rest is the same for all targets,
    or stays with each of them. warnings: those of all targets, each once.
    """

    relevance: dict[str, Array]
    explained: Array
    captured: dict[str, Array]
    ledger: Ledger
    standard_error: dict[str, Array]
    warnings: tuple[str, ...]


def joined(explanations: Sequence[Explanation]) -> Together:
    """Arrays of float32 and float64 become float64. Raises TargetError where numbers of samples differ."""
    counts = {len(one.explained) for one in explanations}
    if len(counts) > 1:
        problem = f"targets of one request have the same number of samples; these have {sorted(counts)}"
        raise TargetError(problem, field="target")
    ledgers = [one.ledger for one in explanations]
    nothing = np.zeros(counts.pop(), np.float32)
    nodes = dict.fromkeys(node for ledger in ledgers for node in ledger.by_node)
    return Together(
        _stacked([one.relevance for one in explanations]),
        np.stack([one.explained for one in explanations]),
        _stacked([one.captured for one in explanations]),
        Ledger(
            np.stack([ledger.inputs for ledger in ledgers]),
            np.stack([ledger.initial_states for ledger in ledgers]),
            np.stack([ledger.absorbed for ledger in ledgers]),
            np.stack([ledger.residual for ledger in ledgers]),
            {node: np.stack([ledger.by_node.get(node, nothing) for ledger in ledgers]) for node in nodes},
        ),
        _stacked([one.standard_error for one in explanations]),
        tuple(dict.fromkeys(warning for one in explanations for warning in one.warnings)),
    )


def _stacked(arrays: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.stack([one[name] for one in arrays]) for name in arrays[0]}
