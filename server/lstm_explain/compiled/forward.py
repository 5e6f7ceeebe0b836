# SPDX-License-Identifier: Apache-2.0
"""The forward part of a compiled file: the model's own nodes, and those that compute what the way back reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, version_converter

from lstm_explain.compiled.loops import recorded, saved_values, with_saved_values
from lstm_explain.compiled.recurrent_nodes import Operands
from lstm_explain.errors import ModelError, UnsupportedOperator
from lstm_explain.graph.ir import Array, Graph, Node
from lstm_explain.graph.protos import bodies_of, copy_of, is_standard, opset_of, rename_body
from lstm_explain.graph.session import part_of, runtime_message
from lstm_explain.operators import Kind
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.tape import Tape
from lstm_explain.program.compile import Segment
from lstm_explain.program.passes import ForwardPass, Iterations
from lstm_explain.program.program import Program
from lstm_explain.tracing.arrays import Trace, Traced
from lstm_explain.tracing.graph_writer import GraphWriter

OTHER_BRANCH = "cannot be compiled: which branch it takes depends on the input's numbers or lengths"


@dataclass(frozen=True)
class Forward:
    """The nodes and initializers of the forward part."""

    nodes: list[onnx.NodeProto]
    initializers: list[TensorProto]


def forward_part(program: Program, passes: Sequence[ForwardPass], opset: int) -> Forward:
    """Returns the nodes of the plan in the given version of ONNX's operators. passes: those on the examples. Raises
    ModelError and UnsupportedOperator.
    """
    graph = program.plan.graph
    nodes, constants = _nodes_of(program, passes)
    outputs = dict.fromkeys([*graph.outputs, *(o for n in nodes for o in n.outputs if o)])
    whole = onnx.ModelProto()
    whole.CopyFrom(part_of(_extended(graph, constants), nodes, graph.inputs, outputs))
    converted = _converted(whole, opset)
    return Forward(list(converted.graph.node), list(converted.graph.initializer))


def _nodes_of(program: Program, passes: Sequence[ForwardPass]) -> tuple[list[Node], dict[str, Array]]:
    nodes, constants = list[Node](), dict[str, Array]()
    for step in program.plan.steps:
        if isinstance(step, Segment):
            nodes += step.nodes
            constants |= step.constants
        elif step.kind is Kind.RECURRENT:
            nodes.append(_with_hidden_states(step.node))
        elif step.node.op == "If":
            name, inner = branch_of(step.node, passes)
            more, others = _nodes_of(program.bodies[step.node.name][name], inner)
            made = {o for n in nodes for o in n.outputs}
            nodes += [_apart(step.node), *(n for n in more if not made.issuperset(n.outputs))]
            constants |= others
        else:
            body = program.bodies[step.node.name]["body"]
            record = passes[0].tapes[step.node.name]
            if not record.passes:
                raise UnsupportedOperator(step.node.name, step.node.op, "cannot be compiled: it runs no iteration")
            nodes.append(with_saved_values(step.node, body, saved_values(body, record)))
    return nodes, constants


def _apart(node: Node) -> Node:
    """Returns an If whose branches have names of their own, since the nodes of one of them are written beside it
    too.
    """
    proto = copy_of(node.proto)
    for body in bodies_of(proto):
        rename_body(body, {}, f"{node.name}/branch/")
    return replace(node, proto=proto)


def branch_of(node: Node, passes: Sequence[ForwardPass]) -> tuple[str, list[ForwardPass]]:
    """Returns the branch of an If that ran on the examples, and its passes. Raises UnsupportedOperator where they
    differ.
    """
    records = [p.tapes[node.name] for p in passes]
    if len({record.body for record in records}) > 1:
        raise UnsupportedOperator(node.name, node.op, OTHER_BRANCH)
    return records[0].body, [record.passes[0] for record in records]


def copied(writer: GraphWriter, forward: Forward, prefix: str, given: Mapping[str, str]) -> Rename:
    """Writes the nodes once more, into the innermost graph that is open, for other inputs. given: by input, the value
    that takes its place. Returns the names of the copies.
    """
    made = {o for node in forward.nodes for o in node.output if o}
    names = {**{name: f"{prefix}{name}" for name in made}, **given}
    nodes = []
    for node in forward.nodes:
        copy = copy_of(node)
        copy.name = f"{prefix}{node.name}" if node.name else ""
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        for body in bodies_of(copy):
            rename_body(body, names, prefix)
        nodes.append(copy)
    writer.add(nodes)
    return lambda name: names.get(name, name)


def hidden_states(node: Node) -> str:
    """Returns the name of a recurrent node's output Y."""
    return node.outputs[0] or f"{node.name}::hidden"


