# SPDX-License-Identifier: Apache-2.0
"""Gates that are spelled as arithmetic: which operand of a product the engine takes for the gate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.graph.read import build
from lstm_explain.operators.value_ranges import is_fraction
from tests.graph_builder import GraphBuilder, run
from tests.recurrent_kinds import recurrent_kind

Write = Callable[[GraphBuilder, str, str], str]


def number(g: GraphBuilder, value: float) -> str:
    return g.constant(np.array(value), f"number_{value}")


def spelled(g: GraphBuilder, op: str, *operands: str) -> str:
    return g.op(op, list(operands))


def decay(g: GraphBuilder, u: str, factor: float = -1.0) -> str:
    return g.op("Exp", [g.op("Mul", [number(g, factor), g.op("Softplus", [u])])])


def squared(g: GraphBuilder, u: str) -> str:
    return g.op("Mul", [u, u])


FRACTIONS: dict[str, Write] = {
    "half of tanh + 1": lambda g, u, v: spelled(
        g, "Mul", number(g, 0.5), spelled(g, "Add", g.op("Tanh", [u]), number(g, 1.0))
    ),
    "exp of a negative number": lambda g, u, v: decay(g, u),
    "one minus a decay": lambda g, u, v: spelled(g, "Sub", number(g, 1.0), decay(g, u)),
    "root of one minus a square": lambda g, u, v: g.op(
        "Sqrt", [spelled(g, "Sub", number(g, 1.0), squared(g, decay(g, u)))]
    ),
    "a share of two gates": lambda g, u, v: spelled(
        g, "Div", *(lambda f, i: (f, g.op("Add", [f, i])))(g.op("Sigmoid", [u]), g.op("Sigmoid", [v]))
    ),
    "a share of exponentials": lambda g, u, v: spelled(
        g, "Div", *(lambda f, i: (i, g.op("Add", [f, i])))(g.op("Exp", [u]), g.op("Exp", [v]))
    ),
    "a square of tanh": lambda g, u, v: squared(g, g.op("Tanh", [u])),
    "a product of two gates": lambda g, u, v: spelled(g, "Mul", g.op("Sigmoid", [u]), g.op("Sigmoid", [v])),
    "the smaller of one and a positive number": lambda g, u, v: spelled(g, "Min", number(g, 1.0), g.op("Relu", [u])),
}
OTHERS: dict[str, Write] = {
    "tanh": lambda g, u, v: g.op("Tanh", [u]),
    "tanh + 1": lambda g, u, v: spelled(g, "Add", g.op("Tanh", [u]), number(g, 1.0)),
    "a difference of gates": lambda g, u, v: spelled(g, "Sub", g.op("Sigmoid", [u]), g.op("Sigmoid", [v])),
    "exp": lambda g, u, v: g.op("Exp", [u]),
    "exp of a positive number": lambda g, u, v: decay(g, u, 1.0),
    "a quotient of two gates": lambda g, u, v: spelled(g, "Div", g.op("Sigmoid", [u]), g.op("Sigmoid", [v])),
    "a share of signed numbers": lambda g, u, v: spelled(g, "Div", u, g.op("Add", [u, v])),
    "the larger of one and a number": lambda g, u, v: spelled(g, "Max", number(g, 1.0), u),
    "a linear map": lambda g, u, v: spelled(g, "MatMul", u, g.constant(np.eye(3) / 9, "weights")),
}


def graph_of(write: Write) -> tuple[GraphBuilder, str]:
    g = GraphBuilder(np.float32, 20)
    return g, write(g, g.input("u", ["N", 3]), g.input("v", ["N", 3]))


@pytest.mark.parametrize("name", FRACTIONS | OTHERS)
def test_a_fraction_is_recognised_and_lies_between_0_and_1(name: str) -> None:
    g, value = graph_of((FRACTIONS | OTHERS)[name])
    proto = g.model(value, ["N", 3])
    graph = build(proto)
    assert is_fraction(graph, graph.producers(), value) == (name in FRACTIONS)
    if name in FRACTIONS:
        rng = np.random.default_rng(0)
        x = np.concatenate([3 * rng.standard_normal((500, 3)), 30 * rng.standard_normal((500, 3))]).astype(np.float32)
        (y,) = run(proto, {"u": x, "v": x[::-1].copy()})
        seen = y[np.isfinite(y)]
        assert np.abs(np.clip(seen, 0, 1) - seen).max() < 1e-6  # ONNX Runtime's tanh may round beyond 1
        assert np.ptp(seen) > 0.5


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize("name", FRACTIONS)
def test_a_fraction_is_the_gate_of_a_product_and_so_is_a_multiple_of_it(name: str, factor: float) -> None:
    g, value = graph_of(FRACTIONS[name])
    signal = g.input("signal", ["N", 3])
    gate = value if factor == 1 else g.op("Mul", [value, number(g, factor)])
    model = lx.load(g.model(g.reduce("sum", g.op("Mul", [signal, gate], "product"), 1, "total"), ["N"]))
    (node,) = (n for n in model.report().nodes if n.name == "product")
    assert (node.signal, node.gate) == ("signal", gate)
    assert "the gate lies between 0 and 1" in node.rule


def test_a_step_size_is_a_gate_where_there_is_no_other() -> None:
    for other, gate in (("Identity", "softplus"), ("Sigmoid", "sigmoid"), ("Exp", "exp")):
        g = GraphBuilder(np.float32, 20)
        u, v = g.input("u", ["N", 3]), g.input("v", ["N", 3])
        product = g.op("Mul", [g.op("Softplus", [u]), g.op(other, [v])], "product")
        model = lx.load(g.model(g.reduce("sum", product, 1, "total"), ["N"]))
        (node,) = (n for n in model.report().nodes if n.name == "product")
        assert node.gate.startswith(gate)


@pytest.mark.parametrize("op", ["MatMul", "Einsum"])
@pytest.mark.parametrize(("activation", "added", "reached"), [("Softmax", "v", False), ("Sigmoid", "v", True),
                                                              ("Softmax", "", True)])  # fmt: skip
def test_a_mean_of_constants_beside_a_signal_is_a_constant(op: str, activation: str, added: str, reached: bool) -> None:
    """As the vectors of relative positions in attention are. A dense layer of sigmoids is none, and where nothing is
    added, the weights are all that can be explained.
    """
    rng = np.random.default_rng(4)
    g = GraphBuilder(np.float32, 20)
    u = g.input("u", ["N", 3])
    vectors = g.constant(rng.normal(size=(3, 2)), "vectors")
    attributes = {"equation": "nk,kd->nd"} if op == "Einsum" else {}
    y = g.op(op, [g.op("Identity", [g.op(activation, [u])]), vectors], "mean", **attributes)
    feeds = {"u": rng.normal(size=(4, 3)).astype(np.float32)}
    if added:
        y = g.op("Add", [y, g.input(added, ["N", 2])])
        feeds[added] = rng.normal(size=(4, 2)).astype(np.float32)
    e = lx.load(g.model(y, ["N", 2])).explain(feeds, lx.LRP(), lx.Target(index=1))
    assert np.all(e.relevance["u"] != 0) if reached else not e.relevance["u"].any()
    if not reached:
        np.testing.assert_allclose(e.relevance["v"].sum(axis=1) + e.ledger.absorbed, e.explained, rtol=1e-5)


def test_the_caller_decides() -> None:
    g, value = graph_of(FRACTIONS["one minus a decay"])
    proto = g.model(g.reduce("sum", g.op("Mul", [g.input("s", ["N", 3]), value], "product"), 1, "total"), ["N"])
    for slot, why in ((0, "set by the caller"), (None, "each operand gets half")):
        (node,) = (n for n in lx.load(proto, gates={"product": slot}).report().nodes if n.name == "product")
        assert node.gate == ("s" if slot == 0 else "")
        assert why in node.rule


@pytest.mark.parametrize("name", ["scan/body/cell_mul_14", "cell_mul_14"])
def test_the_caller_decides_in_a_body_too(name: str) -> None:
    """By the name in the report, or by the node's own."""
    model = lx.load(recurrent_kind("selective_scan", "scan"), gates={name: 1})
    (node,) = (n for n in model.report().nodes if n.name == "scan/body/cell_mul_14")
    assert node.rule == "product rule; set by the caller"


def test_gates_that_do_not_fit_are_errors() -> None:
    proto = recurrent_kind("selective_scan", "scan")
    with pytest.raises(lx.ModelError, match="the model has no node 'nothing'"):
        lx.load(proto, gates={"nothing": 0})
    with pytest.raises(lx.ModelError, match="'cell_mul_14' is 2, expected 0, 1 or None"):
        lx.load(proto, gates={"cell_mul_14": 2})
