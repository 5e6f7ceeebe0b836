"""Declares contextual decomposition, which has no parameters; `runner/decomposition.py` computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lstm_explain.methods.base import Batching, Method, Promise, Words

if TYPE_CHECKING:
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools

IN_FLOAT64, IN_PHRASES = 8 * 4, 8 * 24  # bytes per unit and step: for the inputs, and for all phrases


@dataclass(frozen=True)
class ContextualDecomposition(Method):
    """The contribution of each time step alone, in an LSTM with a linear readout.

    Murdoch et al. 2018 (arXiv 1801.05453), section 3: the part beta of the output, with the time step as the phrase.
    """

    name: ClassVar[str] = "contextual_decomposition"
    words: ClassVar[Words] = Words(
        label="Contextual decomposition",
        hint="parts of an LSTM's state, followed forward",
        absorbed="constant of the readout",
        residual="what steps do together",
        relevance="what a time step contributes by itself (Murdoch et al. 2018)",
        runs="1, and a NumPy pass per step",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES})
    batching: ClassVar[Batching] = Batching.EQUAL_LENGTHS
    before_activation: ClassVar[bool] = True

    def memory(self, cost: Cost) -> float:
        cells = cost.batch * cost.steps * cost.units
        return cost.pass_bytes + IN_FLOAT64 * cells + min(cost.max_bytes, IN_PHRASES * cells)

    def explain(self, tools: MethodTools) -> Attribution:
        return tools.contextual_decomposition()
