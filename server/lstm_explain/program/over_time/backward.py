# SPDX-License-Identifier: Apache-2.0
"""The backward pass through a loop whose iterations have run: traced once, for one iteration, and run for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from lstm_explain.errors import Error
from lstm_explain.graph.body_wiring import Sliced, Wiring
from lstm_explain.graph.ir import Array
from lstm_explain.graph.session import open_session, run_session
from lstm_explain.kernels import reductions
from lstm_explain.operators import BatchLayout
from lstm_explain.program.compile import Plan
from lstm_explain.program.over_time.schedule import COUNT, Iteration, Schedule
from lstm_explain.program.over_time.traced_iteration import IterationNamespace, NodeAccount, without_guards
from lstm_explain.program.over_time.wiring import put_in_order
from lstm_explain.program.passes import (
    CHANNELS,
    BackwardPass,
    ForwardPass,
    Message,
    Stacked,
    sliced_layout,
    stacked_layout,
)
from lstm_explain.program.traced_passes import TracedPass
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.extents import UntraceableError
from lstm_explain.tracing.graph_writer import GraphWriter

Slot = tuple[str, str]  # a value of the body, and a channel of the message at it
OPSET, IR_VERSION = 20, 9  # of what is traced
MOST_TRIALS = 6  # traces until the messages that iterations exchange are known


@dataclass
class Arriving:
    """What arrives at a loop. states: by the body's name of each state, the message at its last value. written: by the
    body's name, the messages at the values that are written step by step, iterations first, with the layouts of one
    iteration.
    """

    states: Mapping[str, Message] = field(default_factory=dict)
    written: Mapping[str, Message] = field(default_factory=dict)

    def only(self, dtype: np.dtype[Any]) -> bool:
        """Returns whether all messages are of this type."""
        messages = [*self.states.values(), *self.written.values()]
        return all(a.dtype == dtype for m in messages for a in (m.relevance, m.density, m.amount) if a is not None)

    @property
    def kinds(self) -> tuple[object, ...]:
        """A key that is equal for messages of the same shapes, apart from the number of iterations."""
        states = [(name, m.channels, m.layout) for name, m in self.states.items()]
        rows = [(name, [c and c[1:] for c in m.channels], m.layout) for name, m in self.written.items()]
        return (*states, *((name, *shapes, layout) for name, shapes, layout in rows))


@dataclass
class Leaving:
    """What a loop sends. starts: by the body's name, the messages at the first values of states. read: those at
    sequences, iterations first, with the layouts of one iteration. around: those at values of the enclosing graph.
    """

    starts: dict[str, Message] = field(default_factory=dict)
    read: dict[str, Message] = field(default_factory=dict)
    around: dict[str, Message] = field(default_factory=dict)


class LoopBackward:
    """For values and messages of fixed shapes, apart from the number of iterations.

    steps: those of the body. captured: the values of the enclosing graph to which the body sends messages. Raises
    UntraceableError, SamplesMixed, and whatever ONNX Runtime raises.
    """

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[Callable[[BackwardPass], None]],
        wiring: Wiring,
        captured: Sequence[str],
        back: BackwardPass,
        record: Stacked,
        arriving: Arriving,
    ) -> None:
        self.plan, self.steps, self.wiring, self.captured = plan, steps, wiring, captured
        self.batch, self.dtype = back.batch, back.dtype
        self.layouts: dict[str, BatchLayout | None] = {}
        self.slots: list[Slot] = []
        self._first, self._around = record.first(), record.around
        self._names = {name: f"at::{name}" for name in self._first} | {n: f"around::{n}" for n in self._around}
        self._written = {
            (name, channel): f"written::{channel}::{name}"
            for name, message in arriving.written.items()
            for channel in CHANNELS
            if getattr(message, channel) is not None
        }
        self._settle(arriving)
        trace, inner = self._trace(arriving)
        self._write(trace, inner, arriving)
        self.decided = {name: rows for name, vector in inner.taken.items() if (rows := vector.values[0]).size}
        del self._first, self._around, self.namespace

    # --- one iteration ------------------------------------------------------------------------------------------------

    def _settle(self, arriving: Arriving) -> None:
        """Finds the messages that iterations pass on."""
        entries = {c.entry for c in self.wiring.carried}
        found = set[Slot]()
        for name, message in arriving.states.items():
            self.layouts[name] = message.layout
            found |= {(name, channel) for channel in CHANNELS if getattr(message, channel) is not None}
        for _ in range(MOST_TRIALS):
            self.slots = sorted(found)
            _, inner = self._trace(arriving)
            for name in entries:
                sent = inner.messages.get(name)
                if sent is None:
                    continue
                if self.layouts.setdefault(name, sent.layout) != sent.layout:
                    raise UntraceableError("its samples move from iteration to iteration")
                found |= {(name, channel) for channel in CHANNELS if getattr(sent, channel) is not None}
            if found == set(self.slots):
                return
        raise UntraceableError("its messages do not settle")

    def _trace(self, arriving: Arriving) -> tuple[Trace, TracedPass]:
        trace = Trace(GraphWriter(), 1)
        self.namespace = IterationNamespace(trace, {own: name for name, own in self._names.items()})
        given: dict[str, Any] = {
            name: Traced(trace, (np.asarray(array),), self._names[name])
            for name, array in (*self._first.items(), *self._around.items())
        }
        account: Any = NodeAccount(trace, self.batch, self.dtype)
        inner = TracedPass(trace, self.plan, ForwardPass(given), self.batch, self.dtype, account)
        states = {c.entry: c.exit for c in self.wiring.carried}
        for name, channel in self.slots:
            array: Any = Traced(trace, (np.zeros(self._shape_of(name), self.dtype),), f"state::{channel}::{name}")
            inner.send(states[name], self.layouts[name], **{channel: array})
        for (name, channel), own in self._written.items():
            message = arriving.written[name]
            array = Traced(trace, (getattr(message, channel)[0, ...],), own)
            inner.send(name, message.layout, **{channel: array})
        with np.errstate(all="ignore"):
            for step in self.steps:
                step(inner)
        return trace, inner

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return self._first[name].shape

    # --- all iterations -----------------------------------------------------------------------------------------------

    def _write(self, trace: Trace, inner: TracedPass, arriving: Arriving) -> None:
        account: Any = inner.account
        xp = trace.namespace

        def sent(name: str, channel: str) -> str:
            message = inner.messages.get(name)
            array: Any = None if message is None else getattr(message, channel)
            if array is None:
                array = xp.zeros(self._shape_of(name), dtype=self.dtype)
            return xp.astype(array, self.dtype).name

        def slots_of(names: Sequence[str]) -> list[Slot]:
            for name in names:
                if name in inner.messages:
                    self.layouts.setdefault(name, inner.messages[name].layout)
            return [
                (name, channel)
                for name in names
                for channel in CHANNELS
                if name in inner.messages and getattr(inner.messages[name], channel) is not None
            ]

        self.read_slots = slots_of([s.inner for s in self.wiring.read])
        self.around_slots = slots_of(list(self.captured))
        self.nodes = [name for name, array in account.by_node.items() if array.zeros is None]
        results = [sent(*slot) for slot in self.read_slots]
        results += [
            trace.namespace.astype(getattr(inner.messages[n], c), self.dtype).name for n, c in self.around_slots
        ]
        results += [account.by_node[name].name for name in self.nodes]
        self.absorbing_nothing = [name for name in account.by_node if name not in self.nodes]
        states = [(f"state::{channel}::{name}", sent(name, channel)) for name, channel in self.slots]
        kinds = {self._names[n]: (a.dtype, a.shape) for n, a in self._first.items()}
        for (name, channel), own in self._written.items():
            array = getattr(arriving.written[name], channel)
            kinds[own] = (array.dtype, array.shape[1:])
        around = {self._names[name]: (array.dtype, array.shape) for name, array in self._around.items()}
        kinds_of_states = {f"state::{c}::{n}": (self.dtype, self._shape_of(n)) for n, c in self.slots}
        for divisor in self.namespace.divisors:
            array = self._first[divisor.value]
            kinds |= dict.fromkeys(divisor.names, (array.dtype, array.shape))
        nodes, same = without_guards(trace.writer)
        iteration = Iteration(
            nodes,
            {name: numpy_helper.to_array(tensor) for name, tensor in trace.writer.initializers.items()},
            [(name, same.get(sent, sent)) for name, sent in states],
            [same.get(name, name) for name in results],
            kinds,
            around,
            kinds_of_states,
            [helper.make_opsetid("", OPSET)],
            IR_VERSION,
            backwards=True,
        )
        schedule = Schedule(iteration)
        self.inputs = [
            (own, name) for name, own in self._names.items() if own in schedule.inputs or own in schedule.around
        ]
        self.written = [(own, slot) for slot, own in self._written.items() if own in schedule.inputs]
        self.divisors = [d for d in self.namespace.divisors if not set(d.names).isdisjoint(schedule.inputs)]
        model = schedule.model.SerializeToString()
        self.size, self.session = len(model), open_session(model, flush=True)
        self.taken = {i.name for i in self.session.get_inputs()}
        self.found = [o.name for o in self.session.get_outputs()]
        self.results = schedule.results

    def run(self, back: BackwardPass, record: Stacked, arriving: Arriving) -> Leaving | None:
        """Returns what the loop sends, and adds to the account of the pass; None where that takes too much memory
        or leads to numbers that are not finite, or where iterations slice or shape differently than the one that was
        traced.
        """
        for name, numbers in self.decided.items():
            rows = record.around[name] if name in record.around else record.over_time(name)
            if (rows.reshape(-1, numbers.size) != numbers.ravel()).any():
                return None
        feeds: dict[str, Array] = {COUNT: np.array([record.count], np.int64)}
        for own, name in self.inputs:
            feeds[own] = record.around[name] if name in record.around else record.over_time(name)
        for divisor in self.divisors:
            value = record.over_time(divisor.value)
            magnitude = record.over_time(divisor.magnitude) if divisor.magnitude else None
            feeds |= zip(divisor.names, divisor.over_time(value, magnitude), strict=True)
        for own, (name, channel) in self.written:
            feeds[own] = getattr(arriving.written[name], channel)
        for name, channel in self.slots:
            message = arriving.states.get(name)
            start = None if message is None else getattr(message, channel)
            shape = record.starts[name].shape
            feeds[f"start::state::{channel}::{name}"] = np.zeros(shape, self.dtype) if start is None else start
        try:
            found = run_session(self.session, None, {n: a for n, a in feeds.items() if n in self.taken})
        except Error:
            raise
        except Exception:  # too little memory for all iterations at once
            return None
        if not all(reductions.all_finite(a.ravel()) for a in found):
            return None
        leaving, by_name = Leaving(), dict(zip(self.found, found, strict=True))
        for name, channel in self.slots:
            last = by_name[f"last::state::{channel}::{name}"]
            setattr(leaving.starts.setdefault(name, Message(layout=self.layouts[name])), channel, last)
        arrays = (by_name[name] for name in self.results)
        for name, channel in self.read_slots:
            setattr(leaving.read.setdefault(name, Message(layout=self.layouts[name])), channel, next(arrays))
        for name, channel in self.around_slots:
            total = next(arrays).sum(axis=0)
            setattr(leaving.around.setdefault(name, Message(layout=self.layouts[name])), channel, total)
        for name in self.nodes:
            back.account.keep(name, next(arrays).sum(axis=0, dtype=np.float64))
        for name in self.absorbing_nothing:
            back.account.keep(name, np.zeros(self.batch))
        return leaving


def arriving_at(wiring: Wiring, arrived: Mapping[str, Message | None]) -> Arriving:
    """Returns the messages at the node's outputs by the names of the body."""
    states = {c.entry: m for c in wiring.carried if (m := arrived.get(c.output)) is not None}
    found = dict[str, Message]()
    for w in wiring.written:
        message = arrived.get(w.outer)
        if message is None:
            continue
        relevance, density, amount = (
            None if a is None else np.ascontiguousarray(np.moveaxis(a, w.axis, 0)[:: -1 if w.backwards else 1])
            for a in (message.relevance, message.density, message.amount)
        )
        found[w.inner] = Message(relevance, density, amount, sliced_layout(message.layout, w.axis))
    return Arriving(states, found)


def give_rows(back: BackwardPass, sliced: Sliced, message: Message, whole: tuple[int, ...]) -> None:
    """Sends the messages of all iterations to a sequence. whole: its shape."""
    layout = stacked_layout(message.layout, sliced.axis)
    for channel in CHANNELS:
        rows = getattr(message, channel)
        if rows is not None:
            back.send(sliced.outer, layout, **{channel: put_in_order(rows, sliced, whole)})
