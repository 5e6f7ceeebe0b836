# SPDX-License-Identifier: Apache-2.0
"""Steps that keep relevance at its element (activations, and lookups, which sum it over each vector), or within its row
(attention weights).
"""

from __future__ import annotations

from lstm_explain.graph.ir import Array
from lstm_explain.operators.array_api import namespace
from lstm_explain.operators.formulas import At, settle, times
from lstm_explain.program.passes import BackwardPass, plus
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep, Line
from lstm_explain.program.steps.linear import DensityStep


class Activation(BackwardStep):
    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        relevance, distribute = message.relevance, self.backward_node.op.distribute
        assert relevance is not None
        for slot, name in self.live:
            kept = relevance if distribute is None else distribute(self.context(back), slot, relevance)
            back.send(name, self.layout(back, slot, message, kept.shape), kept)

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        distribute, context, source = self.backward_node.op.distribute, self.fixed, self.carrying[0]
        if context is None or len(self.live) > 1:
            return None
        ((slot, name),), known = self.live, context

        def line(_values: object, _tapes: object, arrived: dict[str, Array], _book: Array) -> None:
            relevance = arrived[source]
            arrived[name] = relevance if distribute is None else distribute(known, slot, relevance)

        return line


class Weights(BackwardStep):
    """Attention weights. The node absorbs what its rule does not pass on, which may be negative."""

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        relevance, rule = message.relevance, self.backward_node.op.weights
        assert relevance is not None
        assert rule is not None
        ((slot, name),) = self.live
        passed = rule(self.context(back), slot, relevance)
        layout = self.layout(back, slot, message, passed.shape)
        back.account.absorb(self.name, relevance - passed, layout)
        back.send(name, layout, passed)


class FirstOrder(DensityStep):
    """The density passes by the chain rule (operators/first_order.py). The node absorbs what its value and its operand
    differ by, each times its density.
    """

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        context, vjp, value = self.context(back), self.backward_node.op.vjp, back.value(self.carrying[0])
        assert vjp is not None
        density = message.density
        if message.amount is not None:
            back.account.absorb(self.name, message.amount, message.layout)
        if message.relevance is not None:
            own, kept = settle(message.relevance, value, At())
            back.account.absorb(self.name, kept, message.layout)
            density = plus(density, own)
        assert density is not None
        back.account.absorb(self.name, times(density, value), message.layout)
        for slot, name, is_sum in self.open:
            passed = vjp(context, slot, density)
            back.account.absorb(
                self.name, -times(passed, back.value(name)), self.layout(back, slot, message, passed.shape)
            )
            self.hand_on(back, slot, name, is_sum, message, passed, None)


class Lookup(BackwardStep):
    """An index receives the sum over its vector, and for gradients the sum of the products with the vector's elements.

    squares: sum the squares of a plain gradient, so that an index receives its L2 norm.
    """

    def __init__(self, backward_node: BackwardNode, *, squares: bool) -> None:
        super().__init__(backward_node)
        self.squares = squares

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        vjp, context, value = self.backward_node.op.vjp, self.context(back), message.relevance
        assert vjp is not None
        if message.density is not None:
            value = plus(value, self._saliency(back, message.density))
        assert value is not None
        ((slot, name),) = self.live
        relevance = vjp(context, slot, value)
        if message.density is not None and self.squares:
            relevance = namespace(relevance).sqrt(relevance)
        back.send(name, self.layout(back, slot, message, relevance.shape), relevance)

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        vjp, context, source, ((slot, name),) = self.backward_node.op.vjp, self.fixed, self.carrying[0], self.live
        if context is None or vjp is None or back.messages[source].density is not None:
            return None
        rule, known = vjp, context

        def line(_values: object, _tapes: object, arrived: dict[str, Array], _book: Array) -> None:
            arrived[name] = rule(known, slot, arrived[source])

        return line

    def _saliency(self, back: BackwardPass, g: Array) -> Array:
        return g * g if self.squares else g * back.value(self.carrying[0])
