# SPDX-License-Identifier: Apache-2.0
"""Rewrites the operators that ONNX Runtime fuses when it saves an optimised model, Lp pools, and Einsum of many
operands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_explain.graph.ir import ValueType
from lstm_explain.graph.node_writer import NodeWriter

DOMAIN = "com.microsoft"


def _fused_matmul(w: NodeWriter) -> bool:
    """Rewrites as alpha * A' B', where the attributes say how A' and B' rearrange the axes of A and B."""
    sides = []
    for name, side in zip(w.node.inputs, "AB", strict=True):
        rank = w.graph.type_of(name).rank
        transposes, batches = w.node.attribute(f"trans{side}", 0), w.node.attribute(f"transBatch{side}", 0)
        if rank is None and (transposes or batches):
            return False
        order = list(range(rank or 0))
        if batches:  # The first axis moves to the position after all batch axes.
            order.insert(len(order) - 2, order.pop(0))
        if transposes and len(order) > 1:
            order[-2:] = order[:-3:-1]
        if order != sorted(order):
            kind = ValueType(w.graph.type_of(name).dtype, (None,) * len(order))
            name = w.op("Transpose", name, kind=kind, perm=order)
        sides.append(name)
    product = w.op("MatMul", *sides, kind=ValueType(w.graph.type_of(sides[0]).dtype, None))
    w.scaled(product, w.number(w.node.attribute("alpha", 1.0), product), "", w.node.outputs[0])
    return True


def _fused_gemm(w: NodeWriter) -> bool:
    """Rewrites as Gemm followed by the activation whose name and parameters the attributes give."""
    node = w.node
    function = node.attribute("activation", "")
    parameters = {k.removeprefix("activation_"): v for k, v in node.attributes.items() if k.startswith("activation_")}
    own = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
    summed = w.op("Gemm", *node.inputs, **own)
    w.op(function or "Identity", summed, output=node.outputs[0], **parameters)
    return True


def _bias_gelu(w: NodeWriter) -> bool:
    summed = w.op("Add", *w.node.inputs[:2])
    w.op("Gelu", summed, output=w.node.outputs[0], domain=DOMAIN)
    return True


def _fast_gelu(w: NodeWriter) -> bool:
    if not w.node.input(1):
        return False
    w.op("FastGelu", w.op("Add", *w.node.inputs[:2]), output=w.node.outputs[0], domain=DOMAIN)
    return True


def _skip_layer_normalization(w: NodeWriter) -> bool:
    """Rewrites as LayerNormalization of a sum, which may be an output too."""
    x, skip, scale, shift, bias = (w.node.input(i) for i in range(5))
    return _normalise_sum(w, [x, skip, bias], scale, shift, centred=True)


def _skip_simplified_layer_normalization(w: NodeWriter) -> bool:
    x, skip, scale, bias = (w.node.input(i) for i in range(4))
    return _normalise_sum(w, [x, skip, bias], scale, "", centred=False)


def _normalise_sum(w: NodeWriter, terms: list[str], scale: str, shift: str, *, centred: bool) -> bool:
    outputs = [*w.node.outputs, "", "", ""]
    if outputs[1] or outputs[2]:
        return False
    terms = [t for t in terms if t]
    total = terms[0]
    for i, term in enumerate(terms[1:], 2):
        total = w.op("Add", total, term, output=outputs[3] if i == len(terms) else "")
    epsilon = w.node.attribute("epsilon", 1e-5 if centred else 1e-6)
    middle = w.centred(total, [-1]) if centred else total
    normalised = w.op("Div", middle, w.root_mean_square(middle, [-1], epsilon))
    w.scaled(normalised, scale, shift, outputs[0])
    return True


def _lp_pool(w: NodeWriter) -> bool:
    """Returns the p-th root of a sum of |x|^p. The sum is the mean times the number of elements."""
    node = w.node
    kernel, p = node.attribute("kernel_shape"), float(node.attribute("p", 2))
    geometry = {k: node.attributes[k] for k in ("strides", "pads", "auto_pad", "dilations") if k in node.attributes}
    if "dilations" in geometry and node.opset < 19:
        return False
    power = w.op("Pow", w.op("Abs", node.inputs[0]), w.number(p, node.inputs[0]))
    if node.attribute("ceil_mode", 0) and geometry.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        power = _pad_last_window(w, power, geometry, len(kernel))
        if not power:
            return False
    kind = ValueType(w.graph.type_of(node.inputs[0]).dtype, (None,) * (2 + len(kernel)))
    mean = w.op("AveragePool", power, kind=kind, kernel_shape=kernel, count_include_pad=1, **geometry)
    _root(w, w.op("Mul", mean, w.number(math.prod(kernel), mean)), p)
    return True


def _pad_last_window(w: NodeWriter, x: str, geometry: dict[str, Any], rank: int) -> str:
    """Appends zeros so that the last window, which ceil_mode adds, fits. Returns "" where that window might hold only
    zeros.
    """
    strides, pads = geometry.get("strides", [1] * rank), geometry.pop("pads", [0] * 2 * rank)
    behind = [pads[rank + i] + strides[i] - 1 for i in range(rank)]
    if any(b >= k for b, k in zip(behind, w.node.attribute("kernel_shape"), strict=True)):
        return ""
    widths = np.array([0, 0, *pads[:rank], 0, 0, *behind], np.int64)
    kind = ValueType(w.graph.type_of(x).dtype, (None,) * (2 + rank))
    return w.op("Pad", x, w.constant(widths), kind=kind)


def _global_lp_pool(w: NodeWriter) -> bool:
    x, p = w.node.inputs[0], float(w.node.attribute("p", 2))
    rank = w.graph.type_of(x).rank
    if rank is None:
        return False
    _root(w, w.reduced("ReduceSum", w.op("Pow", w.op("Abs", x), w.number(p, x)), range(2, rank)), p)
    return True


def _root(w: NodeWriter, x: str, p: float) -> None:
    w.op("Pow", x, w.constant(np.asarray(1 / p, w.graph.type_of(x).dtype)), output=w.node.outputs[0])


def _einsum(w: NodeWriter) -> bool:
    """Contracts three or more operands two at a time; a label stays for as long as a later operand or the output has
    it.
    """
    left, arrow, out = w.node.attribute("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    labels = "".join(terms).replace(".", "")
    if len(terms) < 3:
        return False
    if not arrow:
        dots = "..." if "..." in left else ""
        out = dots + "".join(sorted(c for c in set(labels) if labels.count(c) == 1))
    term, value = terms[0], w.node.inputs[0]
    for i in range(1, len(terms)):
        rest = "".join(terms[i + 1 :]) + out
        labels_here = term + terms[i]
        kept = ("..." if "..." in labels_here else "") + "".join(
            c for c in dict.fromkeys(labels_here) if c != "." and c in rest
        )
        last = i == len(terms) - 1
        equation = f"{term},{terms[i]}->{out if last else kept}"
        kind = ValueType(w.graph.type_of(value).dtype, None)
        output = w.node.outputs[0] if last else ""
        value = w.op("Einsum", value, w.node.inputs[i], output=output, kind=kind, equation=equation)
        term = kept
    return True


REWRITES = {
    "Einsum": _einsum,
    f"{DOMAIN}::FusedMatMul": _fused_matmul,
    f"{DOMAIN}::TransposeMatMul": _fused_matmul,
    f"{DOMAIN}::FusedGemm": _fused_gemm,
    f"{DOMAIN}::BiasGelu": _bias_gelu,
    f"{DOMAIN}::FastGelu": _fast_gelu,
    f"{DOMAIN}::SkipLayerNormalization": _skip_layer_normalization,
    f"{DOMAIN}::SkipSimplifiedLayerNormalization": _skip_simplified_layer_normalization,
    "LpPool": _lp_pool,
    "GlobalLpPool": _global_lp_pool,
}
