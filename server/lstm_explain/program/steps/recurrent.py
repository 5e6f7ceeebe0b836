# SPDX-License-Identifier: Apache-2.0
"""Runs LSTM, GRU and RNN nodes by the kernels of their cells, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence

from lstm_explain.graph.ir import Array
from lstm_explain.methods import LRP
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import Back, BackwardResult, Run, Tape
from lstm_explain.program.compile import Plan
from lstm_explain.program.passes import BackwardPass, ForwardPass, Message
from lstm_explain.program.reachability import BackwardNode, values_by_slot
from lstm_explain.program.steps.base import BackwardStep, Shape


class RecurrentForward:
    """Runs the node's kernels, and saves their tapes."""

    def __init__(self, backward_node: BackwardNode, plan: Plan, cell: Recurrent) -> None:
        self.node, self.graph, self.keep, self.cell = backward_node.node, plan.graph, plan.keep, cell

    def __call__(self, done: ForwardPass) -> None:
        values = values_by_slot(self.node, self.graph, done.values, self.cell.reads)
        run, x = self.cell.forward_run(values, self.keep)
        outputs, done.tapes[self.node.name] = run(x)
        done.values.update(outputs)

    def specialised(self, done: ForwardPass) -> RecurrentForward | FromZeros:
        """Returns a step for sequences of full length that start from zeros; itself for others."""
        node, cell = self.node, self.cell
        x, lengths = done.values.get(node.inputs[0]), node.input(4)
        if x is None or cell.given or cell.batch_first or x.dtype != cell.dtype or lengths in self.graph.constants:
            return self
        return FromZeros(self, x.shape)


class FromZeros:
    """`RecurrentForward` for inputs of one shape: it checks them and allocates memory only once."""

    def __init__(self, step: RecurrentForward, shape: Shape) -> None:
        lens, states = step.cell.at_rest(*shape[:2])
        self.run: Run = step.cell.ready(shape[0], lens, states, step.keep)
        self.otherwise, self.shape = step, shape
        self.name, self.source, self.lengths = step.node.name, step.node.inputs[0], step.node.input(4)

    def __call__(self, done: ForwardPass) -> None:
        values, shape = done.values, self.shape
        x = values[self.source]
        if x.shape != shape:
            return self.otherwise(done)
        if self.lengths:
            lengths = values[self.lengths]
            if lengths.shape != shape[1:2] or (lengths != shape[0]).any():
                return self.otherwise(done)
        x = x if x.flags.c_contiguous and x.flags.writeable else x.copy(order="C")
        outputs, done.tapes[self.name] = self.run(x)
        values.update(outputs)
        return None


class RecurrentBackward(BackwardStep):
    """lrp: the parameters for this node; None for gradients."""

    def __init__(self, backward_node: BackwardNode, cell: Recurrent, lrp: LRP | None) -> None:
        super().__init__(backward_node)
        self.cell, self.lrp = cell, lrp
        self.state_slots, self.names = backward_node.op.states, dict(self.live)
        self.outputs = [(output, name) for output, name in enumerate(self.carrying) if name]
        self.nothing: list[Array | None] = [None] * (1 + len(cell.state_slots))

    def __call__(self, back: BackwardPass) -> None:
        arrived = self._arrived(back)
        if arrived is not None:
            tapes = back.done.tapes[self.name]
            flow = self.cell.ready_back(tapes, self.lrp)(tapes, arrived[0])
            self._hand_on(back, flow, arrived[1])

    def together(self, backs: Sequence[BackwardPass]) -> None:
        """Runs the passes from several targets together, with one loop over time."""
        came = [(back, arrived) for back in backs if (arrived := self._arrived(back)) is not None]
        if not came:
            return
        tapes = came[0][0].done.tapes[self.name]
        flows = self.cell.backward_together(tapes, [arriving for _, (arriving, _) in came], self.lrp)
        for (back, (_, layout)), flow in zip(came, flows, strict=True):
            self._hand_on(back, flow, layout)

    def _arrived(self, back: BackwardPass) -> tuple[list[Array | None], BatchLayout | None] | None:
        """Returns what has arrived at each output of the operator, and where the samples lie in its inputs; None where
        nothing has arrived.
        """
        arriving, layout, gradient, first = self.nothing.copy(), None, self.lrp is None, True
        for output, name in self.outputs:
            message = back.messages.get(name)
            if message is not None:
                arriving[output] = message.density if gradient else message.relevance
                if first:
                    layout, first = self._layout_of_inputs(back, output, message), False
        return None if first else (arriving, layout)

    def _hand_on(self, back: BackwardPass, flow: BackwardResult, layout: BatchLayout | None) -> None:
        live, lrp = self.names, self.lrp
        for slot, array in flow.inputs.items():
            name = live.get(slot)
            if name is None:
                if lrp is not None and slot in self.state_slots:
                    back.account.keep_initial_state(array, layout)
            elif lrp is None:
                back.send(name, layout, None, array)
            else:
                back.send(name, layout, array)
        if lrp is None:
            return
        if flow.absorbed.shape == (back.batch,):
            back.account.keep(self.name, flow.absorbed)
        else:
            back.account.absorb(self.name, flow.absorbed, None if layout is None else BatchLayout(0, layout.inner))

    def _layout_of_inputs(self, back: BackwardPass, output: int, message: Message) -> BatchLayout | None:
        """Returns the operator's batch axis, which is the same in every input."""
        if back.batch == 1:
            return None
        batch_first = self.cell.batch_first
        axis = 0 if batch_first else (2 if output == 0 else 1)
        if message.layout is None or message.layout.axis != axis:
            raise SamplesMixed
        return BatchLayout(0 if batch_first else 1, message.layout.inner)

    def specialised(self, back: BackwardPass) -> BackwardStep:
        return _OfShape(self, back)


class _OfShape(RecurrentBackward):
    """For tapes of the same length; sequences of different lengths go through the step itself."""

    def __init__(self, step: RecurrentBackward, back: BackwardPass) -> None:
        super().__init__(step.backward_node, step.cell, step.lrp)
        self.outputs = [(output, name) for output, name in self.outputs if name in back.messages]
        tapes: list[Tape] = back.done.tapes[self.name]
        self.back: Back = step.cell.ready_back(tapes, step.lrp)
        self.whole, self.shape = tapes[0].lens.whole, tapes[0].x.shape

    def __call__(self, back: BackwardPass) -> None:
        tapes: list[Tape] = back.done.tapes[self.name]
        arrived, first = self._arrived(back), tapes[0]
        assert arrived is not None
        alike = self.whole and first.lens.whole and first.x.shape == self.shape
        run = self.back if alike else self.cell.ready_back(tapes, self.lrp)
        self._hand_on(back, run(tapes, arrived[0]), arrived[1])
