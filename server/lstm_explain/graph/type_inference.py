# SPDX-License-Identifier: Apache-2.0
"""Infers the types of a graph again with ONNX, after operators were rewritten and constants folded."""

from __future__ import annotations

from onnx import ModelProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Graph, ValueType, graph_proto_values, value_type
from lstm_explain.graph.read import CRASHES, infer
from lstm_explain.graph.sandbox import survives
from lstm_explain.graph.session import part_of, value_info

RUNTIME_DOMAIN = "com.microsoft::"
MAX_ELEMENTS = 64  # elements of a constant whose values may be a shape


def try_inference(graph: Graph) -> None:
    """Raises ModelError where ONNX Runtime, which runs the same inference, would end this process."""
    if not survives(_model(graph).SerializeToString()):
        raise ModelError(CRASHES)
    for node in graph.nodes:
        for body in node.bodies.values():
            try_inference(body)


def infer_new_types(graph: Graph) -> bool:
    """Adds types that were unknown because of ONNX Runtime's own operators in between. Returns whether any were
    added.
    """
    outputs = [o for n in graph.nodes for o in n.outputs if o]
    before = sum(_is_known(graph, name) for name in outputs)
    if before == len(outputs):
        return False
    for node in graph.nodes:  # Operators of ONNX Runtime that remain are elementwise.
        if node.op.startswith(RUNTIME_DOMAIN) and not _is_known(graph, node.outputs[0]):
            graph.types[node.outputs[0]] = graph.type_of(node.inputs[0])
    try:
        model = _model(graph)
    except Exception:  # ONNX has no name for one of the types.
        return False
    inferred = [name for name in outputs if _is_known(graph, name) and name not in graph.outputs]
    model.graph.value_info.extend(value_info(graph, name) for name in inferred)
    if not survives(model.SerializeToString()):
        raise ModelError(CRASHES)
    for value in graph_proto_values(infer(model).graph):
        kind = value_type(value.type)
        if not _is_known(graph, value.name) and kind.dtype is not None:
            graph.types[value.name] = ValueType(kind.dtype, kind.shape)
    return sum(_is_known(graph, name) for name in outputs) > before


def _model(graph: Graph) -> ModelProto:
    """Returns the graph as a model, without the values of large constants, which do not determine shapes."""
    large = [name for name, array in graph.constants.items() if array.size > MAX_ELEMENTS]
    inputs = [name for name in (*graph.inputs, *graph.captured) if name not in graph.constants]
    return part_of(graph, graph.nodes, [*inputs, *large], graph.outputs)


def _is_known(graph: Graph, name: str) -> bool:
    kind = graph.type_of(name)
    return kind.dtype is not None and kind.shape is not None
