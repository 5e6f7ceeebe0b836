# SPDX-License-Identifier: Apache-2.0
"""Rewrites layers such as normalisation in the primitive operators that exporters without such a layer write.

Fused and decomposed graphs are therefore explained alike. New nodes and values are named after the node that they
replace: `norm/Div` is a part of `norm`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.inliner
from onnx import ModelProto, helper

from lstm_explain.graph import fused_operators, linear_attention, quantised, sklearn_pipelines, spectra
from lstm_explain.graph.ir import Graph, Node, ValueType
from lstm_explain.graph.node_editing import make
from lstm_explain.graph.node_writer import NodeWriter
from lstm_explain.graph.pattern_recognition import recognise_pattern
from lstm_explain.graph.protos import copy_of, nodes_of
from lstm_explain.graph.tensor_sequences import remove_sequences
from lstm_explain.graph.type_inference import infer_new_types


def _normalised_axes(w: NodeWriter) -> list[int] | None:
    """Returns the axes from `axis` to the last one, counted from the back; None where the rank is not known."""
    axis, rank = w.node.attribute("axis", -1), w.graph.type_of(w.node.inputs[0]).rank
    if axis >= 0 and rank is None:
        return None
    return list(range(axis if axis < 0 else axis - (rank or 0), 0))


def _at_least_float32(w: NodeWriter) -> tuple[str, np.dtype[Any] | None]:
    """Returns the input in the type that the layer computes in (float32 for float16, unless the node says otherwise),
    and its own type.
    """
    x = w.node.inputs[0]
    dtype = w.graph.type_of(x).dtype
    half = dtype == np.float16 and w.node.attribute("stash_type", 1) == 1
    return (w.cast(x, np.dtype(np.float32)) if half else x), dtype


def _output(node: Node, slot: int) -> str:
    return node.outputs[slot] if slot < len(node.outputs) else ""


def _layer_normalization(w: NodeWriter) -> bool:
    axes = _normalised_axes(w)
    if axes is None:
        return False
    x, dtype = _at_least_float32(w)
    centred = w.centred(x, axes, mean=_output(w.node, 1))
    deviation = w.root_mean_square(centred, axes, w.node.attribute("epsilon", 1e-5))
    if _output(w.node, 2):
        w.op("Reciprocal", deviation, output=_output(w.node, 2))
    w.scaled(w.cast(w.op("Div", centred, deviation), dtype), w.node.inputs[1], w.node.input(2), w.node.outputs[0])
    return True


def _rms_normalization(w: NodeWriter) -> bool:
    axes = _normalised_axes(w)
    if axes is None:
        return False
    x, dtype = _at_least_float32(w)
    size = w.root_mean_square(x, axes, w.node.attribute("epsilon", 1e-5))
    if _output(w.node, 1):
        w.op("Reciprocal", size, output=_output(w.node, 1))
    w.scaled(w.cast(w.op("Div", x, size), dtype), w.node.inputs[1], "", w.node.outputs[0])
    return True


def _instance_normalization(w: NodeWriter) -> bool:
    return _normalise_groups(w, w.node.inputs[0], 0)


def _group_normalization(w: NodeWriter) -> bool:
    return _normalise_groups(w, _at_least_float32(w)[0], w.node.attribute("num_groups"))


def _normalise_groups(w: NodeWriter, x: str, groups: int) -> bool:
    """Normalises each of `groups` groups of channels separately (0: every channel), whatever the rank is."""
    outer, scale, shift = w.node.inputs[:3]
    kind, shape = w.graph.type_of(outer), w.op("Shape", x, kind=ValueType(np.dtype(np.int64), (None,)))
    even = w.standardised(w.reshaped(x, [0, groups, -1]), [-1], w.node.attribute("epsilon", 1e-5))
    even = w.cast(even, kind.dtype)
    if groups and w.node.opset >= 21:  # The scale is per channel; before, it was per group.
        even = w.reshaped(w.op("Reshape", even, shape, kind=kind), [0, 0, -1])
    flat = w.name("scaled")
    w.scaled(even, w.reshaped(scale, [-1, 1]), w.reshaped(shift, [-1, 1]), flat)
    w.op("Reshape", flat, shape, output=w.node.outputs[0], kind=kind)
    return True


def _mean_variance_normalization(w: NodeWriter) -> bool:
    x, axes = w.node.inputs[0], w.node.attribute("axes", [0, 2, 3])
    centred = w.centred(x, axes)
    deviation = w.op("Sqrt", w.reduced("ReduceMean", w.op("Mul", centred, centred), axes))
    w.op("Div", centred, w.op("Add", deviation, w.number(1e-9, x)), output=w.node.outputs[0])
    return True


def _lp_normalization(w: NodeWriter) -> bool:
    x, p = w.node.inputs[0], w.node.attribute("p", 2)
    norm = w.reduced("ReduceL1" if p == 1 else "ReduceL2", x, [w.node.attribute("axis", -1)])
    tiny = 6e-8 if w.graph.type_of(x).dtype == np.float16 else 1e-30
    w.op("Div", x, w.op("Add", norm, w.number(tiny, x)), output=w.node.outputs[0])  # A vector of zeros stays zero.
    return True


def _gemm(w: NodeWriter) -> bool:
    """Rewrites a Gemm with two variable operands as a MatMul, which the rules know.

    A Gemm whose third operand is variable too (an exporter fuses the two halves of a cell's pre-activations) becomes a
    product and a sum.
    """
    if any(name in w.graph.constants for name in w.node.inputs[:2]):
        return _gemm_and_add(w)
    matrix = ValueType(w.graph.type_of(w.node.outputs[0]).dtype, (None, None))
    sides = []
    for name, attribute in zip(w.node.inputs, ("transA", "transB"), strict=False):
        sides.append(w.op("Transpose", name, kind=matrix, perm=[1, 0]) if w.node.attribute(attribute, 0) else name)
    shift, alpha, beta = w.node.input(2), w.node.attribute("alpha", 1.0), w.node.attribute("beta", 1.0)
    product = w.op("MatMul", *sides, kind=matrix)
    if shift and beta != 1:
        shift = w.op("Mul", shift, w.number(beta, shift))
    w.scaled(product, w.number(alpha, product), shift, w.node.outputs[0])
    return True


def _gemm_and_add(w: NodeWriter) -> bool:
    term, beta = w.node.input(2), w.node.attribute("beta", 1.0)
    if not term or term in w.graph.constants:
        return False
    attributes = {name: value for name, value in w.node.attributes.items() if name != "beta"}
    operands = list(w.node.inputs[:2])
    if w.node.opset < 11:  # the third operand is not optional
        operands.append(w.constant(np.zeros(1, w.graph.type_of(w.node.outputs[0]).dtype or np.float32)))
    product = w.op("Gemm", *operands, kind=w.graph.type_of(w.node.outputs[0]), **attributes)
    if beta != 1:
        term = w.op("Mul", term, w.number(beta, term))
    w.op("Add", product, term, output=w.node.outputs[0])
    return True


def _dropout(w: NodeWriter) -> bool:
    """Removes the operand that switches training mode where it is constantly off. Training mode has no rule."""
    training = w.graph.constants.get(w.node.input(2))
    if training is None or training.any():
        return False
    w.nodes.append(make("Dropout", w.node.inputs[:1], w.node.outputs, w.node.opset, w.node.name))
    return True


# Each function writes the primitives of a node. It returns False where something that it needs is not known.
REWRITES: dict[str, Callable[[NodeWriter], bool]] = {
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "SimplifiedLayerNormalization": _rms_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "LpNormalization": _lp_normalization,
    "Gemm": _gemm,
    "Dropout": _dropout,
    **fused_operators.REWRITES,
    **quantised.REWRITES,
    **spectra.REWRITES,
    **linear_attention.REWRITES,
    **sklearn_pipelines.REWRITES,
}


def canonicalise(graph: Graph) -> Graph:
    """Rewrites the graph and its bodies, in place, in the operators that the rules know."""
    _rewrite(graph)
    while infer_new_types(graph):  # A rewrite may need a type that has just been inferred.
        _rewrite(graph)
    for node in graph.nodes:
        for body in node.bodies.values():
            body.types |= {name: graph.type_of(name) for name in body.captured}
            canonicalise(body)
    return graph


def _rewrite(graph: Graph) -> None:
    nodes: list[Node] = []
    graph.nodes = remove_sequences(graph)
    producers = graph.producers()
    for node in graph.nodes:
        replacement = _rewritten_node(graph, node)
        nodes += [recognise_pattern(graph, producers, node)] if replacement is None else replacement
    graph.nodes = nodes


def _rewritten_node(graph: Graph, node: Node) -> list[Node] | None:
    """Returns the nodes that replace the node, themselves rewritten; None where the node stays."""
    rewrite, writer = REWRITES.get(node.op), NodeWriter(graph, node)
    if rewrite is None or not rewrite(writer):
        return None
    return [n for new in writer.nodes for n in ((new is not node and _rewritten_node(graph, new)) or [new])]


# --- operators that ONNX defines as functions of others --------------------------------------------------------------

FUNCTIONS = {"Attention", "RotaryEmbedding", "CenterCropPad", "SwiGLU", "SequenceMap"}


def expand_functions(model: ModelProto) -> ModelProto:
    """Returns the model with those operators replaced by their definitions, or the model itself where nothing can be
    replaced.
    """
    if not any(node.op_type in FUNCTIONS for node in nodes_of(model)):
        return model
    typed = copy_of(model)  # the inliner needs the types of initializers too
    known = {v.name for v in typed.graph.value_info}
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in typed.graph.initializer
        if t.name not in known
    )
    try:
        names = [("", name) for name in sorted(FUNCTIONS)]
        return onnx.inliner.inline_selected_functions(typed, names, inline_schema_functions=True)
    except Exception:  # The operator stays and is reported where a rule is needed.
        return model
