# SPDX-License-Identifier: Apache-2.0
"""Walks the protobuf messages of a model: its graphs, nodes and tensors, including those of bodies and functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

LARGE = 1 << 16  # bytes
STANDARD_DOMAINS = ("", "ai.onnx")

Message = TypeVar("Message", bound=Any)  # a protobuf message; mypy does not see their base class


def copy_of(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def is_standard(node: NodeProto) -> bool:
    """Returns whether the operator is one of ONNX's own."""
    return node.domain in STANDARD_DOMAINS


def label_of(node: NodeProto) -> str:
    """Returns the name by which error messages refer to the node: its own, or else that of its first output."""
    return node.name or next(iter(node.output), "")


def bodies_of(node: NodeProto) -> list[GraphProto]:
    if not node.attribute:
        return []
    single = [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]
    return single + [g for a in node.attribute if a.type == AttributeProto.GRAPHS for g in a.graphs]


def rename_body(body: GraphProto, names: Mapping[str, str], prefix: str) -> None:
    """Renames what the body reads of the graph around it, and what it computes."""
    own = {o for node in body.node for o in node.output if o} | {v.name for v in body.input}
    own |= {t.name for t in body.initializer}
    inside = {**names, **{name: f"{prefix}{name}" for name in own}}
    for value in (*body.input, *body.output, *body.initializer):
        value.name = inside.get(value.name, value.name)
    for node in body.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
        for inner in bodies_of(node):
            rename_body(inner, inside, prefix)


def opset_of(model: ModelProto) -> int:
    """Returns the version of ONNX's own operators."""
    return next((opset.version for opset in model.opset_import if opset.domain in STANDARD_DOMAINS), 1)


def put_nodes(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Replaces the nodes of the graph. Some of them may be among `nodes`."""
    copies = [copy_of(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def graphs_of(model: ModelProto) -> Iterator[GraphProto]:
    waiting = [model.graph] + [body for f in model.functions for node in f.node for body in bodies_of(node)]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [body for node in graph.node for body in bodies_of(node)]


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    for function in model.functions:
        yield from function.node
    for graph in graphs_of(model):
        yield from graph.node


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    for graph in graphs_of(model):
        yield from graph.initializer
        yield from (part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices))
    for node in nodes_of(model):
        for attribute in node.attribute:
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def without_weights(model: ModelProto) -> bytes:
    """Returns the serialised model without the data of large tensors, which say nothing about shapes."""
    large = [(t, t.raw_data) for t in tensors_of(model) if len(t.raw_data) > LARGE]
    for tensor, _ in large:
        tensor.raw_data = b""
    try:
        return bytes(model.SerializeToString())
    finally:
        for tensor, data in large:
            tensor.raw_data = data
