# SPDX-License-Identifier: Apache-2.0
"""Products of two live operands: the product rules (Arras et al. 2019, section 3)."""

from __future__ import annotations

from lstm_explain.methods import LRP
from lstm_explain.operators.formulas import shares_of_product
from lstm_explain.program.passes import BackwardPass
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.program.steps.base import BackwardStep


class Product(BackwardStep):
    """gate: the slot of the operand that is the gate; None where neither is."""

    def __init__(self, backward_node: BackwardNode, gate: int | None, lrp: LRP) -> None:
        super().__init__(backward_node)
        self.gate, self.lrp = gate, lrp
        self.product_rule = backward_node.op.product_rule or shares_of_product

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        relevance = message.relevance
        assert relevance is not None
        parts, absorbed = self.product_rule(self.context(back), relevance, self.gate, self.lrp)
        constant = len(self.live) == 1  # the share of a constant operand is absorbed here, like the stabiliser's
        if constant or absorbed is not None:
            back.account.absorb(self.name, relevance if constant or absorbed is None else absorbed, message.layout)
        for slot, name in self.live:
            part = parts[slot]
            if part is None:  # nothing is sent, so that no step computes with zeros
                continue
            layout = self.layout(back, slot, message, part.shape)
            back.send(name, layout, part)
            if constant:
                back.account.absorb(self.name, -part, layout)
