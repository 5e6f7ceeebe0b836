# SPDX-License-Identifier: Apache-2.0
"""Gives a trip count to a Loop whose condition only compares counters with numbers that are known before it runs.

tf2onnx writes `time < n and counter < max` into the body of a loop over time, hands weights from iteration to iteration
as states that never change, and indexes sequences by a counter of its own. The condition becomes a trip count, such
states become values of the enclosing graph, and a counter from 0 becomes the number of the iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from lstm_explain.graph.ir import Array, Graph, Node, ValueType
from lstm_explain.graph.node_editing import make, renamed
from lstm_explain.graph.protos import copy_of
from lstm_explain.graph.read import node_of

FIRST_OPSET = 13  # Min and Max of integers, and axes as operands
SAME = ("Identity", "Squeeze", "Unsqueeze", "Reshape")  # of a single number
EXACT = (TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE)  # casts that keep counters
INT64 = np.dtype(np.int64)
COUNTERS = (np.dtype(np.int32), INT64)  # of narrower types, counters overflow within few iterations
MOST = 1 << 60  # of numbers of iterations: sums and differences of a few do not overflow


@dataclass(frozen=True)
class Counter:
    """The value of a counter in iteration i is start + offset + i. start: the name of a value of the enclosing graph;
    empty for 0.
    """

    start: str
    offset: int


@dataclass(frozen=True)
class Limit:
    """The loop goes on while counter + `more` < bound, a value of the enclosing graph."""

    counter: Counter
    bound: str
    more: int


def count_loops(graph: Graph) -> bool:
    """Rewrites such loops of the graph, in place. Returns whether there was one."""
    nodes = list[Node]()
    for node in graph.nodes:
        nodes += (node.op == "Loop" and _Loop(graph, node).counted()) or [node]
    changed = len(nodes) != len(graph.nodes) or any(a is not b for a, b in zip(nodes, graph.nodes, strict=True))
    graph.nodes = nodes
    return changed


class _Loop:
    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node, self.body = graph, node, node.bodies["body"]
        self.producers = self.body.producers()
        states = list(zip(self.body.inputs[2:], node.inputs[2:], self.body.outputs[1:], strict=False))
        self.unchanged = {entry: outer for entry, outer, exit_ in states if self._copied(exit_) == entry}
        self.starts = {entry: outer for entry, outer, _ in states}
        self.counters = {e for e, _, exit_ in states if self._step_of(exit_, e) == 1}

    def counted(self) -> list[Node] | None:
        """Returns the nodes that replace the loop; None where its condition is of another kind."""
        condition = self._plain(self.body.outputs[0])
        if self.node.opset < FIRST_OPSET or condition in self.body.inputs or condition in self.body.constants:
            return None
        limits = list(self._limits(condition))
        if not limits or None in limits:
            return None
        self.made = list[Node]()
        trips = [self._trips(limit) for limit in limits if limit is not None]
        if self.node.input(0):
            trips.append(self._number(self.node.inputs[0]))
        count = trips[0] if len(trips) == 1 else self._op("Min", *trips)
        return [*self.made, node_of(self.graph, self._rewritten(count))]

    # --- the condition ------------------------------------------------------------------------------------------------

    def _copied(self, name: str) -> str:
        """Returns the value that this is a copy of."""
        while name in self.producers and self.producers[name].op == "Identity":
            name = self.producers[name].inputs[0]
        return name

    def _plain(self, name: str) -> str:
        """Returns the value without changes of its type and rank."""
        while (node := self.producers.get(name)) is not None:
            if node.op not in SAME and not (node.op == "Cast" and node.attribute("to") in EXACT):
                break
            name = node.inputs[0]
        return name

    def _limits(self, name: str) -> Iterator[Limit | None]:
        node = self.producers.get(self._plain(name))
        if node is not None and node.op == "And":
            for part in node.inputs:
                yield from self._limits(part)
            return
        yield None if node is None else self._limit(node)

    def _limit(self, node: Node) -> Limit | None:
        if node.op not in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
            return None
        small, large = node.inputs if node.op.startswith("Less") else node.inputs[::-1]
        counter, bound = self._counter(small), self._around(large)
        if counter is None or bound is None:
            return None
        return Limit(counter, bound, -1 if node.op.endswith("OrEqual") else 0)

    def _step_of(self, name: str, entry: str) -> int | None:
        """Returns the constant that is added to the state on the way to this value."""
        total = 0
        while (name := self._plain(name)) != entry:
            node = self.producers.get(name)
            if node is None or node.op not in ("Add", "Sub"):
                return None
            places = [i for i, operand in enumerate(node.inputs) if self._constant(operand) is not None]
            if len(places) != 1 or (node.op == "Sub" and places != [1]):
                return None
            total += (self._constant(node.inputs[places[0]]) or 0) * (1 if node.op == "Add" else -1)
            name = node.inputs[1 - places[0]]
        return total

    def _constant(self, name: str) -> int | None:
        array = self.body.constants.get(self._plain(name))
        return int(array.reshape(-1)[0]) if array is not None and array.size == 1 and array.dtype.kind in "iu" else None

    def _counter(self, name: str) -> Counter | None:
        for entry, start in ((self.body.inputs[0], ""), *((e, self.starts[e]) for e in sorted(self.counters))):
            offset = self._step_of(name, entry)
            if offset is not None and self._is_whole(entry):
                return Counter(start, offset)
        return None

    def _around(self, name: str) -> str | None:
        """Returns the value of the enclosing graph that this single whole number is."""
        name = self._plain(name)
        array = self.body.constants.get(name)
        if array is not None:
            if array.size != 1 or array.dtype.kind not in "iuf" or not float(array.reshape(-1)[0]).is_integer():
                return None
            return self._whole(int(array.reshape(-1)[0]))
        name = self.unchanged.get(name, name)
        known = name in self.body.captured or name in self.unchanged.values()
        kind = self.graph.type_of(name)
        single = kind.shape is not None and all(extent == 1 for extent in kind.shape)
        whole = kind.dtype is not None and kind.dtype.kind in "iu" and kind.dtype != np.uint64
        return name if known and single and whole else None

    def _is_whole(self, name: str) -> bool:
        return name == self.body.inputs[0] or self.body.type_of(name).dtype in COUNTERS

    # --- the trip count -----------------------------------------------------------------------------------------------

    def _op(self, op: str, *inputs: str, **attributes: object) -> str:
        output = f"{self.node.name}/trips/{op}_{len(self.made)}"
        self.made.append(make(op, inputs, [output], self.node.opset, output, **attributes))
        self.graph.types[output] = ValueType(INT64, (1,))
        return output

    def _whole(self, number: int) -> str:
        number = max(-MOST, min(MOST, number))
        name = f"{self.node.name}/trips/{number}"
        self.graph.constants[name] = np.array([number], INT64)
        return name

    def _number(self, name: str) -> str:
        """Returns the value as an int64 [1], bounded so that it can be added to others."""
        single = self._op("Reshape", self._op("Cast", name, to=TensorProto.INT64), self._whole(1))
        return self._op("Max", self._op("Min", single, self._whole(MOST)), self._whole(-MOST))

    def _trips(self, limit: Limit) -> str:
        """Returns how often the loop runs: the condition is read after each iteration."""
        left = self._op("Sub", self._number(limit.bound), self._whole(limit.counter.offset + limit.more - 1))
        if limit.counter.start:
            left = self._op("Sub", left, self._number(limit.counter.start))
        return self._op("Max", left, self._whole(1))

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _rewritten(self, count: str) -> NodeProto:
        node, body = self.node, self.body
        proto = copy_of(node.proto)
        inner: GraphProto = next(a.g for a in proto.attribute if a.name == "body")
        own = {name for n in inner.node for name in n.output} | {t.name for t in inner.initializer}
        names = {entry: outer for entry, outer in self.unchanged.items() if outer not in own}
        number, before, indices = body.inputs[0], list[NodeProto](), dict[str, str]()
        for entry in sorted(self.counters):
            start = self.graph.constants.get(self.starts[entry])
            if start is not None and start.size == 1 and not start.any() and start.ndim < 2:
                names[entry] = f"{entry}/number"
                before += _counting(number, names[entry], start)
                indices |= {} if start.ndim else {entry: number}
        nodes = [*before, *(_read_anew(n, names, indices) for n in inner.node)]
        gone = {i for i, entry in enumerate(body.inputs[2:]) if self._may_go(i, entry, names)}
        nodes += [_identity(inner.output[0], body.inputs[1])]
        for i, value in enumerate(inner.output[1:]):
            if i not in gone and value.name in names:
                nodes.append(_identity(value, names[value.name]))
        del inner.node[:]
        inner.node.extend(nodes)
        for i in sorted(gone, reverse=True):
            del inner.input[2 + i], inner.output[1 + i]
        proto.input[:] = [count, node.inputs[1], *(n for i, n in enumerate(node.inputs[2:]) if i not in gone)]
        proto.output[:] = [n for i, n in enumerate(node.outputs) if i not in gone]
        return proto

    def _may_go(self, i: int, entry: str, names: Mapping[str, str]) -> bool:
        """Returns whether nothing reads the state at the end of the loop."""
        output = self.node.outputs[i] if i < len(self.node.outputs) else ""
        read = output and (
            output in self.graph.outputs or any(output in (*n.inputs, *n.captured) for n in self.graph.nodes)
        )
        return entry in names and not read


def _counting(number: str, name: str, like: Array) -> list[NodeProto]:
    """Returns the nodes that turn the number of an iteration into a counter of this type and rank."""
    element = helper.np_dtype_to_tensor_dtype(like.dtype)
    if not like.ndim:
        return [helper.make_node("Cast", [number], [name], name=name, to=element)]
    cast = helper.make_node("Cast", [number], [f"{name}/cast"], name=f"{name}/cast", to=element)
    shape = helper.make_node("Constant", [], [f"{name}/shape"], name=f"{name}/shape", value_ints=[1])
    return [cast, shape, helper.make_node("Reshape", [f"{name}/cast", f"{name}/shape"], [name], name=name)]


def _identity(output: ValueInfoProto, name: str) -> NodeProto:
    """Returns the node that makes a value an output of the body, under a new name."""
    output.name = f"{output.name}/out"
    return helper.make_node("Identity", [name], [output.name], name=output.name)


def _read_anew(node: NodeProto, names: Mapping[str, str], indices: Mapping[str, str]) -> NodeProto:
    """indices: other names for what Gather reads as an index."""
    copy = renamed(node, names, "")
    copy.output[:] = list(node.output)
    if node.op_type == "Gather" and node.input[1] in indices:
        copy.input[1] = indices[node.input[1]]
    return copy
