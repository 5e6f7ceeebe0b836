"""Operators that ONNX Runtime fuses when it saves an optimised model, in the operators that they were; and pools."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_explain.graph.ir import ValueType
from lstm_explain.graph.node_writer import Spelling

DOMAIN = "com.microsoft"


def _fused_matmul(s: Spelling) -> bool:
    """alpha * A' B', a prime rearranging axes as the attributes say."""
    sides = []
    for name, side in zip(s.node.inputs, "AB", strict=True):
        rank = s.graph.type_of(name).rank
        turns, batches = s.node.attribute(f"trans{side}", 0), s.node.attribute(f"transBatch{side}", 0)
        if rank is None and (turns or batches):
            return False
        order = list(range(rank or 0))
        if batches:  # the first axis comes behind all batch axes
            order.insert(len(order) - 2, order.pop(0))
        if turns and len(order) > 1:
            order[-2:] = order[:-3:-1]
        if order != sorted(order):
            kind = ValueType(s.graph.type_of(name).dtype, (None,) * len(order))
            name = s.op("Transpose", name, kind=kind, perm=order)
        sides.append(name)
    product = s.op("MatMul", *sides, kind=ValueType(s.graph.type_of(sides[0]).dtype, None))
    s.scaled(product, s.number(s.node.attribute("alpha", 1.0), product), "", s.node.outputs[0])
    return True


def _fused_gemm(s: Spelling) -> bool:
    """Gemm, then a function of the name and with the parameters that the attributes say."""
    node = s.node
    function = node.attribute("activation", "")
    parameters = {k.removeprefix("activation_"): v for k, v in node.attributes.items() if k.startswith("activation_")}
    own = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
    summed = s.op("Gemm", *node.inputs, **own)
    s.op(function or "Identity", summed, output=node.outputs[0], **parameters)
    return True


def _bias_gelu(s: Spelling) -> bool:
    summed = s.op("Add", *s.node.inputs[:2])
    s.op("Gelu", summed, output=s.node.outputs[0], domain=DOMAIN)
    return True


def _fast_gelu(s: Spelling) -> bool:
    if not s.node.input(1):
        return False
    s.op("FastGelu", s.op("Add", *s.node.inputs[:2]), output=s.node.outputs[0], domain=DOMAIN)
    return True


def _skip_layer_normalization(s: Spelling) -> bool:
    """LayerNormalization of a sum, which may be an output of its own."""
    x, skip, scale, shift, bias = (s.node.input(i) for i in range(5))
    return _skip(s, [x, skip, bias], scale, shift, centred=True)


def _skip_simplified_layer_normalization(s: Spelling) -> bool:
    x, skip, scale, bias = (s.node.input(i) for i in range(4))
    return _skip(s, [x, skip, bias], scale, "", centred=False)


def _skip(s: Spelling, terms: list[str], scale: str, shift: str, *, centred: bool) -> bool:
    outputs = [*s.node.outputs, "", "", ""]
    if outputs[1] or outputs[2]:
        return False
    terms = [t for t in terms if t]
    total = terms[0]
    for i, term in enumerate(terms[1:], 2):
        total = s.op("Add", total, term, output=outputs[3] if i == len(terms) else "")
    epsilon = s.node.attribute("epsilon", 1e-5 if centred else 1e-6)
    middle = s.centred(total, [-1]) if centred else total
    even = s.op("Div", middle, s.root_mean_square(middle, [-1], epsilon))
    s.scaled(even, scale, shift, outputs[0])
    return True


def _lp_pool(s: Spelling) -> bool:
    """The p-th root of a sum of |x|^p, which is their mean times their number."""
    node = s.node
    kernel, p = node.attribute("kernel_shape"), float(node.attribute("p", 2))
    places = {k: node.attributes[k] for k in ("strides", "pads", "auto_pad", "dilations") if k in node.attributes}
    if "dilations" in places and node.opset < 19:
        return False
    power = s.op("Pow", s.op("Abs", node.inputs[0]), s.number(p, node.inputs[0]))
    if node.attribute("ceil_mode", 0) and places.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        power = _room_for_the_last(s, power, places, len(kernel))
        if not power:
            return False
    kind = ValueType(s.graph.type_of(node.inputs[0]).dtype, (None,) * (2 + len(kernel)))
    mean = s.op("AveragePool", power, kind=kind, kernel_shape=kernel, count_include_pad=1, **places)
    _root(s, s.op("Mul", mean, s.number(math.prod(kernel), mean)), p)
    return True


def _room_for_the_last(s: Spelling, x: str, places: dict[str, Any], rank: int) -> str:
    """Zeros behind, so that the last window fits that rounding up has begun; empty where it might hold nothing else."""
    strides, pads = places.get("strides", [1] * rank), places.pop("pads", [0] * 2 * rank)
    behind = [pads[rank + i] + strides[i] - 1 for i in range(rank)]
    if any(b >= k for b, k in zip(behind, s.node.attribute("kernel_shape"), strict=True)):
        return ""
    widths = np.array([0, 0, *pads[:rank], 0, 0, *behind], np.int64)
    kind = ValueType(s.graph.type_of(x).dtype, (None,) * (2 + rank))
    return s.op("Pad", x, s.constant(widths), kind=kind)


def _global_lp_pool(s: Spelling) -> bool:
    x, p = s.node.inputs[0], float(s.node.attribute("p", 2))
    rank = s.graph.type_of(x).rank
    if rank is None:
        return False
    _root(s, s.reduced("ReduceSum", s.op("Pow", s.op("Abs", x), s.number(p, x)), range(2, rank)), p)
    return True


def _root(s: Spelling, x: str, p: float) -> None:
    s.op("Pow", x, s.constant(np.asarray(1 / p, s.graph.type_of(x).dtype)), output=s.node.outputs[0])


def _einsum(s: Spelling) -> bool:
    """Of three operands and more, two at a time; a label stays as long as something further wants it."""
    left, arrow, out = s.node.attribute("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    labels = "".join(terms).replace(".", "")
    if len(terms) < 3:
        return False
    if not arrow:
        dots = "..." if "..." in left else ""
        out = dots + "".join(sorted(c for c in set(labels) if labels.count(c) == 1))
    done, value = terms[0], s.node.inputs[0]
    for i in range(1, len(terms)):
        rest = "".join(terms[i + 1 :]) + out
        here = done + terms[i]
        kept = ("..." if "..." in here else "") + "".join(c for c in dict.fromkeys(here) if c != "." and c in rest)
        last = i == len(terms) - 1
        equation = f"{done},{terms[i]}->{out if last else kept}"
        kind = ValueType(s.graph.type_of(value).dtype, None)
        output = s.node.outputs[0] if last else ""
        value = s.op("Einsum", value, s.node.inputs[i], output=output, kind=kind, equation=equation)
        done = kept
    return True


SPELLINGS = {
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
