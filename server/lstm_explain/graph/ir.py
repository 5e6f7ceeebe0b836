# SPDX-License-Identifier: Apache-2.0
"""The engine's representation of a graph: nodes in topological order, constants as arrays, types by value name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, helper, numpy_helper

from lstm_explain.errors import ModelError

Array = npt.NDArray[Any]

# Keys of a node's metadata, for what a rewrite knows about a product: the slot of its gate, and the field of
# `methods.stabiliser.Stabiliser` that holds the beta of its sum.
GATE, STABILISER = "lstm_explain.gate", "lstm_explain.stabiliser"


@dataclass(frozen=True)
class ValueType:
    """An element type and a shape.

    An extent is a str where it is symbolic and None where it is unknown; a shape of None means that the rank is
    unknown.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int | str | None, ...] | None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        if self.shape is None or not all(isinstance(d, int) for d in self.shape):
            return None
        return tuple(d for d in self.shape if isinstance(d, int))


UNKNOWN = ValueType(None, None)


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. `op` is its type, prefixed with the domain where that is not ONNX's own."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    proto: NodeProto = field(repr=False)
    bodies: Mapping[str, Graph] = field(default_factory=dict)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def input(self, slot: int) -> str:
        """Returns the name of the value in `slot`; empty where it is absent."""
        return self.inputs[slot] if slot < len(self.inputs) else ""

    def metadata(self, key: str) -> str:
        """Returns an entry of the node's metadata; empty where it has none."""
        return next((entry.value for entry in self.proto.metadata_props if entry.key == key), "")

    @property
    def captured(self) -> list[str]:
        """Values that the bodies read and the enclosing graph computes, in order of appearance."""
        if not self.bodies:
            return []
        return list(dict.fromkeys(name for body in self.bodies.values() for name in body.captured))


@dataclass(frozen=True)
class Repeats:
    """What a graph held before the repeats of its cells became Scans. nodes, values: names of those of single repeats.
    written: returns the graph as it was.
    """

    nodes: frozenset[str]
    values: frozenset[str]
    written: Callable[[], Graph]


@dataclass(eq=False)
class Around:
    """What lies around a body. graph: the enclosing graph. names: its values by the names that they have in the body:
    what the body captures, and sequences of which each step reads a part.
    """

    graph: Graph
    names: Mapping[str, str]

    @cached_property
    def producers(self) -> dict[str, Node]:
        return self.graph.producers()


@dataclass(eq=False)
class Graph:
    """A graph, or the body of a control-flow operator.

    inputs: values that the caller supplies. constants: initializers, Constant nodes and everything that could be
    folded. captured: for a body, the values of enclosing graphs that it reads. around: for a body that was entered
    (body_wiring.py), what lies around it.
    """

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Array]
    types: dict[str, ValueType]
    opsets: list[onnx.OperatorSetIdProto]
    ir_version: int
    captured: list[str] = field(default_factory=list)
    repeats: Repeats | None = None
    around: Around | None = None

    def type_of(self, value: str) -> ValueType:
        constant = self.constants.get(value)
        if constant is not None:
            return ValueType(constant.dtype, constant.shape)
        return self.types.get(value, UNKNOWN)

    def producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs if output}

    def all_nodes(self) -> Iterator[Node]:
        """Yields every node, including those of the bodies."""
        for node in self.nodes:
            yield node
            for body in node.bodies.values():
                yield from body.all_nodes()


def paths_of(graph: Graph, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields every node's name behind those of the nodes and bodies that it lies in, and by itself."""
    for node in graph.nodes:
        yield f"{prefix}{node.name}", node.name
        for name, body in node.bodies.items():
            yield from paths_of(body, f"{prefix}{node.name}/{name}/")


def dtype_of(elem_type: int) -> np.dtype[Any] | None:
    """Returns NumPy's type for an ONNX element type; None where NumPy has none."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, TypeError, ValueError):
        return None


def value_type(proto: onnx.TypeProto) -> ValueType:
    if not proto.HasField("tensor_type"):
        return UNKNOWN
    tensor = proto.tensor_type
    dtype = dtype_of(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return ValueType(dtype, None)
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        dims.append(int(dim.dim_value) if dim.HasField("dim_value") else (dim.dim_param or None))
    return ValueType(dtype, tuple(dims))


def node_from_proto(proto: NodeProto, name: str, opset: int, bodies: Mapping[str, Graph]) -> Node:
    if not all(isinstance(text, str) for text in (name, proto.op_type, *proto.input, *proto.output)):
        raise ModelError("a name in the model is not UTF-8")
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        if attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            attributes[attribute.name] = _attribute_value(attribute)
    op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}::{proto.op_type}"
    # Scan of opset 8 is another operator, which runs over samples too.
    op = "Scan-8" if op == "Scan" and opset < 9 else op
    return Node(name, op, tuple(proto.input), tuple(proto.output), attributes, opset, proto, bodies)


def _attribute_value(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [v.decode("utf-8", "replace") for v in value]
    return value


def graph_proto_values(graph: GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
