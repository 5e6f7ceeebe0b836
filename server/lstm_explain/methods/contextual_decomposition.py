# SPDX-License-Identifier: Apache-2.0
"""Declares contextual decomposition; `runner/decomposition.py` computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lstm_explain.errors import MethodError
from lstm_explain.methods.base import Batching, Method, Players, Promise, Words
from lstm_explain.methods.parameters import is_whole

if TYPE_CHECKING:
    from lstm_explain.program.attribution import Attribution
    from lstm_explain.runner.cost import Cost
    from lstm_explain.runner.method_tools import MethodTools

IN_FLOAT64, IN_PHRASES = 8 * 4, 8 * 24  # bytes per unit and step: for the inputs, and for all phrases


@dataclass(frozen=True)
class ContextualDecomposition(Method):
    """The contribution of each time step alone, in an LSTM with a linear readout.

    Murdoch et al. 2018 (arXiv 1801.05453), section 3: the part beta of the output, with the time step as the phrase.

    span: (start, end), time steps from start to end - 1 that are one phrase; every other step remains a phrase of its
        own. The span must lie within the sequence of every sample.
    """

    name: ClassVar[str] = "contextual_decomposition"
    words: ClassVar[Words] = Words(
        label="Contextual decomposition",
        hint="parts of an LSTM's state, followed forward",
        absorbed="constant of the readout",
        residual="what steps do together",
        relevance="what a time step, or a span of steps as one, contributes by itself (Murdoch et al. 2018)",
        runs="1, and a NumPy pass per step",
    )
    promises: ClassVar[frozenset[Promise]] = frozenset({Promise.SHARES})
    batching: ClassVar[Batching] = Batching.EQUAL_LENGTHS
    before_activation: ClassVar[bool] = True
    unit: ClassVar[Players | None] = "steps"
    span: Sequence[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.span is None:
            return
        steps = tuple(self.span) if isinstance(self.span, (tuple, list)) else ()
        if len(steps) != 2 or not all(map(is_whole, steps)) or not 0 <= steps[0] < steps[1]:
            expected = "a pair (start, end) of whole numbers with 0 <= start < end"
            raise MethodError(f"{self.name}: span is {self.span!r}, expected {expected}", field="method.span")
        object.__setattr__(self, "span", steps)  # hashable

    def memory(self, cost: Cost) -> float:
        cells = cost.batch * cost.steps * cost.units
        return cost.pass_bytes + IN_FLOAT64 * cells + min(cost.max_bytes, IN_PHRASES * cells)

    def explain(self, tools: MethodTools) -> Attribution:
        return tools.contextual_decomposition(self.span)
