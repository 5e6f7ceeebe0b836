# SPDX-License-Identifier: Apache-2.0
"""Runs ONNX's shape inference in time that is linear in the size of the model, not quadratic.

For each body of an If, Loop or Scan, ONNX copies a table of all values that are known around it. A model with many
bodies among many values is therefore inferred in pieces, each of which knows only what its own nodes read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from lstm_explain.graph.protos import bodies_of, copy_of
from lstm_explain.graph.topological_order import names_read

MAX_COPIED = 100_000  # names, for all bodies of a piece: 0.1 s
MAX_ELEMENTS = 1024  # elements of a constant whose values may determine shapes


def infer_shapes(model: ModelProto) -> ModelProto:
    """Returns the model with the types and shapes that ONNX can infer. Raises what ONNX raises.

    Where there are several pieces, the values of shapes that one piece computes are not known in the next.
    """
    pieces = list(_pieces(model.graph))
    if len(pieces) == 1:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    whole = copy_of(model)
    graph = whole.graph
    known = {v.name: v for v in (*graph.value_info, *graph.output, *graph.input)}
    initializers = {t.name: t for t in graph.initializer}
    del graph.node[:]
    for nodes in pieces:
        piece = _piece(model, nodes, known, initializers)
        inferred = onnx.shape_inference.infer_shapes(piece, data_prop=True).graph
        known |= {v.name: v for v in inferred.value_info if v.type.ByteSize()}
        graph.node.extend(inferred.node)
    ends = {v.name for v in (*graph.input, *graph.output)} | initializers.keys()
    for output in graph.output:
        output.CopyFrom(known[output.name])
    del graph.value_info[:]
    graph.value_info.extend(value for name, value in known.items() if name not in ends)
    return whole


def _pieces(graph: GraphProto) -> Iterator[Sequence[NodeProto]]:
    """Yields the nodes of the graph, in order, in consecutive groups."""
    nodes: list[NodeProto] = []
    names: set[str] = set()
    bodies = 0
    for node in graph.node:
        names.update(names_read(node), node.output)
        bodies += len(bodies_of(node))
        if nodes and bodies * len(names) > MAX_COPIED:
            yield nodes
            nodes, names, bodies = [], {*names_read(node), *node.output}, len(bodies_of(node))
        nodes.append(node)
    yield nodes


def _piece(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    known: dict[str, ValueInfoProto],
    initializers: dict[str, TensorProto],
) -> ModelProto:
    made = {name for node in nodes for name in node.output if name}
    read = dict.fromkeys(name for node in nodes for name in names_read(node) if name and name not in made)
    small = [name for name in read if name in initializers and math.prod(initializers[name].dims) <= MAX_ELEMENTS]
    graph = GraphProto(name="piece", node=nodes, initializer=[initializers[name] for name in small])
    for name in read.keys() - small:
        if name in initializers:
            tensor = initializers[name]
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        else:
            graph.input.append(known.get(name, ValueInfoProto(name=name)))
    graph.value_info.extend(known[name] for name in made if name in known)
    opsets, functions = model.opset_import, model.functions
    return ModelProto(ir_version=model.ir_version, opset_import=opsets, functions=functions, graph=graph)
