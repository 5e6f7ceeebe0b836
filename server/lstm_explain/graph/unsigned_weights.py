"""Weights of signed bytes that a body (of If, Loop or Scan) reads from around it, as unsigned bytes.

On processors without VNNI, ONNX Runtime's sums of unsigned times signed bytes saturate. The option that has it make
such weights unsigned (`session_options`) sees an operator's own graph only; this does the rest. Levels and their zero
point both move by 128, so that products stay what they are.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from lstm_explain.graph.protos import bodies_of

# By operator, the slots of weights and of their zero points.
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
    """levels, zero: slots of a node, and what is read there; no zero point is one of 0."""

    node: NodeProto
    slots: tuple[int, int]
    levels: _Constant
    zero: _Constant | None


def reads_signed_weights(model: ModelProto) -> bool:
    """Whether a body reads such weights, or their zero point, from around it."""
    return next(_found(model.graph, ChainMap()), None) is not None


def with_unsigned_weights(model: ModelProto) -> None:
    """Changes the model."""
    made: dict[int, str] = {}  # by the identity of a tensor, which `found` keeps alive; by 0 that of no tensor
    found = list(_found(model.graph, ChainMap()))
    for weights in found:
        node, (levels, zero) = weights.node, weights.slots
        node.input.extend([""] * (zero + 1 - len(node.input)))
        node.input[levels] = _unsigned(weights.levels, made)
        node.input[zero] = _unsigned(weights.zero, made) if weights.zero else _shift(model.graph, made)


def _found(graph: GraphProto, around: ChainMap[str, _Constant]) -> Iterator[_Weights]:
    given = {value.name for value in graph.input}  # which a caller may set otherwise
    signed = [t for t in graph.initializer if t.data_type == TensorProto.INT8 and t.name not in given]
    seen = around.new_child({t.name: _Constant(graph, t) for t in signed})
    for node in graph.node:
        for levels, zero in WEIGHTS.get(node.op_type, ()):
            name, shift = (node.input[slot] if slot < len(node.input) else "" for slot in (levels, zero))
            if (name in around or shift in around) and name in seen and (not shift or shift in seen):
                yield _Weights(node, (levels, zero), seen[name], seen[shift] if shift else None)
        for body in bodies_of(node):
            yield from _found(body, seen)


def _unsigned(constant: _Constant, made: dict[int, str]) -> str:
    tensor = constant.tensor
    if id(tensor) not in made:
        made[id(tensor)] = f"{tensor.name}/unsigned"
        levels = numpy_helper.to_array(tensor).view(np.uint8) ^ np.uint8(128)
        constant.graph.initializer.append(numpy_helper.from_array(levels, made[id(tensor)]))
    return made[id(tensor)]


def _shift(graph: GraphProto, made: dict[int, str]) -> str:
    """The zero point of unsigned levels whose signed ones had none."""
    if 0 not in made:
        made[0] = "zero/unsigned"
        graph.initializer.append(numpy_helper.from_array(np.array(128, np.uint8), made[0]))
    return made[0]
