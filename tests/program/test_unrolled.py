# SPDX-License-Identifier: Apache-2.0
"""A recurrent node equals its cell unrolled into MatMul, Add, Sigmoid, Tanh and Mul, for any epsilon.

A sum and the linear maps that feed it are one neuron with one stabiliser, however the exporter spelled it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import lstm_explain as lx
from tests.builders import network_model, recurrent_model
from tests.engine_checks import check_same, method, textbook_relevance
from tests.reference.textbook import PRODUCT_RULES, Network, Relative, Rules, one_hot
from tests.unrolled_models import unrolled_model

SETTINGS = list(itertools.product(PRODUCT_RULES, (0.0, 1.0)))
VARIANTS = list(itertools.product((False, True), repeat=3))


def relevance(proto: Any, feeds: dict[str, Any], how: lx.Method, index: Any = 1) -> dict[str, Any]:
    return lx.load(proto).explain(feeds, how, lx.Target(index=index)).relevance


def with_live_states(proto: onnx.ModelProto, network: Network) -> onnx.ModelProto:
    """Inputs state_0, state_1, ... in place of the zeros that every layer starts from (h and c alike)."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    zeros = [node for node in changed.graph.node if node.op_type == "ConstantOfShape"]
    for k, (node, layer) in enumerate(zip(zeros, network.layers, strict=True)):
        element = proto.graph.input[0].type.tensor_type.elem_type
        changed.graph.input.append(helper.make_tensor_value_info(f"state_{k}", element, ["B", layer.hidden]))
        node.CopyFrom(helper.make_node("Identity", [f"state_{k}"], list(node.output), name=node.name))
    return changed


def check_from_zero(op: Any, lbr: bool, rules: Rules, gemm: bool, fused: bool, concat: bool, bias: bool = True) -> None:
    rng = np.random.default_rng(42)
    built = recurrent_model(rng, op, layers=2, D=2, H=3, linear_before_reset=lbr, dtype=np.float64, bias=bias)
    feeds = built.feeds(rng, T=3, B=2)
    unrolled = unrolled_model(built.network, 3, gemm=gemm, fused=fused, concat=concat, dtype=np.float64)
    expected = built.reference_lrp(feeds, one_hot(1, 2, 3), rules).x
    check_same(relevance(unrolled.model, feeds, method(rules))["x"], expected, 1e-9)


def check_from_live_states(
    op: Any, lbr: bool, rules: Rules, gemm: bool, fused: bool, concat: bool, bias: bool = True
) -> None:
    rng = np.random.default_rng(44)
    network = recurrent_model(rng, op, layers=2, D=2, H=3, linear_before_reset=lbr, dtype=np.float64, bias=bias).network
    built = network_model(network, initial_states="input", dtype=np.float64)
    feeds = built.feeds(rng, T=3, B=2)
    feeds |= {name.replace("_h_", "_c_"): state for name, state in feeds.items() if "_h_" in name and op == "LSTM"}
    unrolled = unrolled_model(network, 3, gemm=gemm, fused=fused, concat=concat, dtype=np.float64)
    states = {f"state_{k}": feeds[f"initial_h_{k}"][0] for k in range(2)}
    received = relevance(with_live_states(unrolled.model, network), {"x": feeds["x"], **states}, method(rules))
    expected = built.reference_lrp(feeds, one_hot(1, 2, 3), rules)
    check_same(received["x"], expected.x, 1e-9, "x")
    for k in range(2):
        check_same(received[f"state_{k}"], expected.initial_h[k][0] + expected.initial_c[k][0], 1e-9, f"state_{k}")


@pytest.mark.parametrize(("gemm", "fused", "concat"), VARIANTS)
@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize(("op", "lbr"), [("LSTM", False), ("GRU", False), ("GRU", True), ("RNN", False)])
def test_a_node_equals_its_cell_unrolled(op: Any, lbr: bool, rule: Any, gemm: bool, fused: bool, concat: bool) -> None:
    """With bias_factor 0: units of a constant zero state are folded away and get no share of a bias."""
    check_from_zero(op, lbr, Rules(rule, 0.05), gemm, fused, concat)


@pytest.mark.parametrize(("gemm", "fused", "concat"), VARIANTS)
@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("op", ["LSTM", "RNN"])
def test_a_node_equals_its_cell_unrolled_from_live_states(
    op: Any, rule: Any, bias_factor: float, gemm: bool, fused: bool, concat: bool
) -> None:
    check_from_live_states(op, False, Rules(rule, 0.05, bias_factor), gemm, fused, concat)


@pytest.mark.parametrize(("gemm", "fused", "concat"), VARIANTS)
@pytest.mark.parametrize(("rule", "bias_factor"), SETTINGS)
@pytest.mark.parametrize("lbr", [False, True])
def test_a_gru_equals_its_cell_unrolled_from_live_states(
    lbr: bool, rule: Any, bias_factor: float, gemm: bool, fused: bool, concat: bool
) -> None:
    check_from_live_states("GRU", lbr, Rules(rule, 0.05, bias_factor), gemm, fused, concat)


@pytest.mark.parametrize(("gemm", "fused", "concat"), VARIANTS)
@pytest.mark.parametrize(("rule", "bias_factor"), [("all", 0.0), ("half", 0.3), ("prop", 0.0)])
@pytest.mark.parametrize(("op", "lbr"), [("LSTM", False), ("GRU", False), ("GRU", True), ("RNN", False)])
def test_the_relative_stabiliser_distinguishes_gates_cells_and_layers(
    op: Any, lbr: bool, rule: Any, bias_factor: float, gemm: bool, fused: bool, concat: bool
) -> None:
    """Only a node has a ceiling: nothing says where the states of an unrolled cell are. Biases that are written as two
    constants count as two terms, so there are none here.
    """
    rules = Rules(rule, bias_factor=bias_factor, relative=Relative(0.2, 0.05, 0.4, ceiling=1e9))
    if not bias_factor:
        check_from_zero(op, lbr, rules, gemm, fused, concat, bias=False)
    check_from_live_states(op, lbr, rules, gemm, fused, concat, bias=False)


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("op", ["LSTM", "RNN"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_unrolled_float32_cell_with_a_pooled_head(op: Any, rule: Any, batch_first: bool) -> None:
    rng = np.random.default_rng(43)
    built = recurrent_model(rng, op, head="mean", D=3, H=4)
    unrolled = unrolled_model(built.network, 5, batch_first=batch_first)
    feeds, rules = unrolled.feeds(rng, T=5), Rules(rule, 0.05)
    expected = textbook_relevance(unrolled, unrolled.reference_lrp(feeds, one_hot(1, 3, 3), rules))["x"]
    check_same(relevance(unrolled.model, feeds, method(rules))["x"], expected, 1e-4)
