"""Two live operands multiplied: the product rules (Arras et al. 2019, section 3)."""

from __future__ import annotations

from lstm_explain.methods import LRP
from lstm_explain.plan.live import Stop
from lstm_explain.program.passes import BackwardPass
from lstm_explain.program.steps.base import BackwardStep
from lstm_explain.rules.shares import shares_of_product


class Product(BackwardStep):
    """gate: the slot of the operand that is the gate; None where neither is."""

    def __init__(self, stop: Stop, gate: int | None, lrp: LRP) -> None:
        super().__init__(stop)
        self.gate, self.lrp = gate, lrp
        self.share = stop.op.share or shares_of_product

    def __call__(self, back: BackwardPass) -> None:
        message = back.messages.get(self.carrying[0])
        if message is None:
            return
        relevance = message.relevance
        assert relevance is not None
        parts, absorbed = self.share(self.site(back), relevance, self.gate, self.lrp)
        constant = len(self.live) == 1  # what falls to a constant operand stays here, as the stabiliser's part does
        back.account.absorb(self.name, relevance if constant else absorbed, message.lane)
        for slot, name in self.live:
            lane = self.lane(back, slot, message, parts[slot].shape)
            back.send(name, lane, parts[slot])
            if constant:
                back.account.absorb(self.name, -parts[slot], lane)
