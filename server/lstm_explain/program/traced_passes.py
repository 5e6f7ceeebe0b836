# SPDX-License-Identifier: Apache-2.0
"""A backward pass over traced arrays: the context of a node, and the account of where relevance goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.operators import BatchLayout, NodeContext
from lstm_explain.operators.operator import shape_value
from lstm_explain.program.account import rows_of
from lstm_explain.program.passes import BackwardPass
from lstm_explain.program.reachability import BackwardNode
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.extents import Extent, UntraceableError


class TracedContext(NodeContext):
    """A node whose values are traced arrays, constants included. taken: see TracedPass; the context adds to it."""

    __slots__ = ("_taken", "_trace")

    def __init__(
        self,
        trace: Trace,
        node: Node,
        graph: Graph,
        live: tuple[int, ...],
        values: Mapping[str, Any],
        dtype: Any,
        taken: dict[str, Traced],
    ) -> None:
        super().__init__(node, graph, live, values, dtype)
        self._trace, self._taken = trace, taken

    def _value(self, name: str) -> Any:
        array: Any = super()._value(name)
        return array if isinstance(array, Traced) else self._trace.constant(array)

    def shape(self, slot: int) -> Any:
        name = self.node.inputs[slot]
        if name in self._constants:
            return tuple(self._constants[name].shape)
        known = self._values.get(name)
        if known is not None:
            return known.shape
        saved: Any = self._values.get(shape_value(name))
        return super().shape(slot) if saved is None else tuple(self._sizes(shape_value(name), saved))

    def concrete(self, slot: int) -> Array:
        """Returns the numbers of an operand that decides shapes; extents where they follow from those of the inputs."""
        name = self.node.inputs[slot]
        if name in self._constants:
            return self._constants[name]
        value: Any = self._values[name]
        if value.dtype.kind not in "iu":
            raise UntraceableError("an operand that decides its shape depends on the input")
        sizes = self._sizes(name, self._trace.namespace.reshape(value, (-1,)))
        out = np.empty(len(sizes), object)
        out[:] = sizes
        return out if any(isinstance(s, Extent) for s in sizes) else np.array(sizes, np.int64)

    def _sizes(self, name: str, vector: Traced) -> list[Any]:
        self._taken[name] = vector
        return sizes_in(vector)


def sizes_in(vector: Traced) -> list[Any]:
    """Returns the numbers of an int64 vector as extents."""
    rows = [v.reshape(-1).tolist() for v in vector.values]
    if len({len(row) for row in rows}) > 1:
        raise UntraceableError("the number of its axes depends on the input")
    return [
        vector.trace.extent(sizes, lambda i=i: vector[i : i + 1])  # type: ignore[misc]
        for i, sizes in enumerate(zip(*rows, strict=True))
    ]


class TracedPass(BackwardPass):
    """`BackwardPass` over traced arrays. batch: an extent, or a number. taken: the integers that decide what its steps
    do, by the name of the value.
    """

    __slots__ = ("taken", "trace")

    def __init__(self, trace: Trace, plan: Any, done: Any, batch: Any, dtype: Any, account: Any) -> None:
        super().__init__(plan, done, batch, dtype, account)
        self.trace = trace
        self.taken: dict[str, Traced] = {}

    def inside(self, plan: Any, done: Any) -> BackwardPass:
        return TracedPass(self.trace, plan, done, self.batch, self.dtype, self.account)

    def context(self, backward_node: BackwardNode) -> NodeContext:
        context = self.contexts.get(backward_node.node.name)
        if context is None:
            node, live = backward_node.node, backward_node.live
            values = self.done.values
            context = TracedContext(self.trace, node, self.plan.graph, live, values, self.dtype, self.taken)
            self.contexts[node.name] = context
        return context


class TracedAccount:
    """What nodes absorb and what constant initial states receive, [batch] each: `RelevanceAccount` in a graph."""

    def __init__(self, trace: Trace, batch: Any, dtype: Any) -> None:
        self.trace, self.batch, self.dtype = trace, batch, dtype
        self.absorbed: Traced = trace.namespace.zeros((batch,), dtype=dtype)
        self.initial_states: Traced = self.absorbed

    def keep(self, node: str, amounts: Traced) -> None:
        self.absorbed = self.absorbed + self.trace.namespace.astype(amounts, self.dtype)

    def absorb(self, node: str, amounts: Any, layout: BatchLayout | None) -> None:
        self.absorbed = self.absorbed + self.per_sample(amounts, layout)

    def keep_initial_state(self, amounts: Any, layout: BatchLayout | None) -> None:
        self.initial_states = self.initial_states + self.per_sample(amounts, layout)

    def per_sample(self, amounts: Any, layout: BatchLayout | None) -> Traced:
        """[batch]: the sum over everything but the samples."""
        xp = self.trace.namespace
        amounts = xp.astype(xp.traced(amounts), self.dtype)
        if layout is None:
            return xp.broadcast_to(xp.reshape(xp.sum(amounts), (1,)), (self.batch,))
        if layout.inner == 1 and amounts.shape[layout.axis] == self.batch:
            others = tuple(a for a in range(amounts.ndim) if a != layout.axis)
            return xp.sum(amounts, axis=others)
        return xp.sum(xp.reshape(amounts, rows_of(amounts.shape, layout, self.batch)), axis=(0, 2))
