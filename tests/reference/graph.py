# SPDX-License-Identifier: Apache-2.0
"""LRP node by node over a graph of primitives: a second way to the textbook's numbers, wired by the graph alone.

Knows what `tests.unrolled_models.unrolled_model(..., gemm=True)` writes and refuses everything else. The first operand
of a Mul is its gate. Batch first in every tensor but the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from .common import Array, Rules, lrp_linear, lrp_product, lrp_sum

Values = dict[str, npt.NDArray[Any]]
Rule = Callable[[onnx.NodeProto, Values, Array, Rules], list[Array | None]]


def all_values(model: onnx.ModelProto, feeds: Mapping[str, npt.NDArray[Any]]) -> Values:
    """Every tensor of a run: feeds, initializers and what each node computed."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output]
    tapped.graph.ClearField("output")
    tapped.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {**values, **feeds, **dict(zip(names, session.run(names, dict(feeds)), strict=True))}


def _attribute(node: onnx.NodeProto, name: str, default: int = 0) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _gemm(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    a, W, b = (values[name] for name in node.input)
    W = W if _attribute(node, "transB") else W.T
    R_a = [
        lrp_linear(row, W, b, W @ row + b, R_row, len(row), rules.added("layers"), rules.bias_factor)[0]
        for row, R_row in zip(a, R, strict=True)
    ]
    return [np.stack(R_a), None, None]


def _add(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    terms = [values[name] for name in node.input]
    return list(lrp_sum(terms, terms[0] + terms[1], R, rules)[0])


def _mul(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    gate, signal = (values[name] for name in node.input)
    return list(lrp_product(gate, signal, R, rules)[:2])


def _through(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    return [R]


def _one_minus(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    return [None, R]


def _concat(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    axis = _attribute(node, "axis")
    ends = np.cumsum([values[name].shape[axis] for name in node.input])[:-1]
    return list(np.split(R, ends, axis=axis))


def _gather(node: onnx.NodeProto, values: Values, R: Array, rules: Rules) -> list[Array | None]:
    data, index = (values[name] for name in node.input)
    R_data = np.zeros(data.shape)
    np.moveaxis(R_data, _attribute(node, "axis"), 0)[int(index)] = R
    return [R_data, None]


RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "Add": _add,
    "Mul": _mul,
    "Sub": _one_minus,
    "Sigmoid": _through,
    "Tanh": _through,
    "Identity": _through,
    "Concat": _concat,
    "Gather": _gather,
}


def graph_lrp(
    model: onnx.ModelProto, feeds: Mapping[str, npt.NDArray[Any]], weights: Array, rules: Rules, name: str = "x"
) -> Array:
    """Relevance at the input `name` of sum_k weights_k output_k. Nodes that no relevance reaches are skipped."""
    values = all_values(model, feeds)
    output = model.graph.output[0].name
    R: dict[str, Array] = {output: weights * values[output]}
    for node in reversed(model.graph.node):
        if not any(out in R for out in node.output):
            continue
        arriving = [R.get(out, np.zeros(values[out].shape)) for out in node.output]
        if node.op_type == "Split":
            shares: list[Array | None] = [np.concatenate(arriving, axis=_attribute(node, "axis")), None]
        else:
            # Zeros made by ConstantOfShape may receive a bias share; there the way ends.
            if node.op_type == "ConstantOfShape":
                continue
            shares = RULES[node.op_type](node, values, arriving[0], rules)
        for source, share in zip(node.input, shares, strict=False):
            if share is not None:
                R[source] = R.get(source, np.zeros(share.shape)) + share
    return R[name]
