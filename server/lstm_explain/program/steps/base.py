# SPDX-License-Identifier: Apache-2.0
"""What steps have in common: their base class in the backward pass, the context of a node, the program of a body."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self

from lstm_explain.graph.ir import Array
from lstm_explain.operators import BatchLayout, NodeContext
from lstm_explain.program.compile import Plan
from lstm_explain.program.passes import BackwardPass, ForwardPass, Message
from lstm_explain.program.reachability import BackwardNode

Shape = tuple[int, ...]
# Of values and tapes of a forward pass, of the relevance that has arrived by value, and of the rows of the ledger.
Line = Callable[[Mapping[str, Array], Mapping[str, Any], dict[str, Array], Array], None]


class BackwardStep(ABC):
    """One node of the backward pass: takes the messages at its outputs and sends messages to its inputs.

    fixed: the node's context, where the step reads only constants and shapes and all of them are known.
    """

    def __init__(self, backward_node: BackwardNode) -> None:
        self.backward_node, self.name = backward_node, backward_node.node.name
        self.carrying = backward_node.carrying
        self.live = [(slot, backward_node.node.inputs[slot]) for slot in backward_node.live]
        self.fixed: NodeContext | None = None

    @abstractmethod
    def __call__(self, back: BackwardPass) -> None:
        """Raises SamplesMixed where samples cannot be distinguished in the node's inputs."""

    def specialised(self, back: BackwardPass) -> BackwardStep:
        """Returns the step specialised for the shapes of this pass, which has already run through it."""
        return self.with_fixed_context(back) or self

    @property
    def written(self) -> list[str]:
        """The values that the step sends messages to."""
        return [name for _, name in self.live]

    def line(self, back: BackwardPass, rows: dict[str, int]) -> Line | None:
        """Returns the step, specialised for the shapes of this completed pass, as a part of a straight line
        (straight_line.py); None where it has none. rows: by node, the row of the ledger for what it absorbs, to which
        the function adds its own.
        """
        return None

    def with_fixed_context(self, back: BackwardPass) -> Self | None:
        """Returns a copy that builds its context once; None where the step reads values of the pass."""
        step = copy.copy(self)
        step.fixed = _FixedNodeContext(back, self.backward_node)
        try:
            step(_throwaway_pass(back, self.carrying))
        except _LooksAtValues:
            return None
        return step

    def messages(self, back: BackwardPass) -> list[Message | None]:
        """Returns the messages at the outputs that carry relevance."""
        arrived = back.messages.get
        return [arrived(name) for name in self.carrying]

    def context(self, back: BackwardPass) -> NodeContext:
        return back.context(self.backward_node) if self.fixed is None else self.fixed

    def layout(self, back: BackwardPass, slot: int, message: Message, shape: Shape) -> BatchLayout | None:
        """Returns where the samples lie in the input at `slot`, whose array is of this shape."""
        if back.batch == 1:
            return None
        assert message.layout is not None
        return self.backward_node.op.layout(
            self.context(back), slot, message.layout, message.some().shape, shape, back.batch
        )


class _LooksAtValues(Exception):  # noqa: N818 - a fact, not a fault
    """A step requested a value of the pass from a fixed context."""


class _FixedNodeContext(NodeContext):
    """A context that knows only constants and shapes, and so is the same for all passes of these shapes."""

    __slots__ = ("_shapes",)

    def __init__(self, back: BackwardPass, backward_node: BackwardNode) -> None:
        super().__init__(backward_node.node, back.plan.graph, backward_node.live, {}, back.dtype)
        context = back.context(backward_node)
        self._shapes: dict[int, Shape] = {}
        for slot, name in enumerate(backward_node.node.inputs):
            with suppress(AssertionError):  # not saved, since nothing reads it
                self._shapes[slot] = context.shape(slot) if name else ()

    def _value(self, name: str) -> Array:
        if name not in self._constants:
            raise _LooksAtValues
        return super()._value(name)

    def concrete(self, slot: int) -> Array:
        return self._value(self.node.inputs[slot])

    def shape(self, slot: int) -> Shape:
        return self._shapes[slot]


def _throwaway_pass(back: BackwardPass, names: Sequence[str]) -> BackwardPass:
    """Returns a throwaway pass with the same messages."""
    again = BackwardPass(back.plan, back.done, back.batch, back.dtype)
    again.messages = {name: back.messages[name] for name in names if name in back.messages}
    return again


class Body(Protocol):
    """The program of a body."""

    plan: Plan

    @property
    def back_steps(self) -> Sequence[BackwardStep]: ...
    @property
    def unread(self) -> frozenset[str]: ...
    def forward(self, inputs: Mapping[str, Array]) -> ForwardPass: ...
    def backward(self, back: BackwardPass, known: Any = None) -> None: ...
    def specialised(self, done: ForwardPass, back: BackwardPass) -> Any: ...
