# SPDX-License-Identifier: Apache-2.0
"""Convolution and attention compared with textbook formulas in explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.operators.case import Case, normal, outputs_of, rng, target_of

RULES: tuple[lx.ProductRule, ...] = ("all", "half", "prop", "abs")


def stab(z: float, epsilon: float = 1e-3) -> float:
    return z + (epsilon if z >= 0 else -epsilon)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_conv_equals_the_textbook(factor: float) -> None:
    """The loops run over outputs and the units that feed each; padding is not a unit."""
    x, W, b = normal(2, 4, 6, 5), normal(6, 2, 3, 2, seed=1), normal(6, seed=2)
    strides, dilations, before, behind, groups = (2, 1), (1, 2), (1, 2), (0, 1), 2
    case = Case(
        "Conv",
        [x, W, b],
        {"strides": strides, "dilations": dilations, "pads": [*before, *behind], "group": groups},
    )
    y = outputs_of(case, case.feeds())
    target = target_of(case, y)
    assert target.weights is not None
    result = lx.load(case.model()).explain(case.feeds(), lx.LRP(epsilon=1e-3, bias_factor=factor), target)
    expected, absorbed = np.zeros(x.shape), np.zeros(2)
    for n, m, i, j in np.ndindex(*y.shape):
        units = []
        for c, p, q in np.ndindex(*W.shape[1:]):
            row = i * strides[0] + p * dilations[0] - before[0]
            column = j * strides[1] + q * dilations[1] - before[1]
            if 0 <= row < 6 and 0 <= column < 5:
                units.append(((n, m // 3 * 2 + c, row, column), W[m, c, p, q]))
        z = float(y[n, m, i, j])
        density = target.weights[m, i, j] * z / stab(z)
        kept = (b[m] + stab(z) - z) * density
        for position, weight in units:
            expected[position] += x[position] * weight * density + factor * kept / len(units)
        absorbed[n] += (1 - factor) * kept
    np.testing.assert_allclose(result.relevance["x0"], expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(result.ledger.absorbed, absorbed, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("operator", ["MatMul", "Einsum"])
def test_attention_equals_the_textbook(rule: lx.ProductRule, factor: float, operator: str) -> None:
    """Weights [T, K] from a Softmax times values [K, D]: the epsilon rule over terms, the product rule on each."""
    scores, values = normal(4, 5), normal(5, 3, seed=1)
    attributes = {"equation": "tk,kd->td"} if operator == "Einsum" else {}
    nodes = [
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node(operator, ["weights", "values"], ["y"], name="mix", **attributes),
    ]
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("scores", [4, 5]), ("values", [5, 3]), ("y", [4, 3]))
    ]
    graph = helper.make_graph(nodes, "attention", info[:2], info[2:])
    model = lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    weights = rng(7).uniform(0.5, 1.5, (4, 3)).astype(np.float32)
    target = lx.Target(weights=weights, batch_axis=None)
    e = model.explain({"scores": scores, "values": values}, lx.LRP(rule, 1e-3, bias_factor=factor), target)
    a = np.exp(scores.astype(np.float64))
    a /= a.sum(axis=1, keepdims=True)
    y = a @ values
    R_a, R_s, absorbed = np.zeros(a.shape), np.zeros(values.shape), 0.0
    for t, d in np.ndindex(*y.shape):
        R = weights[t, d] * y[t, d]
        kept = (stab(y[t, d]) - y[t, d]) * R / stab(y[t, d])
        absorbed += (1 - factor) * kept
        for k in range(5):
            gate, signal = a[t, k], float(values[k, d])
            r = gate * signal * R / stab(y[t, d]) + factor * kept / 5
            to_gate, to_signal, lost = by_rule(rule, r, gate, signal, factor)
            R_a[t, k] += to_gate
            R_s[k, d] += to_signal
            absorbed += lost
    scale = np.abs(R_s).max()
    np.testing.assert_allclose(e.relevance["scores"], R_a, atol=1e-4 * scale)
    np.testing.assert_allclose(e.relevance["values"], R_s, atol=1e-4 * scale)
    np.testing.assert_allclose(e.ledger.absorbed, [absorbed], atol=1e-4 * scale)


def by_rule(rule: str, r: float, gate: float, signal: float, factor: float) -> tuple[float, float, float]:
    """Return the relevance of gate, signal and stabiliser for one product."""
    if rule in ("all", "half"):
        share = 0.0 if rule == "all" else 0.5
        return share * r, (1 - share) * r, 0.0
    a, s = (abs(gate), abs(signal)) if rule == "abs" else (gate, signal)
    density = r / stab(a + s)
    kept = (stab(a + s) - a - s) * density
    return a * density + factor * kept / 2, s * density + factor * kept / 2, (1 - factor) * kept
