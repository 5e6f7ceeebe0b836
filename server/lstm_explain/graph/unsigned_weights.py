# SPDX-License-Identifier: Apache-2.0
"""Converts signed byte weights that a body of If, Loop or Scan reads from an enclosing graph to unsigned bytes.

On processors without VNNI, ONNX Runtime's sums of unsigned times signed bytes saturate. The option that makes such
weights unsigned (`session_options`) covers only weights in the operator's own graph; this module covers the others.
Levels and their zero points both move by 128, so that products stay the same.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from lstm_explain.graph.protos import bodies_of

# For each operator, pairs of slots: weights and their zero points.
WEIGHTS = {
    "DynamicQuantizeLSTM": ((1, 9), (2, 11)),
    "DynamicQuantizeMatMul": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "MatMulIntegerToFloat": ((1, 5),),
    "QGemm": ((3, 5),),
    "QLinearConv": ((3, 5),),
    "QLinearMatMul": ((3, 5),),
}


@dataclass(frozen=True, eq=False)
class _Constant:
    graph: GraphProto
    tensor: TensorProto


@dataclass(frozen=True, eq=False)
class _Weights:
    """slots: of the levels and of their zero point. levels, zero: the constants there; without a zero point, it is
    0.
    """

    node: NodeProto
    slots: tuple[int, int]
    levels: _Constant
    zero: _Constant | None


def reads_signed_weights(model: ModelProto) -> bool:
    """Returns whether a body reads such weights, or their zero point, from an enclosing graph."""
    return next(_found(model.graph, ChainMap()), None) is not None


def make_weights_unsigned(model: ModelProto) -> None:
    """Converts the weights of the model in place."""
    # New names by the identity of a tensor, which `found` keeps alive; key 0 stands for an absent zero point.
    names: dict[int, str] = {}
    found = list(_found(model.graph, ChainMap()))
    for weights in found:
        node, (levels, zero) = weights.node, weights.slots
        node.input.extend([""] * (zero + 1 - len(node.input)))
        node.input[levels] = _unsigned(weights.levels, names)
        node.input[zero] = _unsigned(weights.zero, names) if weights.zero else _shift(model.graph, names)


def _found(graph: GraphProto, outer: ChainMap[str, _Constant]) -> Iterator[_Weights]:
    overridable = {value.name for value in graph.input}  # A caller may override these.
    signed = [t for t in graph.initializer if t.data_type == TensorProto.INT8 and t.name not in overridable]
    seen = outer.new_child({t.name: _Constant(graph, t) for t in signed})
    for node in graph.node:
        for levels, zero in WEIGHTS.get(node.op_type, ()):
            name, shift = (node.input[slot] if slot < len(node.input) else "" for slot in (levels, zero))
            if (name in outer or shift in outer) and name in seen and (not shift or shift in seen):
                yield _Weights(node, (levels, zero), seen[name], seen[shift] if shift else None)
        for body in bodies_of(node):
            yield from _found(body, seen)


def _unsigned(constant: _Constant, names: dict[int, str]) -> str:
    tensor = constant.tensor
    if id(tensor) not in names:
        names[id(tensor)] = f"{tensor.name}/unsigned"
        levels = numpy_helper.to_array(tensor).view(np.uint8) ^ np.uint8(128)
        constant.graph.initializer.append(numpy_helper.from_array(levels, names[id(tensor)]))
    return names[id(tensor)]


def _shift(graph: GraphProto, names: dict[int, str]) -> str:
    """Returns the zero point of unsigned levels whose signed counterparts had none."""
    if 0 not in names:
        names[0] = "zero/unsigned"
        graph.initializer.append(numpy_helper.from_array(np.array(128, np.uint8), names[0]))
    return names[0]
