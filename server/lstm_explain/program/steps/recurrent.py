# SPDX-License-Identifier: Apache-2.0
"""Runs LSTM, GRU and RNN nodes by the kernels of their cells, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lstm_explain.cancellation import NEVER, raise_if_stopped, stop_flag
from lstm_explain.graph.ir import Array
from lstm_explain.kernels.compilation import NotCompiled
from lstm_explain.methods import LRP
from lstm_explain.operators import BatchLayout, SamplesMixed
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import Back, BackwardResult, Run, Tape
from lstm_explain.program.account import INPUTS, STATES, add_per_sample, row_in
from lstm_explain.program.compile import Plan
from lstm_explain.program.passes import BackwardPass, ForwardPass, Message
from lstm_explain.program.reachability import BackwardNode, values_by_slot
from lstm_explain.program.steps.base import BackwardStep, Line, Shape


class RecurrentForward:
    """Runs the node's kernels, and saves their tapes."""

    def __init__(self, backward_node: BackwardNode, plan: Plan, cell: Recurrent) -> None:
        self.node, self.graph, self.keep, self.cell = backward_node.node, plan.graph, plan.keep, cell

    def __call__(self, done: ForwardPass) -> None:
        values = values_by_slot(self.node, self.graph, done.values, self.cell.reads)
        run, x = self.cell.forward_run(values, self.keep)
        outputs, done.tapes[self.node.name] = run(x)
        done.values.update(outputs)

    def specialised(self, done: ForwardPass, fixed: Mapping[str, Array]) -> RecurrentForward | FromFixedStates:
        """Returns a step for sequences of full length whose initial states are zeros or `fixed`; itself for others."""
        node, cell = self.node, self.cell
        known = {**self.graph.constants, **fixed}
        if not all(node.inputs[slot] in known for slot in cell.given):
            return self
        x, lengths = done.values.get(node.inputs[0]), node.input(4)
        if x is None or cell.batch_first or x.dtype != cell.dtype or lengths in self.graph.constants:
            return self
        states = {slot: known[node.inputs[slot]] for slot in cell.given}
        computed = {name: fixed[name] for slot in cell.given if (name := node.inputs[slot]) in fixed}
        return FromFixedStates(self, x.shape, states, computed)


class FromFixedStates:
    """`RecurrentForward` for inputs of one shape: it checks them and allocates memory only once.

    computed: those of the initial states that are no constants. They are other arrays where the step before met other
    shapes, which values may decide.
    """

    def __init__(
        self, step: RecurrentForward, shape: Shape, states: Mapping[int, Array], computed: Mapping[str, Array]
    ) -> None:
        self.lens, self.states = step.cell.of_full_length(shape[0], shape[1], states)
        self.at_rest = not any(state.any() for of_direction in self.states for state in of_direction)
        self.run: Run = step.cell.ready(shape[0], self.lens, self.states, step.keep)
        self.otherwise, self.shape, self.computed = step, shape, computed
        self.name, self.source, self.lengths = step.node.name, step.node.inputs[0], step.node.input(4)

    def __call__(self, done: ForwardPass) -> None:
        values, shape = done.values, self.shape
        x = values[self.source]
        if x.shape != shape or any(values[name] is not state for name, state in self.computed.items()):
            return self.otherwise(done)
        if self.lengths:
            lengths = values[self.lengths]
            if lengths.shape != shape[1:2] or (lengths != shape[0]).any():
                return self.otherwise(done)
        outputs, tapes = self.run(_as_kernels_take_it(x))
        for tape in tapes:
            tape.at_rest = self.at_rest
        done.tapes[self.name] = tapes
        values.update(outputs)
        return None

    def line(self) -> Callable[[ForwardPass], None]:
        """Returns the step for inputs that are known to have this shape."""
        cell = self.otherwise.cell
        if self.lengths or len(cell.directions) > 1 or cell.dtype != cell.out_dtype:
            return self
        run = cell.directions[0].ready(self.shape[0], self.lens, self.otherwise.keep)
        node, source, named, states, otherwise = self.name, self.source, cell.named, self.states[0], self.otherwise
        at_rest = self.at_rest

        def line(done: ForwardPass) -> None:
            values, stop = done.values, stop_flag()
            try:
                tape, last = run(_as_kernels_take_it(values[source]), states, stop)
            except NotCompiled:
                return otherwise(done)
            if stop is not NEVER:
                raise_if_stopped()
            tape.at_rest, done.tapes[node] = at_rest, [tape]
            for slot, name in named:
                values[name] = last[slot - 1][None] if slot else tape.hidden[:, None]
            return None

        return line


def _as_kernels_take_it(x: Array) -> Array:
    flags = x.flags
    return x if flags.c_contiguous and flags.writeable else x.copy(order="C")


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

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        tapes: list[Tape] = back.done.tapes[self.name]
        arrived = self._arrived(back)
        if arrived is None or len(tapes[0].lens.steps) != back.batch:
            return None
        node, cell, lrp, fast, whole, outputs = self.name, self.cell, self.lrp, self.back, self.whole, self.outputs
        nothing, live, layout = self.nothing, self.live, arrived[1]
        row = INPUTS if lrp is None else row_in(rows, self.name)  # gradients add nothing
        constant = [] if lrp is None else [slot for slot in cell.state_slots if slot not in self.names]

        def line(_values: object, tapes: Mapping[str, list[Tape]], arrived: dict[str, Array], book: Array) -> None:
            own, arriving = tapes[node], [*nothing]
            for output, name in outputs:
                arriving[output] = arrived[name]
            run = fast if whole and own[0].lens.whole else cell.ready_back(own, lrp)
            flow = run(own, arriving)
            inputs = flow.inputs
            for slot, name in live:
                arrived[name] = inputs[slot]
            for slot in constant:
                if slot in inputs:
                    add_per_sample(inputs[slot], layout, book[STATES])
            if lrp is not None:
                book[row] += flow.absorbed

        spreads = lrp is not None and lrp.bias_factor > 0
        alone = whole and len(tapes) == len(live) == 1 and live[0][0] == 0 and not (cell.batch_first or spreads)
        return self._line_of_one(tapes[0], row, line) if alone else line

    def _line_of_one(self, tape: Tape, row: int, otherwise: Line) -> Line:
        """Returns the same for a node with one direction whose states start from zeros, so that only x receives
        relevance.
        """
        node, dtype, outputs, ((_, source),) = self.name, tape.dtype, dict(self.outputs), self.live
        run = self.cell.directions[0].ready_back(len(tape.x), tape.lens, dtype, self.lrp)
        y, ends = outputs.get(0), [outputs.get(1 + number) for number in range(len(self.cell.state_slots))]
        nothing, zeros = np.zeros((0, 0, 0), dtype), np.zeros_like(tape.h0, dtype)

        def line(
            values: Mapping[str, Array], tapes: Mapping[str, list[Tape]], arrived: dict[str, Array], book: Array
        ) -> None:
            (tape,), stop = tapes[node], stop_flag()
            if not (tape.at_rest and tape.complete and tape.lens.whole):
                return otherwise(values, tapes, arrived, book)
            # in arrays that a kernel may write to
            r_y = nothing if y is None else _as_kernels_take_it(np.asarray(arrived[y][:, 0], dtype))
            r_ends = [zeros.copy() if name is None else arrived[name][0].astype(dtype, "C") for name in ends]
            try:
                arrived[source] = run(tape, r_y, r_ends, book[row], stop)
            except NotCompiled:
                return otherwise(values, tapes, arrived, book)
            if stop is not NEVER:
                raise_if_stopped()
            return None

        return line