def _with_hidden_states(node: Node) -> Node:
    if node.op not in ("LSTM", "GRU", "RNN") or node.outputs[0]:
        return node
    proto = copy_of(node.proto)
    proto.output[0] = hidden_states(node)
    return replace(node, proto=proto, outputs=tuple(proto.output))


def _extended(graph: Graph, constants: dict[str, Array]) -> Graph:
    return replace(graph, constants={**graph.constants, **constants})


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if opset_of(model) == opset:
        return model
    for node in model.graph.node:
        if not is_standard(node):
            raise ModelError(f"node {node.name!r} ({node.domain}::{node.op_type}) is no operator of ONNX's own")
    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the converter's own types are not public
        raise ModelError(f"the model cannot be converted to opset {opset}: {runtime_message(error)}") from error


def conditions_of(program: Program, passes: Sequence[ForwardPass]) -> dict[str, tuple[str, bool]]:
    """Returns the conditions of Ifs on the explained path: by name, that of the If, and the value on the examples. The
    file is right only where they hold.
    """
    found: dict[str, tuple[str, bool]] = {}
    for step in program.plan.steps:
        if not isinstance(step, Segment) and step.node.op == "If":
            name, inner = branch_of(step.node, passes)
            if step.node.inputs[0] not in program.plan.graph.constants:
                found[step.node.inputs[0]] = step.node.name, name == "then_branch"
            found |= conditions_of(program.bodies[step.node.name][name], inner)
    return found


Rename = Callable[[str], str]  # from the name of a value in the model to that in the file


def as_it_is(name: str) -> str:
    return name


def traced_pass(
    trace: Trace, program: Program, passes: Sequence[ForwardPass], rename: Rename = as_it_is
) -> ForwardPass:
    """Returns the forward passes on the examples as one pass over traced arrays."""
    values: dict[str, Any] = {
        name: Traced(trace, tuple(np.asarray(p.values[name]) for p in passes), rename(name))
        for name in passes[0].values
    }
    done = ForwardPass(values)
    for step in program.plan.steps:
        if isinstance(step, Segment):
            continue
        node = step.node
        if step.kind is Kind.RECURRENT:
            done.tapes[node.name] = _operands(trace, program, node, passes, values, rename)
        elif node.op != "If":
            records = [p.tapes[node.name] for p in passes]
            done.tapes[node.name] = recorded(trace, node, program.bodies[node.name]["body"], records, rename)
        else:
            name, inner = branch_of(node, passes)
            body = program.bodies[node.name][name]
            done.tapes[node.name] = Iterations(name, [traced_pass(trace, body, inner, rename)], 0)
    return done


def _operands(
    trace: Trace,
    program: Program,
    node: Node,
    passes: Sequence[ForwardPass],
    values: Mapping[str, Any],
    rename: Rename,
) -> Operands:
    """Returns what the way back through a recurrent node reads."""
    cell, constants = program.cells[node.name], program.plan.graph.constants
    inputs = {
        slot: trace.constant(constants[name]) if (name := node.inputs[slot]) in constants else values[name]
        for slot in cell.reads
    }
    hidden = tuple(_stacked(cell, p.tapes[node.name]) for p in passes)
    return Operands(inputs, Traced(trace, hidden, rename(hidden_states(node))))


def _stacked(cell: Recurrent, tapes: Sequence[Tape]) -> Array:
    y = np.stack([tape.hidden for tape in tapes], axis=1)
    return y.transpose(2, 0, 1, 3) if cell.batch_first else y
