"""Spells layers out in primitives, as exporters that do not know them write them: normalisation above all.

So fused and decomposed graphs are explained alike by construction. New nodes and values are named after the node that
they stand for: `norm/Div` stands for a part of `norm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, helper

from lstm_explain.graph import fused_operators, quantised, sklearn_pipelines, spectra
from lstm_explain.graph.ir import Graph, Node, ValueType
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.node_writer import Spelling
from lstm_explain.graph.pattern_recognition import recognised
from lstm_explain.graph.tensor_sequences import without_sequences
from lstm_explain.graph.type_inference import learned


def _trailing(s: Spelling) -> list[int] | None:
    """The axes from `axis` to the last, counted from the back; None where the rank is not known."""
    axis, rank = s.node.attribute("axis", -1), s.graph.type_of(s.node.inputs[0]).rank
    if axis >= 0 and rank is None:
        return None
    return list(range(axis if axis < 0 else axis - (rank or 0), 0))


def _single(s: Spelling) -> tuple[str, np.dtype[Any] | None]:
    """The input as it is computed with, float32 at least unless the node says otherwise, and its own type."""
    x = s.node.inputs[0]
    dtype = s.graph.type_of(x).dtype
    half = dtype == np.float16 and s.node.attribute("stash_type", 1) == 1
    return (s.cast(x, np.dtype(np.float32)) if half else x), dtype


def _output(node: Node, slot: int) -> str:
    return node.outputs[slot] if slot < len(node.outputs) else ""


def _layer_normalization(s: Spelling) -> bool:
    axes = _trailing(s)
    if axes is None:
        return False
    x, dtype = _single(s)
    centred = s.centred(x, axes, mean=_output(s.node, 1))
    deviation = s.root_mean_square(centred, axes, s.node.attribute("epsilon", 1e-5))
    if _output(s.node, 2):
        s.op("Reciprocal", deviation, output=_output(s.node, 2))
    s.scaled(s.cast(s.op("Div", centred, deviation), dtype), s.node.inputs[1], s.node.input(2), s.node.outputs[0])
    return True


def _rms_normalization(s: Spelling) -> bool:
    axes = _trailing(s)
    if axes is None:
        return False
    x, dtype = _single(s)
    size = s.root_mean_square(x, axes, s.node.attribute("epsilon", 1e-5))
    if _output(s.node, 1):
        s.op("Reciprocal", size, output=_output(s.node, 1))
    s.scaled(s.cast(s.op("Div", x, size), dtype), s.node.inputs[1], "", s.node.outputs[0])
    return True


def _instance_normalization(s: Spelling) -> bool:
    return _by_groups(s, s.node.inputs[0], 0)


def _group_normalization(s: Spelling) -> bool:
    return _by_groups(s, _single(s)[0], s.node.attribute("num_groups"))


def _by_groups(s: Spelling, x: str, groups: int) -> bool:
    """Each of so many groups of channels by itself (0: each channel), whatever the rank."""
    outer, scale, shift = s.node.inputs[:3]
    kind, shape = s.graph.type_of(outer), s.op("Shape", x, kind=ValueType(np.dtype(np.int64), (None,)))
    even = s.standardised(s.reshaped(x, [0, groups, -1]), [-1], s.node.attribute("epsilon", 1e-5))
    even = s.cast(even, kind.dtype)
    if groups and s.node.opset >= 21:  # scales by channel; before, by group
        even = s.reshaped(s.op("Reshape", even, shape, kind=kind), [0, 0, -1])
    flat = s.name("scaled")
    s.scaled(even, s.reshaped(scale, [-1, 1]), s.reshaped(shift, [-1, 1]), flat)
    s.op("Reshape", flat, shape, output=s.node.outputs[0], kind=kind)
    return True


def _mean_variance_normalization(s: Spelling) -> bool:
    x, axes = s.node.inputs[0], s.node.attribute("axes", [0, 2, 3])
    centred = s.centred(x, axes)
    deviation = s.op("Sqrt", s.reduced("ReduceMean", s.op("Mul", centred, centred), axes))
    s.op("Div", centred, s.op("Add", deviation, s.number(1e-9, x)), output=s.node.outputs[0])
    return True


def _lp_normalization(s: Spelling) -> bool:
    x, p = s.node.inputs[0], s.node.attribute("p", 2)
    norm = s.reduced("ReduceL1" if p == 1 else "ReduceL2", x, [s.node.attribute("axis", -1)])
    tiny = 6e-8 if s.graph.type_of(x).dtype == np.float16 else 1e-30
    s.op("Div", x, s.op("Add", norm, s.number(tiny, x)), output=s.node.outputs[0])  # a vector of zeros stays one
    return True


def _gemm(s: Spelling) -> bool:
    """With two operands that are no constants: a product, which the rules know as MatMul. With a third that is no
    constant either (the other half of a cell's pre-activations, which an exporter fuses): a product and a sum.
    """
    if any(name in s.graph.constants for name in s.node.inputs[:2]):
        return _gemm_and_add(s)
    matrix = ValueType(s.graph.type_of(s.node.outputs[0]).dtype, (None, None))
    sides = []
    for name, attribute in zip(s.node.inputs, ("transA", "transB"), strict=False):
        sides.append(s.op("Transpose", name, kind=matrix, perm=[1, 0]) if s.node.attribute(attribute, 0) else name)
    shift, alpha, beta = s.node.input(2), s.node.attribute("alpha", 1.0), s.node.attribute("beta", 1.0)
    product = s.op("MatMul", *sides, kind=matrix)
    if shift and beta != 1:
        shift = s.op("Mul", shift, s.number(beta, shift))
    s.scaled(product, s.number(alpha, product), shift, s.node.outputs[0])
    return True


def _gemm_and_add(s: Spelling) -> bool:
    term, beta = s.node.input(2), s.node.attribute("beta", 1.0)
    if not term or term in s.graph.constants:
        return False
    kept = {name: value for name, value in s.node.attributes.items() if name != "beta"}
    operands = list(s.node.inputs[:2])
    if s.node.opset < 11:  # the third operand is not optional
        operands.append(s.constant(np.zeros(1, s.graph.type_of(s.node.outputs[0]).dtype or np.float32)))
    product = s.op("Gemm", *operands, kind=s.graph.type_of(s.node.outputs[0]), **kept)
    if beta != 1:
        term = s.op("Mul", term, s.number(beta, term))
    s.op("Add", product, term, output=s.node.outputs[0])
    return True


def _dropout(s: Spelling) -> bool:
    """Without the switch for training where that is off for good; where it is on there is no rule."""
    training = s.graph.constants.get(s.node.input(2))
    if training is None or training.any():
        return False
    s.nodes.append(make("Dropout", s.node.inputs[:1], s.node.outputs, s.node.opset, s.node.name))
    return True


# Writes the node in primitives, or tells that what it takes is not known.
SPELLINGS: dict[str, Callable[[Spelling], bool]] = {
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "SimplifiedLayerNormalization": _rms_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "LpNormalization": _lp_normalization,
    "Gemm": _gemm,
    "Dropout": _dropout,
    **fused_operators.SPELLINGS,
    **quantised.SPELLINGS,
    **spectra.SPELLINGS,
    **sklearn_pipelines.SPELLINGS,
}


def canonical(graph: Graph) -> Graph:
    """The same graph, its bodies too, in the operators that the rules know."""
    _rewrite(graph)
    while learned(graph):  # what was not known before may be what a spelling takes
        _rewrite(graph)
    for node in graph.nodes:
        for body in node.bodies.values():
            body.types |= {name: graph.type_of(name) for name in body.captured}
            canonical(body)
    return graph


def _rewrite(graph: Graph) -> None:
    nodes: list[Node] = []
    graph.nodes = without_sequences(graph)
    producers = graph.producers()
    for node in graph.nodes:
        spelled = _spelled(graph, node)
        nodes += [recognised(graph, producers, node)] if spelled is None else spelled
    graph.nodes = nodes


def _spelled(graph: Graph, node: Node) -> list[Node] | None:
    """What stands for the node, itself spelled out; None where the node stays."""
    write, spelling = SPELLINGS.get(node.op), Spelling(graph, node)
    if write is None or not write(spelling):
        return None
    return [n for part in spelling.nodes for n in ((part is not node and _spelled(graph, part)) or [part])]


# --- operators that ONNX itself defines by others --------------------------------------------------------------------

FUNCTIONS = {"Attention", "RotaryEmbedding", "CenterCropPad", "SwiGLU", "SequenceMap"}


def expanded(model: ModelProto) -> ModelProto:
    """The model with those operators replaced by their definitions; as it is, where there are none or none can be."""
    if not any(node.op_type in FUNCTIONS for node in _nodes(model.graph)):
        return model
    typed = ModelProto()
    typed.CopyFrom(model)  # the inliner asks for the types of initializers too
    known = {v.name for v in typed.graph.value_info}
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in typed.graph.initializer
        if t.name not in known
    )
    try:
        names = [("", name) for name in sorted(FUNCTIONS)]
        return onnx.inliner.inline_selected_functions(typed, names, inline_schema_functions=True)
    except Exception:  # the operator stays, and is reported where it is needed
        return model


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
