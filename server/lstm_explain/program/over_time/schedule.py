# SPDX-License-Identifier: Apache-2.0
"""Divides what one iteration computes into what all iterations can compute at once, and the loop that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lstm_explain.graph.ir import Array
from lstm_explain.graph.protos import STANDARD_DOMAINS, bodies_of, copy_of, rename_body
from lstm_explain.program.over_time.lifting import CannotLiftError, Lifting, Shape
from lstm_explain.tracing.graph_writer import captured_by

COUNT = "over_time/count"
FIRST_OPSET = 9
Type = tuple[np.dtype[np.generic], Shape]


@dataclass(frozen=True)
class Iteration:
    """One iteration as ONNX nodes.

    states: (what an iteration receives from the one that runs before it, what it hands on). outputs: further values,
    which all iterations return. inputs: what differs from iteration to iteration, apart from the states. around: what
    does not. received: the types of the states. backwards: whether the last iteration runs first.
    """

    nodes: Sequence[NodeProto]
    constants: Mapping[str, Array]
    states: Sequence[tuple[str, str]]
    outputs: Sequence[str]
    inputs: Mapping[str, Type]
    around: Mapping[str, Type]
    received: Mapping[str, Type]
    opsets: Sequence[onnx.OperatorSetIdProto]
    ir_version: int
    backwards: bool


@dataclass(frozen=True)
class Parts:
    """The nodes of an iteration. before: those that depend on no state. within: those that only a loop can compute.
    returned: the values of the loop that the rest reads. after: those that depend on states, and are computed once the
    values that the loop returns are known for all iterations.
    """

    before: list[NodeProto]
    within: list[NodeProto]
    returned: list[str]
    after: list[NodeProto]


def read_by(node: NodeProto) -> list[str]:
    """Returns the values that a node and its bodies read."""
    return [*(name for name in node.input if name), *(n for body in bodies_of(node) for n in captured_by(body))]


def needed(nodes: Sequence[NodeProto], wanted: set[str], known: set[str]) -> list[NodeProto]:
    """Returns the nodes without which the values cannot be computed from the known ones."""
    kept, wanted = list[NodeProto](), wanted - known
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(name for name in read_by(node) if name not in known)
    return kept[::-1]


def parts_of(iteration: Iteration, shapes: Mapping[str, Shape]) -> Parts:
    """Returns the smallest loop: the nodes between the states that an iteration receives and those that it hands on,
    the nodes that cannot be lifted, and whatever lies between these. What is needed besides is computed from the
    states of all iterations, even where the loop has computed it too: that is faster than to collect it.
    """
    outputs = set(iteration.outputs)
    received, handed_on = [before for before, _ in iteration.states], {after for _, after in iteration.states}
    nodes = needed(iteration.nodes, handed_on | outputs, set())
    stuck = {id(node) for node in _not_liftable(iteration, nodes, shapes)}
    depends, leads = set(received), set(handed_on)
    for node in nodes:
        if id(node) in stuck or depends.intersection(read_by(node)):
            depends.update(node.output)
    for node in reversed(nodes):
        if id(node) in stuck or leads.intersection(node.output):
            leads.update(read_by(node))
    before = [n for n in nodes if not depends.intersection(n.output)]
    within = [n for n in nodes if depends.intersection(n.output) and (leads.intersection(n.output) or id(n) in stuck)]
    known = {o for n in before for o in n.output} | set(received)
    known |= {o for n in within if id(n) in stuck for o in n.output}
    behind = [n for n in nodes if depends.intersection(n.output)]
    after = needed(behind, outputs, known)
    for name in received:  # what the loop has made of a state can be returned without a copy of it
        readers = [n for n in after if name in read_by(n)]
        if name not in outputs and len(readers) == 1 and any(readers[0] is n for n in within):
            known.update(readers[0].output)
            after = needed(behind, outputs, known)
    read = dict.fromkeys([*(name for node in after for name in read_by(node)), *iteration.outputs])
    made = {o for n in within for o in n.output} - {o for n in after for o in n.output}
    return Parts(before, within, [n for n in read if n in received or n in made], after)


def without_copies(iteration: Iteration) -> Iteration:
    """Returns the iteration without nodes that only rename a value."""
    same: dict[str, str] = {}
    nodes = []
    for node in iteration.nodes:
        if node.op_type == "Identity" and node.domain in STANDARD_DOMAINS:
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        elif same.keys() & read_by(node):
            nodes.append(_renamed(node, same))
        else:
            nodes.append(node)
    states = [(before, same.get(after, after)) for before, after in iteration.states]
    return replace(iteration, nodes=nodes, states=states, outputs=[same.get(n, n) for n in iteration.outputs])


def _not_liftable(iteration: Iteration, nodes: Sequence[NodeProto], shapes: Mapping[str, Shape]) -> list[NodeProto]:
    over_time = {*iteration.inputs, *(before for before, _ in iteration.states)}
    trial, found = Lifting(shapes, iteration.constants, over_time, COUNT), list[NodeProto]()
    for node in nodes:
        try:
            trial.lift(node)
        except CannotLiftError:
            found.append(node)
            over_time.update(node.output)
    return found


class Schedule:
    """All iterations as one model.

    Its inputs are those of the iteration (`inputs` over time, `around` as they are), `start::<state>` for every state,
    and `COUNT`. Its outputs are `last::<state>`, what the iteration that runs last hands on, and the outputs of the
    iteration over time, whose names are `results`. Raises CannotLiftError.
    """

    def __init__(self, iteration: Iteration) -> None:
        if any(o.domain in STANDARD_DOMAINS and o.version < FIRST_OPSET for o in iteration.opsets):
            raise CannotLiftError(f"opsets before {FIRST_OPSET} have another Scan")
        self.iteration = iteration = without_copies(iteration)
        self.types = _types(iteration)
        shapes = {name: shape for name, (_, shape) in self.types.items()}
        self.parts = parts_of(iteration, shapes)
        lifting = Lifting(shapes, iteration.constants, set(iteration.inputs), COUNT)
        for node in self.parts.before:
            lifting.lift(node)
        lifting.nodes += self._loop(lifting)
        lifting.over_time.update(self.parts.returned)
        for node in self.parts.after:
            lifting.lift(node)
        results, copies = [lifting.everywhere(name) for name in iteration.outputs], list[NodeProto]()
        made = {name for node in lifting.nodes for name in node.output}
        self.results = [name if name in made else f"copy::{name}" for name in results]
        for name in dict.fromkeys(name for name in results if name not in made):
            copies.append(helper.make_node("Identity", [name], [f"copy::{name}"]))
        self.model = self._model([*lifting.nodes, *copies], {**iteration.constants, **lifting.made})

    def _loop(self, lifting: Lifting) -> list[NodeProto]:
        iteration, states, parts = self.iteration, self.iteration.states, self.parts
        if not states and not parts.within:
            return []
        made = {name for node in parts.within for name in node.output}
        received = [before for before, _ in states]
        read = dict.fromkeys(name for node in parts.within for name in read_by(node))
        read |= dict.fromkeys(after for _, after in states)
        sequences = [name for name in read if name in lifting.over_time and name not in made and name not in received]
        if not sequences:  # a Scan counts its iterations by a sequence
            sequences = [lifting.everywhere(next(iter(iteration.inputs)))]
        inputs, sources = [*received, *sequences], [*(after for _, after in states), *parts.returned]
        inside = {name: f"within::{name}" for name in (*inputs, *made)}
        copies, outputs = list[NodeProto](), list[str]()
        for i, source in enumerate(sources):
            if source in made and source not in sources[:i]:
                outputs.append(inside[source])
            else:
                outputs.append(f"copy::{i}")
                copies.append(helper.make_node("Identity", [inside.get(source, source)], [f"copy::{i}"]))
        body = helper.make_graph(
            [*(_renamed(node, inside) for node in parts.within), *copies],
            "iteration",
            [self._info(name, inside[name], 0) for name in inputs],
            [self._info(source, output, 0) for source, output in zip(sources, outputs, strict=True)],
        )
        directions: dict[str, list[int]] = {}
        if iteration.backwards:
            directions["scan_input_directions"] = [1] * len(sequences)
            directions |= {"scan_output_directions": [1] * len(parts.returned)} if parts.returned else {}
        starts, lasts = ([f"{end}::{name}" for name in received] for end in ("start", "last"))
        node = helper.make_node(
            "Scan",
            [*starts, *sequences],
            [*lasts, *parts.returned],
            name="loop",
            body=body,
            num_scan_inputs=len(sequences),
            **directions,
        )
        return [node]

    def _model(self, nodes: list[NodeProto], constants: Mapping[str, Array]) -> onnx.ModelProto:
        read = {name for node in nodes for name in read_by(node)}
        iteration, states = self.iteration, [before for before, _ in self.iteration.states]
        self.inputs = [name for name in iteration.inputs if name in read]
        self.around = [name for name in iteration.around if name in read]
        outputs = dict.fromkeys([*(f"last::{name}" for name in states), *self.results])
        graph = helper.make_graph(
            nodes,
            "over_time",
            [
                *(self._info(name, name, 1) for name in self.inputs),
                *(self._info(name, name, 0) for name in self.around),
                *(self._info(name, f"start::{name}", 0) for name in states),
                helper.make_tensor_value_info(COUNT, TensorProto.INT64, [1]),
            ],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items() if name in read],
        )
        return helper.make_model(graph, opset_imports=iteration.opsets, ir_version=iteration.ir_version)

    def _info(self, name: str, new: str, axes_in_front: int) -> onnx.ValueInfoProto:
        if name not in self.types:
            return helper.make_empty_tensor_value_info(new)
        dtype, shape = self.types[name]
        return helper.make_tensor_value_info(
            new, helper.np_dtype_to_tensor_dtype(dtype), [None] * axes_in_front + list(shape)
        )


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    copy = copy_of(node)
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    for body in bodies_of(copy):
        rename_body(body, names, "within::")
    return copy


def _types(iteration: Iteration) -> dict[str, Type]:
    """Returns the type and shape of the values of one iteration, as far as they can be inferred."""
    given = {**iteration.inputs, **iteration.around, **iteration.received}
    graph = helper.make_graph(
        list(iteration.nodes),
        "iteration",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
            for name, (dtype, shape) in given.items()
        ],
        [],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in iteration.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=iteration.opsets, ir_version=iteration.ir_version)
    found = dict(given)
    found |= {name: (np.asarray(a).dtype, np.asarray(a).shape) for name, a in iteration.constants.items()}
    for value in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
            found[value.name] = dtype, tuple(d.dim_value for d in kind.shape.dim)
    return found
