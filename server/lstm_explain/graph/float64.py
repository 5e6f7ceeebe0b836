# SPDX-License-Identifier: Apache-2.0
"""Converts a graph to float64. Operators that ONNX Runtime implements in float32 only run between casts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lstm_explain.graph.im2col import convolution_as_im2col
from lstm_explain.graph.ir import Array, Graph, Node, ValueType
from lstm_explain.graph.node_editing import make, renamed
from lstm_explain.graph.protos import copy_of
from lstm_explain.graph.recurrent_operands import CELLS
from lstm_explain.graph.session import session_of

SINGLE = (TensorProto.FLOAT, TensorProto.FLOAT16)


def to_float64(graph: Graph, *, im2col: bool = True) -> Graph:
    """Converts constants, types, and casts to float32 or float16, in bodies too.

    im2col: padded convolutions become matrix products over their windows, as convolutions without padding do. Such a
    product counts padding as units, which matters for a bias_factor other than 0; with False, they stay in float32
    between casts.
    """
    converted = replace(
        graph,
        constants={name: _array_to_float64(a) for name, a in graph.constants.items()},
        types={name: _type_to_float64(t) for name, t in graph.types.items()},
    )
    if graph.repeats is not None:
        written = graph.repeats.written
        converted.repeats = replace(graph.repeats, written=lambda: to_float64(written(), im2col=im2col))
    converted.nodes = [n for node in graph.nodes for n in _converted_nodes(converted, node, im2col=im2col)]
    return converted


def _converted_nodes(graph: Graph, node: Node, *, im2col: bool) -> list[Node]:
    """Returns the nodes that replace `node` in the graph, which is already float64."""
    own = _node_to_float64(node, im2col=im2col)
    if node.op in CELLS or node.bodies or _is_supported(graph, own):
        return [own]
    windows = (
        convolution_as_im2col(graph, own) if node.opset >= 11 and (im2col or not _pads(node)) else None
    )  # Before opset 11, Pad and Slice took attributes.
    return windows or _in_single(graph, node)


def _pads(node: Node) -> bool:
    return any(node.attribute("pads") or [])


def _is_supported(graph: Graph, node: Node) -> bool:
    inputs = [name for name in node.inputs if name and name not in graph.constants]
    try:
        session_of(graph, [node], inputs, [o for o in node.outputs if o], optimise=False)
    except Exception:  # ONNX Runtime's exception types are not public.
        return False
    return True


def _in_single(graph: Graph, node: Node) -> list[Node]:
    """Returns the original node between casts. The only loss is rounding."""
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


def _array_to_float64(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype in (np.float32, np.float16) else array


def _type_to_float64(kind: ValueType) -> ValueType:
    return replace(kind, dtype=np.dtype(np.float64)) if kind.dtype in (np.float32, np.float16) else kind


def _node_to_float64(node: Node, *, im2col: bool) -> Node:
    proto = _proto_to_float64(node.proto)
    attributes = {k: _array_to_float64(v) if isinstance(v, np.ndarray) else v for k, v in node.attributes.items()}
    bodies = {name: to_float64(body, im2col=im2col) for name, body in node.bodies.items()}
    return replace(node, proto=proto, attributes=attributes, bodies=bodies)


def _proto_to_float64(node: NodeProto) -> NodeProto:
    copy = copy_of(node)
    for attribute in copy.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in SINGLE:
            attribute.i = TensorProto.DOUBLE
        elif attribute.HasField("t") and attribute.t.data_type in SINGLE:
            attribute.t.CopyFrom(
                numpy_helper.from_array(_array_to_float64(numpy_helper.to_array(attribute.t)), attribute.t.name)
            )
        elif attribute.HasField("g"):
            _convert_body(attribute.g)
    if copy.op_type == "ConstantOfShape" and not copy.attribute:  # The default value is a float32 zero.
        copy.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
    return copy


def _convert_body(body) -> None:  # type: ignore[no-untyped-def]  # GraphProto, which mypy does not see.
    nodes = [_proto_to_float64(n) for n in body.node]
    del body.node[:]
    body.node.extend(nodes)
    for tensor in body.initializer:
        if tensor.data_type in SINGLE:
            tensor.CopyFrom(numpy_helper.from_array(_array_to_float64(numpy_helper.to_array(tensor)), tensor.name))
    for value in (*body.input, *body.output, *body.value_info):
        if value.type.tensor_type.elem_type in SINGLE:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
