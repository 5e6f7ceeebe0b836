# SPDX-License-Identifier: Apache-2.0
"""Writes the repeats of a cell as one Scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, ValueInfoProto, helper

from lstm_explain.graph.ir import UNKNOWN, Graph, Node, ValueType
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.protos import copy_of
from lstm_explain.graph.read import node_of
from lstm_explain.repeats.numbering import Read
from lstm_explain.repeats.search import Cell
from lstm_explain.repeats.template import Fixed, Lane, Slot, StepConstant, Taken

AXES_ARE_OPERANDS = 13  # the opset since which Unsqueeze takes its axes as an operand


@dataclass(frozen=True)
class Stack:
    """An output of a lane over all steps, along `axis`. backwards: whether the last step comes first."""

    lane: Lane
    output: int
    axis: int = 0
    backwards: bool = False


class ScanWriter:
    """Collects what the rest of the graph reads of a cell, then writes the nodes that replace it.

    inputs: what the cell reads of the rest of the graph.
    """

    def __init__(self, graph: Graph, cell: Cell) -> None:
        self.graph, self.cell, self.steps, self.numbering = graph, cell, cell.steps, cell.steps.numbering
        self.opset = next(iter(cell.nodes)).opset
        # The names inside, by lane, output and the number of the first value.
        self._states: dict[tuple[Lane, int, int], str] = {}
        self._sequences: dict[object, tuple[str, str, int, bool]] = {}  # inside, outside, axis, backwards
        self._kinds: dict[str, ValueType] = {}  # of the values in the body
        self._before: list[Node] = []
        self._after: list[Node] = []
        self._stacks: dict[Stack, str] = {}
        self._lasts: dict[tuple[Lane, int], str] = {}
        self._around: list[str] = []
        self._body: list[NodeProto] = []
        self._named_after = self._name()
        for (lane, output), number in cell.sequences.items():
            graph.types[self.numbering.names[number]] = self._stacked_type(Stack(lane, output))
        for lane in self.steps.template.lanes:
            self._write(lane)
        self._firsts = [self.numbering.names[first] for _, _, first in self._states]
        self.inputs = [*self._firsts, *self._around]
        self.inputs += [name for node in self._before for name in node.inputs]
        self.inputs += [outside for _, outside, _, _ in self._sequences.values()]

    def _info(self, name: str) -> ValueInfoProto:
        kind = self._kinds.get(name, UNKNOWN)
        if kind.dtype is None:
            return ValueInfoProto(name=name)
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind.dtype), kind.shape)

    # --- the body -----------------------------------------------------------------------------------------------------

    def _inside(self, lane: Lane, output: int) -> str:
        return f"{self._named_after[lane].outputs[output]}/each"

    def _name(self) -> dict[Lane, Node]:
        """Returns the node that each lane is named after: that of the first step, or of the second where two lanes
        share it.
        """
        found: dict[Lane, Node] = {}
        for lane in self.steps.template.lanes:
            first, second = (self.steps.nodes[lane][self.steps.first + i] for i in (0, 1))
            found[lane] = second if first in found.values() else first
        return found

    def _write(self, lane: Lane) -> None:
        node = self._named_after[lane]
        inputs = [self._operand(lane, i, slot) for i, slot in enumerate(lane.slots)]
        proto = copy_of(node.proto)
        proto.name = node.name
        proto.input[:] = inputs
        proto.output[:] = [self._inside(lane, i) if name else "" for i, name in enumerate(node.outputs)]
        self._body.append(proto)
        for i, name in enumerate(node.outputs):
            if name:
                self._kinds[self._inside(lane, i)] = self.graph.type_of(name)

    def _operand(self, lane: Lane, i: int, slot: Slot) -> str:
        node = self.steps.nodes[lane][self.steps.first]
        if isinstance(slot, Fixed):
            name = self.numbering.names[slot.number]
            self._around += [name] if name else []
            return name
        if isinstance(slot, StepConstant):
            return self._step_constants(lane, i)
        if isinstance(slot, Taken):
            return self._taken(lane, i, slot)
        if not lane.delay(slot):
            return self._inside(slot.lane, slot.output)
        inner = self._inside(slot.lane, slot.output)
        key = slot.lane, slot.output, self.numbering.number(node.inputs[i])
        if key not in self._states:
            same = sum(known[:2] == key[:2] for known in self._states)
            self._states[key] = f"{inner}/before{same or ''}"
            self._kinds[self._states[key]] = self._type(slot.lane, slot.output)
        return self._states[key]

    def _type(self, lane: Lane, output: int) -> ValueType:
        return self.graph.type_of(self.steps.nodes[lane][self.steps.first].outputs[output])

    def _step_constants(self, lane: Lane, slot: int) -> str:
        every = range(self.steps.first, self.steps.last + 1)
        names = tuple(self.steps.nodes[lane][step].inputs[slot] for step in every)
        if names not in self._sequences:
            outside, inside = f"{self.cell.name}/{names[0]}", f"{names[0]}/each"
            rows = np.stack([self.graph.constants[name] for name in names])
            self.graph.constants[outside] = rows
            self._sequences[names] = inside, outside, 0, False
            self._kinds[inside] = ValueType(rows.dtype, rows.shape[1:])
        return self._sequences[names][0]

    def _taken(self, lane: Lane, i: int, slot: Taken) -> str:
        first = self.steps.index(lane, slot, self.steps.first)
        start = self.steps.nodes[lane][self.steps.first].inputs[i]
        if Read(slot.source, slot.axis, first, slot.kept) in self.numbering.at:
            start = ""
        key = slot.source, slot.axis, slot.kept, first, slot.stride, start
        if key not in self._sequences:
            second = self.numbering.at[Read(slot.source, slot.axis, first + slot.stride, slot.kept)]
            value = self.numbering.names[second]
            inside, kind = f"{value}/each{' shifted' if start else ''}", self.graph.type_of(value)
            self._sequences[key] = (inside, *self._sequence(slot, first, start))
            self._kinds[inside] = kind
            if slot.kept:
                self._kinds[f"{inside}/kept"] = kind
                shape = kind.shape and (*kind.shape[: slot.axis], *kind.shape[slot.axis + 1 :])
                self._kinds[inside] = ValueType(kind.dtype, shape)
                self._body.append(self._unsqueezed(inside, f"{inside}/kept", slot.axis).proto)
        inside = self._sequences[key][0]
        return f"{inside}/kept" if slot.kept else inside

    def _unsqueezed(self, name: str, result: str, axis: int) -> Node:
        if self.opset < AXES_ARE_OPERANDS:
            return make("Unsqueeze", [name], [result], self.opset, result, axes=[axis])
        axes = f"{self.cell.name}/axis/{axis}"
        self.graph.constants[axes] = np.array([axis])
        return make("Unsqueeze", [name, axes], [result], self.opset, result)

    def _sequence(self, slot: Taken, first: int, start: str) -> tuple[str, int, bool]:
        """Returns the sequence that steps are taken from, its axis, and whether the last step comes first. start: what
        the first step reads instead, if it is not a part of the sequence.
        """
        name, count, axis = self.numbering.names[slot.source], self.steps.count, slot.axis
        shape = self.graph.type_of(name).shape
        if not start and shape and shape[axis] == count and first == (0 if slot.stride > 0 else count - 1):
            return name, axis, slot.stride < 0
        positions = np.arange(first, first + slot.stride * count, slot.stride)[bool(start) :]
        part = f"{self.cell.name}/{name}/{first}"
        self.graph.constants[f"{part}/positions"] = positions
        self._add([name, f"{part}/positions"], part, "Gather", axis, name, len(positions))
        if not start:
            return part, axis, False
        self._before.append(self._unsqueezed(start, f"{part}/start", axis))
        self.graph.types[f"{part}/start"] = self._with_extent(name, axis, 1)
        self._add([f"{part}/start", part], f"{part}/whole", "Concat", axis, name, count)
        return f"{part}/whole", axis, False

    def _add(self, inputs: list[str], output: str, op: str, axis: int, like: str, extent: int) -> None:
        self._before.append(make(op, inputs, [output], self.opset, output, axis=axis))
        self.graph.types[output] = self._with_extent(like, axis, extent)

    def _with_extent(self, like: str, axis: int, extent: int) -> ValueType:
        kind = self.graph.type_of(like)
        if kind.shape is None:
            return kind
        return ValueType(kind.dtype, (*kind.shape[:axis], extent, *kind.shape[axis + 1 :]))

    # --- what the rest of the graph reads -----------------------------------------------------------------------------

    def stack(self, wanted: Stack) -> str:
        """Returns the name of an output over all steps."""
        if wanted not in self._stacks:
            name = self.numbering.names[self.cell.sequences[wanted.lane, wanted.output]]
            if wanted.axis or wanted.backwards:
                name += f"/axis {wanted.axis}{', backwards' if wanted.backwards else ''}"
            self._stacks[wanted] = name
            self.graph.types[name] = self._stacked_type(wanted)
        return self._stacks[wanted]

    def _stacked_type(self, stack: Stack) -> ValueType:
        kind = self._type(stack.lane, stack.output)
        if kind.shape is None:
            return kind
        return ValueType(kind.dtype, (*kind.shape[: stack.axis], self.steps.count, *kind.shape[stack.axis :]))

    def give(self, name: str, lane: Lane, output: int, step: int) -> None:
        """Makes the value of one step known as `name`."""
        is_state = any(known[:2] == (lane, output) for known in self._states)
        if step == self.steps.last and is_state and (lane, output) not in self._lasts:
            self._lasts[lane, output] = name
            return
        stacked, position = self.stack(Stack(lane, output)), f"{self.cell.name}/position/{step - self.steps.first}"
        self.graph.constants[position] = np.array(step - self.steps.first)
        self._after.append(make("Gather", [stacked, position], [name], self.opset, f"{self.cell.name}/{name}", axis=0))

    def nodes(self) -> list[Node]:
        """Returns the nodes that replace the cell."""
        exits, finals = list[str](), list[str]()
        for lane, output, first in self._states:
            exits.append(self._inside(lane, output))
            last = self._lasts.pop((lane, output), None)
            finals.append(last or f"{self.cell.name}/last/{self._states[lane, output, first]}")
        returned = [self._inside(stack.lane, stack.output) for stack in self._stacks]
        results = list[str]()
        for name in (*exits, *returned):
            if name in results:
                copy = f"{name}/copy {len(results)}"
                self._body.append(helper.make_node("Identity", [name], [copy], name=copy))
                self._kinds[copy] = self._kinds.get(name, UNKNOWN)
                name = copy
            results.append(name)
        entries = [*self._states.values(), *(inside for inside, *_ in self._sequences.values())]
        body = helper.make_graph(
            self._body,
            "cell",
            [self._info(name) for name in entries],
            [self._info(name) for name in results],
            value_info=[self._info(name) for name in self._kinds if name not in {*entries, *results}],
        )
        proto = helper.make_node(
            "Scan",
            [*self._firsts, *(outside for _, outside, _, _ in self._sequences.values())],
            [*finals, *self._stacks.values()],
            name=self.cell.name,
            body=body,
            num_scan_inputs=len(self._sequences),
            scan_input_axes=[axis for _, _, axis, _ in self._sequences.values()],
            scan_input_directions=[int(backwards) for *_, backwards in self._sequences.values()],
        )
        if self._stacks:
            axes, directions = [s.axis for s in self._stacks], [int(s.backwards) for s in self._stacks]
            proto.attribute.append(helper.make_attribute("scan_output_axes", axes))
            proto.attribute.append(helper.make_attribute("scan_output_directions", directions))
        for (lane, output, _), name in zip(self._states, finals, strict=True):
            self.graph.types.setdefault(name, self._type(lane, output))
        return [*self._before, node_of(self.graph, proto), *self._after]
