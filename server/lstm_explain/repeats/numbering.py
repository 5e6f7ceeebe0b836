# SPDX-License-Identifier: Apache-2.0
"""Numbers the values of a graph, equal values alike, so that nodes can be looked up by what they read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lstm_explain.graph.constant_folding import RANDOM, SEQUENCES
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.graph.recurrent_operands import CELLS
from lstm_explain.graph.single_positions import position_of
from lstm_explain.program.head import head_of

ABSENT = 0  # the number of an operand that is not there
MAX_COMPARED = 1 << 20  # elements of a constant whose contents are compared; larger ones are equal by name
# A state may begin with the same numbers as another, and yet is another state.
APART = {*RANDOM, *SEQUENCES, "ConstantOfShape"}
ROUNDS = 3  # operators away that tell nodes apart


@dataclass(frozen=True)
class Read:
    """One step of a sequence: position `index` on `axis` of the value with the number `source`. kept: whether the axis
    stays, with extent 1.
    """

    source: int
    axis: int
    index: int
    kept: bool


class Numbering:
    """Equal operators on equal operands have equal results.

    numbers: by name of the value. made: by number, the first node that computes the value, and its slot. kinds: by
    node, a number for its operator and attributes. firsts: by node, the first equal node. readers: by number, the nodes
    and slots that read the value, without copies. reads: by number, the steps of sequences. at: the reverse of `reads`.
    names: by number, a name.
    """

    def __init__(self, graph: Graph, marks: Mapping[str, Hashable]) -> None:
        """marks: by node name, what makes a node different from others with the same operator and attributes."""
        self.graph, self._marks = graph, marks
        self.numbers: dict[str, int] = {"": ABSENT}
        self.names: list[str] = [""]
        self.made: dict[int, tuple[Node, int]] = {}
        self.kinds: dict[Node, int] = {}
        self.firsts: dict[Node, Node] = {}
        self.place: dict[Node, int] = {}
        self.readers: dict[int, list[tuple[Node, int]]] = {}
        self.reads: dict[int, Read] = {}
        self.at: dict[Read, int] = {}
        self.constants: set[int] = set()
        self._operands: dict[Node, tuple[int, ...]] = {}
        self._known: dict[Hashable, int] = {}
        self._nodes: dict[Hashable, Node] = {}
        self._number_constants()
        for place, node in enumerate(graph.nodes):
            self.place[node] = place
            self._number(node)

    def number(self, name: str) -> int:
        """Returns the number of a value, a new one for a value that no node computes."""
        if name not in self.numbers:
            self.numbers[name] = self._new(name)
        return self.numbers[name]

    def of(self, node: Node) -> tuple[int, ...]:
        """Returns the numbers of what the node reads."""
        operands = self._operands.get(node)
        return tuple(self.number(name) for name in node.inputs) if operands is None else operands

    def constant(self, number: int) -> Array:
        return self.graph.constants[self.names[number]]

    def repeatable(self, node: Node) -> bool:
        """Returns whether the node may be a part of a cell: a function of its operands, without bodies."""
        return not (node.bodies or node.op in APART or node.op in CELLS)

    def _new(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1

    def _number_constants(self) -> None:
        constants = self.graph.constants
        alike = Counter((a.dtype, a.shape) for a in constants.values())
        for name, array in constants.items():
            key: Hashable = name
            if alike[array.dtype, array.shape] > 1 and array.size <= MAX_COMPARED and array.dtype != object:
                content = np.ascontiguousarray(array).tobytes()
                key = array.dtype, array.shape, content if len(content) < 64 else hashlib.sha256(content).digest()
            number = self._known.get(key)
            if number is None:
                number = self._known[key] = self._new(name)
                self.constants.add(number)
            self.numbers[name] = number

    def _number(self, node: Node) -> None:
        if node.op == "Identity":
            self.numbers[node.outputs[0]] = self.number(node.inputs[0])
            return
        operands = self._operands[node] = self.of(node)
        kind = self._kind(node)
        key = kind, operands
        first = self.firsts[node] = self._nodes.setdefault(key, node) if self.repeatable(node) else node
        if first is not node:
            for output, same in zip(node.outputs, first.outputs, strict=True):
                if output:
                    self.numbers[output] = self.number(same) if same else self._new(output)
            return
        self.kinds[node] = kind
        for slot, number in enumerate(operands):
            if number:
                self.readers.setdefault(number, []).append((node, slot))
        for slot, output in enumerate(node.outputs):
            if not output:
                continue
            read = self._read(node, slot, operands)
            if read is not None and read in self.at:
                self.numbers[output] = self.at[read]
                continue
            number = self.numbers[output] = self._new(output)
            self.made[number] = node, slot
            if read is not None:
                self.reads[number], self.at[read] = read, number

    def _kind(self, node: Node) -> int:
        attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in node.proto.attribute))
        metadata = tuple((entry.key, entry.value) for entry in node.proto.metadata_props)
        outputs = tuple(bool(o) for o in node.outputs)
        key = "kind", node.op, node.opset, attributes, metadata, outputs, self._marks.get(node.name)
        kind = self._known.get(key)
        if kind is None:
            kind = self._known[key] = len(self._known)
        return kind

    @cached_property
    def ends(self) -> set[Node]:
        """The nodes between the outputs and what is explained in their place, which therefore stays in the graph."""
        producers, found = self.graph.producers(), set[Node]()
        for name in self.graph.outputs:
            explained = head_of(self.graph, name, producers).value
            while name != explained:
                node = producers[name]
                found.add(self.firsts.get(node, node))
                name = node.inputs[0]
        return found

    @cached_property
    def groups(self) -> dict[Node, int]:
        """Numbers the nodes, alike those that are computed alike up to a few operators away."""
        alike = dict(self.kinds)
        for _ in range(ROUNDS):
            known: dict[Hashable, int] = {}
            before, alike = alike, {}
            for node in self.kinds:
                key = before[node], *(self._origin(number, before) for number in self.of(node))
                alike[node] = known.setdefault(key, len(known))
        return alike

    def _origin(self, number: int, alike: Mapping[Node, int]) -> Hashable:
        read, made = self.reads.get(number), self.made.get(number)
        if read is not None:
            return "read", read.source, read.axis
        if made is not None:
            return "made", alike[made[0]], made[1]
        return "given", number if number in self.constants else -1

    # --- steps of sequences ------------------------------------------------------------------------------------------

    def _read(self, node: Node, slot: int, operands: tuple[int, ...]) -> Read | None:
        if node.op == "Squeeze":
            return self._squeezed(node, operands)
        position = position_of(self.graph, node, slot)
        if position is None or position.place < 0 or operands[0] in self.constants:
            return None
        return Read(operands[0], *position)

    def _squeezed(self, node: Node, operands: tuple[int, ...]) -> Read | None:
        read = self.reads.get(operands[0])
        axes = self.graph.constants.get(node.input(1)) if len(node.inputs) > 1 else node.attribute("axes")
        rank = self.graph.type_of(node.inputs[0]).rank
        if read is None or not read.kept or axes is None or rank is None or np.size(axes) != 1:
            return None
        axis = int(np.reshape(axes, -1)[0]) % rank
        return Read(read.source, read.axis, read.index, False) if axis == read.axis else None
