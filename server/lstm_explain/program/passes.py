# SPDX-License-Identifier: Apache-2.0
"""The state of a program: one forward pass, and one backward pass through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array
from lstm_explain.operators import BatchLayout, NodeContext, SamplesMixed
from lstm_explain.operators.formulas import in_dtype
from lstm_explain.operators.tape import Tape
from lstm_explain.program.account import RelevanceAccount
from lstm_explain.program.compile import Plan
from lstm_explain.program.reachability import BackwardNode


@dataclass
class ForwardPass:
    """values: every saved value by name. tapes: by node name, what recurrent and control-flow nodes save."""

    values: dict[str, Array]
    tapes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stacked:
    """What all iterations of a loop save. values: by name, iterations first. starts: by the body's name of each state,
    its first value. exits: by the same, the name of what an iteration turns the state into. around: values of the
    enclosing graph. gathered: those that iterations read element by element. constants: outputs of the body that are
    constants.
    """

    count: int
    values: Mapping[str, Array]
    starts: Mapping[str, Array]
    exits: Mapping[str, str]
    around: Mapping[str, Array]
    gathered: Mapping[str, Array]
    constants: Mapping[str, Array]

    def over_time(self, name: str) -> Array:
        """Returns a saved value, or what the iterations receive as a state."""
        if name not in self.exits:
            return self.values[name]
        exit_ = self.exits[name]
        constant = self.constants.get(exit_)
        rows = self.values[exit_] if constant is None else np.broadcast_to(constant, (self.count, *constant.shape))
        return np.concatenate([self.starts[name][np.newaxis], rows[:-1]])

    def first(self) -> dict[str, Array]:
        """Returns the values and the states of the first iteration."""
        return {name: array[0, ...] for name, array in self.values.items()} | dict(self.starts)

    def passes(self) -> list[ForwardPass]:
        """Returns the forward pass of every iteration, whose arrays are views."""
        whole = [(name, self.over_time(name)) for name in (*self.values, *self.exits)]
        same = {**self.around, **self.gathered, **self.constants}
        return [
            ForwardPass({**same, **{name: array[step, ...] for name, array in whole}}) for step in range(self.count)
        ]


@dataclass(frozen=True)
class Iterations:
    """The execution of a control-flow node. body: the name of the body that ran. size: in bytes. given: a pass per
    iteration, or what all of them save.
    """

    body: str
    given: list[ForwardPass] | Stacked
    size: int

    @cached_property
    def passes(self) -> list[ForwardPass]:
        """Returns one per iteration."""
        return self.given if isinstance(self.given, list) else self.given.passes()


def bytes_of(held: object) -> int:
    """Returns the bytes of all arrays in a forward pass, including those on the tapes of recurrent nodes and of
    bodies.
    """
    if isinstance(held, np.ndarray):
        return held.nbytes
    if isinstance(held, Mapping):
        return sum(map(bytes_of, held.values()))
    if isinstance(held, (list, tuple)):
        return sum(map(bytes_of, held))
    return (
        bytes_of(vars(held)) if isinstance(held, (ForwardPass, Stacked, Tape)) else bytes_of(getattr(held, "given", ()))
    )


CHANNELS = ("relevance", "density", "amount")  # of a message


@dataclass(slots=True)
class Message:
    """The message that has arrived at a value: relevance R, or a density G with R = value * G. amount: relevance to
    distribute equally over the units that feed the value linearly.
    """

    relevance: Array | None = None
    density: Array | None = None
    amount: Array | None = None
    layout: BatchLayout | None = None

    def at(self, axis: int, position: int) -> Message:
        """Sends a message to one slice of the value."""
        channels = (self.relevance, self.density, self.amount)
        relevance, density, amount = (None if a is None else a.take(position, axis) for a in channels)
        return Message(relevance, density, amount, sliced_layout(self.layout, axis))

    @property
    def channels(self) -> tuple[tuple[int, ...] | None, ...]:
        """The shape of each kind of message; None for one that has not arrived."""
        return tuple(None if a is None else a.shape for a in (self.relevance, self.density, self.amount))

    @property
    def carries_any(self) -> bool:
        """Whether any number is not zero."""
        return any(a is not None and a.any() for a in (self.relevance, self.density, self.amount))

    def some(self) -> Array:
        array = self.relevance if self.relevance is not None else self.density
        assert array is not None
        return array


NOTHING: Array = np.zeros(0)


class BackwardPass:
    """One backward pass through a forward pass.

    batch: the number of samples; with more than one, layouts say where they lie in every array. dtype: the type of the
    arithmetic. weights, layout, explained: those of the explained value, where the pass starts at one.
    """

    __slots__ = (
        "account", "batch", "contexts", "done", "dtype", "explained", "fan_in", "layout", "messages", "plan", "weights"
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        done: ForwardPass,
        batch: int,
        dtype: np.dtype[np.floating],
        account: RelevanceAccount | None = None,
    ) -> None:
        self.plan, self.done, self.batch, self.dtype = plan, done, batch, dtype
        self.account = RelevanceAccount(batch) if account is None else account
        self.messages: dict[str, Message] = {}
        self.contexts: dict[str, NodeContext] = {}
        self.weights = self.explained = NOTHING
        self.layout: BatchLayout | None = None
        self.fan_in: dict[str, float] = {}  # units that feed a value linearly; filled on demand

    def send(
        self,
        value: str,
        layout: BatchLayout | None,
        relevance: Array | None = None,
        density: Array | None = None,
        amount: Array | None = None,
    ) -> None:
        earlier = self.messages.get(value)
        if earlier is None:
            self.messages[value] = Message(relevance, density, amount, layout)
            return
        earlier.layout = layout
        earlier.relevance = plus(earlier.relevance, relevance)
        earlier.density = plus(earlier.density, density)
        earlier.amount = plus(earlier.amount, amount)

    def receive(self, value: str, message: Message | None) -> None:
        """Sends a complete message."""
        if message is not None:
            self.send(value, message.layout, message.relevance, message.density, message.amount)

    def value(self, name: str) -> Array:
        """Returns a saved value that is not a constant, in the type of this pass."""
        array = self.done.values[name]
        return array if array.dtype is self.dtype else in_dtype(array, self.dtype)

    def inside(self, plan: Plan, done: ForwardPass) -> BackwardPass:
        """Returns a pass through one iteration of a body, which adds to the same account."""
        return BackwardPass(plan, done, self.batch, self.dtype, self.account)

    def context(self, backward_node: BackwardNode) -> NodeContext:
        context = self.contexts.get(backward_node.node.name)
        if context is None:
            context = NodeContext(backward_node.node, self.plan.graph, backward_node.live, self.done.values, self.dtype)
            self.contexts[backward_node.node.name] = context
        return context

    def keep_initial_state(self, message: Message) -> None:
        """Adds the relevance of a state that starts from a constant."""
        for array in (message.relevance, message.amount):
            if array is not None:
                self.account.keep_initial_state(array, message.layout)


def plus(a: Array | None, b: Array | None) -> Array | None:
    if a is None:
        return b
    return a if b is None else a + b


def sliced_layout(layout: BatchLayout | None, axis: int) -> BatchLayout | None:
    """Returns where samples lie once `axis` is gone."""
    if layout is None:
        return None
    if layout.axis == axis:
        raise SamplesMixed
    return BatchLayout(layout.axis - (layout.axis > axis), layout.inner)


def stacked_layout(layout: BatchLayout | None, axis: int) -> BatchLayout | None:
    """Returns where samples lie once slices with this layout are stacked along a new `axis`."""
    return None if layout is None else BatchLayout(layout.axis + (layout.axis >= axis), layout.inner)
