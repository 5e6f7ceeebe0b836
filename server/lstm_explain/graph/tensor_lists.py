# SPDX-License-Identifier: Apache-2.0
"""Removes lists of tensors whose length is known only at run time, which PyTorch writes for Python lists.

What a loop appends becomes an output that the loop stacks, and what is read from a tensor split into a list is read
from the tensor. This works on the nodes of the file, before the graph is built; tensor_sequences.py removes lists of
known length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, helper, numpy_helper

from lstm_explain.graph.protos import bodies_of, copy_of, nodes_of, opset_of, put_nodes
from lstm_explain.graph.read import infer_changed
from lstm_explain.graph.tensor_sequences import SEQUENCE_READERS


def remove_lists(model: ModelProto) -> ModelProto:
    """Returns the model without such lists, with inferred shapes; the model itself where there are none."""
    if not any(node.op_type in ("SequenceInsert", "SplitToSequence") for node in nodes_of(model)):
        return model
    changed = copy_of(model)
    opset = opset_of(model)
    _stack_appended_values([changed.graph], opset)
    changed = infer_changed(changed)
    _read_from_whole_tensors([changed.graph], {})
    return infer_changed(changed)


def _readers(graph: GraphProto, name: str) -> list[NodeProto | None]:
    """Returns the nodes that read a value, including those of bodies, and None for appended graph that returns it."""
    found: list[NodeProto | None] = [None for output in graph.output if output.name == name]
    for node in graph.node:
        found += [node for read in node.input if read == name]
        for body in bodies_of(node):
            if all(name != value.name for value in body.input):
                found += _readers(body, name)
    return found


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _constant(scopes: Sequence[GraphProto], name: str) -> np.ndarray | None:
    """scopes: a graph, preceded by the graphs that enclose it, outermost first."""
    for graph in reversed(scopes):
        for tensor in graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        for node in graph.node:
            if node.op_type == "Constant" and name in node.output and node.attribute[0].name == "value":
                return numpy_helper.to_array(node.attribute[0].t)
    return None


@dataclass
class Writer:
    """Collects nodes in order. Unnamed values are named after `prefix`, and nodes after their values.

    replaced: a node whose output, and therefore name, the last new node takes over.
    """

    prefix: str
    opset: int = 11
    replaced: NodeProto | None = None
    nodes: list[NodeProto] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def op(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{self.prefix}::{op}{next(self.numbers)}"
        taken_over = self.replaced is not None and output == self.replaced.output[0]
        name = (self.replaced.name if self.replaced is not None and taken_over else "") or output
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def ints(self, *values: int) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.array(values, np.int64)))

    def number(self, value: int) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.array(value, np.int64)))


# --- values that a loop appends ------------------------------------------------------------------------------------


def _stack_appended_values(scopes: list[GraphProto], opset: int) -> None:
    """Instead of a growing list, a loop returns the values that it appends as one stacked output, and a Split follows
    the loop.
    """
    graph, nodes = scopes[-1], list[NodeProto]()
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        for body in bodies_of(node):
            _stack_appended_values([*scopes, body], opset)
        nodes.append(node)
        if node.op_type != "Loop":
            continue
        for slot in reversed(range(2, len(node.input))):
            start = makers.get(node.input[slot])
            if start is not None and start.op_type in ("SequenceEmpty", "SequenceConstruct"):
                nodes += _stacked(node, slot, start, scopes, opset)
    del graph.node[:]
    graph.node.extend(nodes)


def _stacked(loop: NodeProto, slot: int, start: NodeProto, scopes: list[GraphProto], opset: int) -> list[NodeProto]:
    """Changes the loop and returns the nodes that split its new output; returns nothing if the loop does more than
    append.
    """
    (body,) = bodies_of(loop)
    before, after = body.input[slot].name, body.output[slot - 1]
    insert = next((n for n in body.node if after.name in n.output), None)
    if insert is None or insert.op_type != "SequenceInsert" or insert.input[0] != before:
        return []
    if _readers(body, before) != [insert] or _readers(body, after.name) != [None]:
        return []
    position = insert.input[2] if len(insert.input) > 2 else ""
    index = None if not position else _constant([*scopes, body], position)
    if position and (index is None or index.any()):
        return []
    appended = f"{after.name}::appended"
    kept = [n for n in body.node if n is not insert] + [helper.make_node("Identity", [insert.input[1]], [appended])]
    kind = after.type.sequence_type.elem_type
    outputs = [o for o in body.output if o is not after] + [ValueInfoProto(name=appended, type=kind)]
    inputs = [i for i in body.input if i.name != before]
    for part, values in ((body.node, kept), (body.input, inputs), (body.output, outputs)):
        values = [type(v).FromString(v.SerializeToString()) for v in values]
        del part[:]
        part.extend(values)
    names = [*loop.output, *[""] * (len(body.output) - 1 - len(loop.output))]
    name = names.pop(slot - 2) or f"{loop.name}::list{slot}"
    stack = f"{name}::stack"
    del loop.input[slot], loop.output[:]
    loop.output.extend([*names, stack])
    return _listed(Writer(name, opset), name, stack, list(start.input), prepends=bool(position))


def _listed(writer: Writer, name: str, stack: str, items: list[str], *, prepends: bool) -> list[NodeProto]:
    """Returns the nodes that make the list: the items that it began with and the appended ones, in order."""
    if prepends:
        last, past = writer.ints(-1), writer.ints(np.iinfo(np.int64).min)
        stack = writer.op("Slice", stack, last, past, writer.ints(0), last)
    if items:
        if writer.opset >= 13:
            items = [writer.op("Unsqueeze", item, writer.ints(0)) for item in items]
        else:
            items = [writer.op("Unsqueeze", item, axes=[0]) for item in items]
        stack = writer.op("Concat", *([stack, *items] if prepends else [*items, stack]), axis=0)
    writer.op("SplitToSequence", stack, output=name, axis=0, keepdims=0)
    return writer.nodes


# --- values that are read from a list ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """A tensor whose parts form a list. Each part has `size` positions along `axis`; if `size` is 0, each has one
    position and lacks the axis.

    rank: of the whole tensor; None where it is not known.
    """

    whole: str
    axis: int
    size: int
    rank: int | None

    def write(self, node: NodeProto) -> list[NodeProto] | None:
        """Returns the nodes that read from the whole tensor what `node` reads from the list; None where that is not
        possible.
        """
        writer = Writer(node.output[0], replaced=node)
        if node.op_type == "ConcatFromSequence":
            return self._concatenated(writer, node)
        if node.op_type == "SequenceLength":
            self._length(writer, output=node.output[0])
        elif self.size > 1:
            at = writer.op("Mod", writer.op("Cast", node.input[1], to=7), self._length(writer))
            first = writer.op("Reshape", writer.op("Mul", at, writer.number(self.size)), writer.ints(1))
            behind = writer.op("Add", first, writer.ints(self.size))
            writer.op("Slice", self.whole, first, behind, writer.ints(self.axis), output=node.output[0])
        else:
            at = node.input[1] if self.size == 0 else writer.op("Reshape", node.input[1], writer.ints(1))
            writer.op("Gather", self.whole, at, output=node.output[0], axis=self.axis)
        return writer.nodes

    def _length(self, writer: Writer, output: str = "") -> str:
        exact = output if self.size < 2 else ""
        extent = writer.op("Gather", writer.op("Shape", self.whole), writer.number(self.axis), output=exact, axis=0)
        if self.size < 2:
            return extent
        more = writer.op("Add", extent, writer.number(self.size - 1))
        return writer.op("Div", more, writer.number(self.size), output=output)

    def _concatenated(self, writer: Writer, node: NodeProto) -> list[NodeProto] | None:
        axis, new = _attribute(node, "axis", 0), _attribute(node, "new_axis", 0)
        axis = axis % (self.rank - (self.size == 0 and not new)) if self.rank else axis
        if axis == self.axis and bool(new) == (self.size == 0):
            writer.op("Identity", self.whole, output=node.output[0])
            return writer.nodes
        if self.size or not self.rank:
            return None
        order = [i for i in range(self.rank) if i != self.axis]
        order.insert(axis, self.axis)
        moved = writer.op("Transpose", self.whole, output=node.output[0] if new else "", perm=order)
        if not new:
            shape = writer.op("Shape", moved)
            before = writer.op("Slice", shape, writer.ints(0), writer.ints(axis))
            behind = writer.op("Slice", shape, writer.ints(axis + 2), writer.ints(self.rank))
            joined = writer.op("Concat", before, writer.ints(-1), behind, axis=0)
            writer.op("Reshape", moved, joined, output=node.output[0])
        return writer.nodes


def _read_from_whole_tensors(scopes: list[GraphProto], outer_types: dict[str, TypeProto]) -> None:
    """outer_types: types of the values of the enclosing graphs."""
    graph, types = scopes[-1], dict(outer_types)
    types |= {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}
    lists = {}
    for node in graph.node:
        parts = _parts(scopes, node, types) if node.op_type == "SplitToSequence" else None
        readers = _readers(graph, node.output[0]) if parts is not None else []
        if parts is not None and all(_reads(parts, reader, node.output[0]) for reader in readers):
            lists[node.output[0]] = parts
    _rewrite(graph, lists)
    for node in graph.node:
        for body in bodies_of(node):
            _read_from_whole_tensors([*scopes, body], types)


def _reads(parts: Parts, reader: NodeProto | None, name: str) -> bool:
    known = reader is not None and reader.op_type in SEQUENCE_READERS and reader.input[0] == name
    return known and parts.write(reader) is not None


def _parts(scopes: list[GraphProto], node: NodeProto, types: dict[str, TypeProto]) -> Parts | None:
    kind, rank = types.get(node.input[0]), None
    if kind is not None and kind.tensor_type.HasField("shape"):
        rank = len(kind.tensor_type.shape.dim) or 1
    axis, size = _attribute(node, "axis", 0), _attribute(node, "keepdims", 1)
    if axis < 0 and rank is None:
        return None
    axis = axis % rank if rank else axis
    if len(node.input) > 1 and node.input[1]:  # keepdims has no effect then.
        sizes = _constant(scopes, node.input[1])
        if sizes is None or sizes.ndim or sizes < 1:
            return None
        size = int(sizes)
    return Parts(node.input[0], axis, size, rank)


def _rewrite(graph: GraphProto, lists: dict[str, Parts]) -> None:
    nodes: list[NodeProto] = []
    for node in graph.node:
        parts = lists.get(node.input[0]) if node.op_type in SEQUENCE_READERS else None
        if parts is not None:
            nodes += parts.write(node) or [node]
        elif node.op_type != "SplitToSequence" or node.output[0] not in lists:
            nodes.append(node)
        for body in bodies_of(node):
            _rewrite(body, lists)
    put_nodes(graph, nodes)
