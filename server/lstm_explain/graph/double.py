"""The same graph in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from lstm_explain.graph.ir import Array, Graph, Node, ValueType

SINGLE = (TensorProto.FLOAT, TensorProto.FLOAT16)


def double(graph: Graph) -> Graph:
    """Constants, types and casts to float32 or float16 become float64, in bodies too.

    Operators for which ONNX Runtime has no float64 kernel fail when a session is made.
    """
    return replace(
        graph,
        nodes=[_node(n) for n in graph.nodes],
        constants={name: _array(a) for name, a in graph.constants.items()},
        types={name: _type(t) for name, t in graph.types.items()},
    )


def _array(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype in (np.float32, np.float16) else array


def _type(kind: ValueType) -> ValueType:
    return replace(kind, dtype=np.dtype(np.float64)) if kind.dtype in (np.float32, np.float16) else kind


def _node(node: Node) -> Node:
    proto = _proto(node.proto)
    attributes = {k: _array(v) if isinstance(v, np.ndarray) else v for k, v in node.attributes.items()}
    bodies = {name: double(body) for name, body in node.bodies.items()}
    return replace(node, proto=proto, attributes=attributes, bodies=bodies)


def _proto(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in SINGLE:
            attribute.i = TensorProto.DOUBLE
        elif attribute.HasField("t") and attribute.t.data_type in SINGLE:
            attribute.t.CopyFrom(numpy_helper.from_array(_array(numpy_helper.to_array(attribute.t)), attribute.t.name))
        elif attribute.HasField("g"):
            _body(attribute.g)
    return copy


def _body(body) -> None:  # type: ignore[no-untyped-def]  # GraphProto, which mypy does not see
    nodes = [_proto(n) for n in body.node]
    del body.node[:]
    body.node.extend(nodes)
    for tensor in body.initializer:
        if tensor.data_type in SINGLE:
            tensor.CopyFrom(numpy_helper.from_array(_array(numpy_helper.to_array(tensor)), tensor.name))
    for value in (*body.input, *body.output, *body.value_info):
        if value.type.tensor_type.elem_type in SINGLE:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
