# SPDX-License-Identifier: Apache-2.0
"""Rewrites LinearAttention as a Scan over its steps, and CausalConvWithState as a convolution.

A step of linear attention decays the state, erases what the key retrieves from it (delta rules), writes the outer
product of key and value, and reads the state with the query. In these products, decay, key, rate and query are gates.
No activation in front of them shows it, so their nodes say it (`GATE`). What is retrieved is a term of the state, whose
stabiliser it takes.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import NodeProto, helper

from lstm_explain.graph.ir import GATE, STABILISER, ValueType
from lstm_explain.graph.node_writer import NodeWriter
from lstm_explain.graph.read import node_of

FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)
# For each update rule, whether it decays the state, and whether it erases what the key retrieves.
UPDATE_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}
LAST = np.iinfo(np.int64).max


def _linear_attention(w: NodeWriter) -> bool:
    """Maps query [B, T, Hq K], key [B, T, H K], value [B, T, H V] and more to [B, T, Hq V] and the state [B, H, K, V].

    Hq / H heads of the query read the state of one head.
    """
    node = w.node
    heads, kind = node.attribute("kv_num_heads", 0), w.graph.type_of(node.inputs[0])
    rule = UPDATE_RULES.get(node.attribute("update_rule", "gated_delta"))
    if rule is None or heads < 1 or node.attribute("q_num_heads", 0) % heads:
        return False
    decays, erases = rule
    if (decays, erases) != (bool(node.input(4)), bool(node.input(5))):
        return False
    query, key, value, past, decay, beta = (_in_float32(w, slot) for slot in range(6))
    sequences = {"key": _split(w, key, [heads, -1, 1]), "value": _split(w, value, [heads, 1, -1])}
    if decays:
        sequences["decay"] = w.op("Exp", _split(w, decay, [heads, -1, 1]))
    if erases:
        sequences["beta"] = _split(w, beta, [-1, 1, 1])
    sequences["query"] = _split(w, query, [heads, node.attribute("q_num_heads") // heads, -1])
    start = past or _zeros(w, query, value)
    last, read = w.name("state"), w.name("read")
    samples, steps = (kind.shape or (None, None))[:2]
    w.graph.types[last] = ValueType(FLOAT32, (samples, heads, None, None))
    w.graph.types[read] = ValueType(FLOAT32, (samples, steps, heads, None, None))
    body = _step(f"{node.name}/", list(sequences), decays=decays, erases=erases)
    scan = helper.make_node(
        "Scan",
        [start, *sequences.values()],
        [last, read],
        name=f"{node.name}/Scan",
        body=body,
        num_scan_inputs=len(sequences),
        scan_input_axes=[1] * len(sequences),
        scan_output_axes=[1],
    )
    w.nodes.append(node_of(w.graph, scan))
    flat = w.reshaped(w.op("Mul", read, _scale(w, query)), [0, 0, -1])
    w.cast(flat, kind.dtype, output=node.outputs[0])
    if len(node.outputs) > 1 and node.outputs[1]:
        w.cast(last, w.graph.type_of(node.input(3)).dtype if past else kind.dtype, output=node.outputs[1])
    return True


def _in_float32(w: NodeWriter, slot: int) -> str:
    name = w.node.input(slot)
    return w.cast(name, FLOAT32) if name else ""


def _split(w: NodeWriter, x: str, shape: list[int]) -> str:
    """Returns [B, T, *shape]."""
    return w.reshaped(x, [0, 0, *shape])


def _step(prefix: str, sequences: list[str], *, decays: bool, erases: bool) -> onnx.GraphProto:
    """Returns the body: from the state [B, H, K, V] and a step of the sequences to the new state and what is read."""
    nodes: list[NodeProto] = []

    def op(op: str, *inputs: str, output: str, metadata: dict[str, str] | None = None, **attributes: object) -> str:
        proto = helper.make_node(
            op, [prefix + name for name in inputs], [prefix + output], name=f"{prefix}{output}", **attributes
        )
        helper.set_metadata_props(proto, metadata or {})
        nodes.append(proto)
        return output

    state, written = "state", "value"
    if decays:
        state = op("Mul", state, "decay", output="decayed", metadata={GATE: "1"})
    if erases:
        row = op("Transpose", "key", output="key_row", perm=[0, 1, 3, 2])
        retrieved = op("MatMul", row, state, output="retrieved", metadata={GATE: "0", STABILISER: "cells"})
        written = op(
            "Mul", "beta", op("Sub", "value", retrieved, output="difference"), output="written", metadata={GATE: "0"}
        )
    state = op("Add", state, op("Mul", "key", written, output="write", metadata={GATE: "0"}), output="next")
    op("MatMul", "query", state, output="read", metadata={GATE: "0"})

    def values(*names: str) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(prefix + name, onnx.TensorProto.FLOAT, [None] * 4) for name in names]

    inner = values(*(node.output[0].removeprefix(prefix) for node in nodes if node.name != f"{prefix}next"))
    return helper.make_graph(nodes, "step", values("state", *sequences), values("next", "read"), value_info=inner)


def _zeros(w: NodeWriter, query: str, value: str) -> str:
    """Returns a state of zeros [B, H, K, V]."""
    heads = w.node.attribute("kv_num_heads")
    sizes = [_extent(w, query, 0), w.constant(np.array([heads]))]
    sizes += [_per_head(w, query, w.node.attribute("q_num_heads")), _per_head(w, value, heads)]
    shape = w.op("Concat", *sizes, kind=ValueType(INT64, (4,)), axis=0)
    return w.op("ConstantOfShape", shape, kind=ValueType(FLOAT32, (None,) * 4))


def _extent(w: NodeWriter, x: str, axis: int) -> str:
    return w.op("Shape", x, kind=ValueType(INT64, (1,)), start=axis, end=axis + 1)


def _per_head(w: NodeWriter, x: str, heads: int) -> str:
    return w.op("Div", _extent(w, x, 2), w.constant(np.array([heads])))


def _scale(w: NodeWriter, query: str) -> str:
    """Returns what the output is multiplied by: by default, 1 / sqrt(K)."""
    given, heads, shape = w.node.attribute("scale", 0.0), w.node.attribute("q_num_heads"), w.graph.type_of(query).shape
    if given:
        return w.constant(np.array(given, np.float32))
    if shape is not None and isinstance(shape[-1], int):
        return w.constant(np.array(1 / math.sqrt(shape[-1] // heads), np.float32))
    return w.op("Reciprocal", w.op("Sqrt", w.cast(_per_head(w, query, heads), FLOAT32)))


def _causal_convolution(w: NodeWriter) -> bool:
    """Maps [B, C, T] and the last k - 1 steps before them to [B, C, T] and the last k - 1 steps."""
    node = w.node
    (x, weight, bias, past), kind = (node.input(slot) for slot in range(4)), w.graph.type_of(node.inputs[0])
    shape = w.graph.type_of(weight).static_shape
    if shape is None or len(shape) != 3 or node.attribute("activation", "none") not in ("none", "silu", "swish"):
        return False
    channels, before, joined = shape[0], shape[2] - 1, ValueType(kind.dtype, (*(kind.shape or (None, None))[:2], None))
    if past:
        x = w.op("Concat", past, x, kind=joined, axis=2)
    pads = [0 if past else before, 0]
    summed = w.op("Conv", x, weight, *([bias] if bias else []), kind=kind, group=channels, pads=pads)
    if node.attribute("activation", "none") == "none":
        w.op("Identity", summed, output=node.outputs[0])
    else:
        w.op("Mul", summed, w.op("Sigmoid", summed), output=node.outputs[0])
    if len(node.outputs) > 1 and node.outputs[1]:
        if not past:  # the sequence may be shorter than the state
            x = w.op("Pad", x, w.constant(np.array([0, 0, before, 0, 0, 0])), kind=joined)
        first = w.constant(np.array([-before if before else LAST]))
        at = (first, w.constant(np.array([LAST])), w.constant(np.array([2])))
        w.op("Slice", x, *at, output=node.outputs[1], kind=joined)
    return True


REWRITES = {"LinearAttention": _linear_attention, "CausalConvWithState": _causal_convolution}
