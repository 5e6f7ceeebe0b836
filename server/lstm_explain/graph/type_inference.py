"""What ONNX infers of types, once more: of the graph as it has become, operators spelled out, constants folded."""

from __future__ import annotations

from onnx import ModelProto

from lstm_explain.errors import ModelError
from lstm_explain.graph.ir import Graph, ValueType, graph_proto_values, value_type
from lstm_explain.graph.read import CRASHES, infer
from lstm_explain.graph.sandbox import survives
from lstm_explain.graph.session import part_of, value_info

OWN = "com.microsoft::"
MOST_ELEMENTS = 64  # of a constant whose values may be a shape


def try_inference(graph: Graph) -> None:
    """Raises ModelError where ONNX Runtime, which infers the same, would end this process."""
    if not survives(_model(graph).SerializeToString()):
        raise ModelError(CRASHES)
    for node in graph.nodes:
        for body in node.bodies.values():
            try_inference(body)


def learned(graph: Graph) -> bool:
    """Adds types that were not known because operators of ONNX Runtime's own stood in between; tells whether it did."""
    made = [o for n in graph.nodes for o in n.outputs if o]
    before = sum(_is_known(graph, name) for name in made)
    if before == len(made):
        return False
    for node in graph.nodes:  # those that stay work element by element
        if node.op.startswith(OWN) and not _is_known(graph, node.outputs[0]):
            graph.types[node.outputs[0]] = graph.type_of(node.inputs[0])
    try:
        model = _model(graph)
    except Exception:  # a type that ONNX has no name for: what is known has to do
        return False
    made_known = [name for name in made if _is_known(graph, name) and name not in graph.outputs]
    model.graph.value_info.extend(value_info(graph, name) for name in made_known)
    if not survives(model.SerializeToString()):
        raise ModelError(CRASHES)
    for value in graph_proto_values(infer(model).graph):
        kind = value_type(value.type)
        if not _is_known(graph, value.name) and kind.dtype is not None:
            graph.types[value.name] = ValueType(kind.dtype, kind.shape)
    return sum(_is_known(graph, name) for name in made) > before


def _model(graph: Graph) -> ModelProto:
    """Without large constants, which say nothing of shapes."""
    large = [name for name, array in graph.constants.items() if array.size > MOST_ELEMENTS]
    around = [name for name in (*graph.inputs, *graph.captured) if name not in graph.constants]
    return part_of(graph, graph.nodes, [*around, *large], graph.outputs)


def _is_known(graph: Graph, name: str) -> bool:
    kind = graph.type_of(name)
    return kind.dtype is not None and kind.shape is not None
