"""The same graph in float64, but for operators that ONNX Runtime has in float32 only: those get casts around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lstm_explain.graph.im2col import convolutions_as_im2col
from lstm_explain.graph.ir import Array, Graph, Node, ValueType
from lstm_explain.graph.node_editing import make, renamed
from lstm_explain.graph.recurrent_operands import CELLS
from lstm_explain.graph.session import session_of

SINGLE = (TensorProto.FLOAT, TensorProto.FLOAT16)


def to_float64(graph: Graph, *, unfold: bool = True) -> Graph:
    """Constants, types and casts to float32 or float16 become float64, in bodies too.

    unfold: padded convolutions become matrix products over their windows, as others do. Those count padding as units,
    which a bias_factor other than 0 can tell; without, they stay in float32, between casts.
    """
    doubled = replace(
        graph,
        constants={name: _array(a) for name, a in graph.constants.items()},
        types={name: _type(t) for name, t in graph.types.items()},
    )
    doubled.nodes = [n for node in graph.nodes for n in _nodes(doubled, node, unfold=unfold)]
    return doubled


def _nodes(graph: Graph, node: Node, *, unfold: bool) -> list[Node]:
    """What takes the node's place in the graph that is already of float64."""
    own = _node(node, unfold=unfold)
    if node.op in CELLS or node.bodies or _runs(graph, own):
        return [own]
    windows = (
        convolutions_as_im2col(graph, own) if node.opset >= 11 and (unfold or not _pads(node)) else None
    )  # before, Pad and Slice took attributes
    return windows or _in_single(graph, node)


def _pads(node: Node) -> bool:
    return any(node.attribute("pads") or [])


def _runs(graph: Graph, node: Node) -> bool:
    inputs = [name for name in node.inputs if name and name not in graph.constants]
    try:
        session_of(graph, [node], inputs, [o for o in node.outputs if o], optimise=False)
    except Exception:  # ONNX Runtime's own types are not public
        return False
    return True


def _in_single(graph: Graph, node: Node) -> list[Node]:
    """The node as it was, between casts. Only rounding is lost."""
    nodes, names = [], {}
    for name in dict.fromkeys(n for n in node.inputs if n):
        if graph.type_of(name).dtype == np.float64:
            names[name] = f"{node.name}::single::{name}"
            if name in graph.constants:
                graph.constants[names[name]] = graph.constants[name].astype(np.float32)
            else:
                nodes.append(make("Cast", [name], [names[name]], node.opset, to=TensorProto.FLOAT))
                graph.types[names[name]] = replace(graph.type_of(name), dtype=np.dtype(np.float32))
    casts = []
    for name in node.outputs:
        if name and graph.type_of(name).dtype == np.float64:
            names[name] = f"{node.name}::single::{name}"
            graph.types[names[name]] = replace(graph.type_of(name), dtype=np.dtype(np.float32))
            casts.append(make("Cast", [names[name]], [name], node.opset, to=TensorProto.DOUBLE))
    proto = renamed(node.proto, names, "")
    return [*nodes, replace(node, inputs=tuple(proto.input), outputs=tuple(proto.output), proto=proto), *casts]


def _array(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype in (np.float32, np.float16) else array


def _type(kind: ValueType) -> ValueType:
    return replace(kind, dtype=np.dtype(np.float64)) if kind.dtype in (np.float32, np.float16) else kind


def _node(node: Node, *, unfold: bool) -> Node:
    proto = _proto(node.proto)
    attributes = {k: _array(v) if isinstance(v, np.ndarray) else v for k, v in node.attributes.items()}
    bodies = {name: to_float64(body, unfold=unfold) for name, body in node.bodies.items()}
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
    if copy.op_type == "ConstantOfShape" and not copy.attribute:  # zeros of float32, where nothing is said
        copy.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
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
