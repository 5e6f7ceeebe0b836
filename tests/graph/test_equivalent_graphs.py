# SPDX-License-Identifier: Apache-2.0
"""A formula that exporters spell in several ways gets one relevance: an identity changes no answer."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.graph.float64 import to_float64
from lstm_explain.program.engine import Engine, Question, in_float64
from tests.graph_builder import GraphBuilder
from tests.reference.textbook import PRODUCT_RULES

BATCH, WIDTH = 3, 4
SETTINGS = [lx.LRP(rule, 1e-2, share) for rule, share in itertools.product(PRODUCT_RULES, (0.0, 0.4))]
SETTINGS += [lx.LRP(), lx.LRP("half", bias_factor=0.4)]

HERE = Path(__file__).parents[1]
EXPORTED = [p.parent for folder in ("cases", "exports") for p in sorted((HERE / folder).glob("*/model.dynamo.onnx"))]


class Parts:
    """The parts of formulas: x [B, 4]; its linear maps a, b, c with biases; gates; weights that fit x."""

    def __init__(self, g: GraphBuilder) -> None:
        rng = np.random.default_rng(7)
        self.g, self.x = g, g.input("x", ["B", WIDTH])
        self.weights = [g.constant(rng.standard_normal((WIDTH, WIDTH)), f"W{i}") for i in range(4)]
        self.biases = [g.constant(rng.standard_normal(WIDTH) / 2, f"b{i}") for i in range(4)]

    def product(self, i: int) -> str:
        return self.g.op("MatMul", [self.x, self.weights[i]])

    def dense(self, i: int) -> str:
        return self.g.op("Add", [self.product(i), self.biases[i]])

    def number(self, value: float) -> str:
        return self.g.constant(np.array(value), f"n{len(self.g.initializers)}")

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.g.op(op, list(inputs), **attributes)

    def gate(self, i: int = 0) -> str:
        return self.op("Sigmoid", self.dense(i))

    def tanh(self, i: int = 1) -> str:
        return self.op("Tanh", self.dense(i))


def bounded_softplus(p: Parts, x: str) -> str:
    return p.op("Where", p.op("Greater", x, p.number(20.0)), x, p.op("Softplus", x))


Formula = Callable[[Parts], str]
LOGISTIC: dict[str, Formula] = {
    "an operator": lambda p: p.op("Sigmoid", p.dense(0)),
    "a reciprocal": lambda p: p.op("Reciprocal", p.op("Add", p.number(1.0), p.op("Exp", p.op("Neg", p.dense(0))))),
    "a quotient": lambda p: p.op(
        "Div", p.number(1.0), p.op("Add", p.op("Exp", p.op("Neg", p.dense(0))), p.number(1.0))
    ),
}
IDENTITIES: dict[str, dict[str, Formula]] = {
    "two products and a sum": {
        "added": lambda p: p.op("Add", p.product(0), p.dense(1)),
        "the other way round": lambda p: p.op("Add", p.dense(1), p.product(0)),
        "fused": lambda p: p.op("Gemm", p.x, p.weights[0], p.dense(1)),
        "fused twice": lambda p: p.op("Gemm", p.x, p.weights[0], p.op("Gemm", p.x, p.weights[1], p.biases[1])),
        "the bias last": lambda p: p.op("Add", p.op("Add", p.product(0), p.product(1)), p.biases[1]),
        "three terms": lambda p: p.op("Sum", p.product(1), p.biases[1], p.product(0)),
    },
    "a scaled sum": {
        "by factors": lambda p: p.op(
            "Add", p.op("Mul", p.product(0), p.number(0.5)), p.op("Mul", p.dense(1), p.number(2.0))
        ),
        "by a fused product": lambda p: p.op("Gemm", p.x, p.weights[0], p.dense(1), alpha=0.5, beta=2.0),
        "by a quotient": lambda p: p.op(
            "Add", p.op("Div", p.product(0), p.number(2.0)), p.op("Div", p.dense(1), p.number(0.5))
        ),
    },
    "a difference": {
        "subtracted": lambda p: p.op("Sub", p.dense(0), p.dense(1)),
        "a negative added": lambda p: p.op("Add", p.dense(0), p.op("Neg", p.dense(1))),
        "times minus one": lambda p: p.op("Add", p.dense(0), p.op("Mul", p.dense(1), p.number(-1.0))),
    },
    "three terms": {
        "left first": lambda p: p.op("Add", p.op("Add", p.dense(0), p.dense(1)), p.dense(2)),
        "right first": lambda p: p.op("Add", p.dense(0), p.op("Add", p.dense(1), p.dense(2))),
        "at once": lambda p: p.op("Sum", p.dense(0), p.dense(1), p.dense(2)),
    },
    "a half of a sum": {  # not of each term: a stabiliser is absolute
        "multiplied": lambda p: p.op("Mul", p.op("Add", p.dense(0), p.dense(1)), p.number(0.5)),
        "divided": lambda p: p.op("Div", p.op("Add", p.dense(0), p.dense(1)), p.number(2.0)),
    },
    "a gated signal": {
        "gate first": lambda p: p.op("Mul", p.gate(), p.tanh()),
        "signal first": lambda p: p.op("Mul", p.tanh(), p.gate()),
        **{f"the gate {how}": (lambda p, f=f: p.op("Mul", f(p), p.tanh())) for how, f in LOGISTIC.items()},
    },
    "a gate's complement": {
        "one minus": lambda p: p.op("Mul", p.op("Sub", p.number(1.0), p.gate()), p.tanh()),
        "a negative and one": lambda p: p.op("Mul", p.op("Add", p.op("Neg", p.gate()), p.number(1.0)), p.tanh()),
        "one and a negative": lambda p: p.op("Mul", p.op("Add", p.number(1.0), p.op("Neg", p.gate())), p.tanh()),
        "times minus one": lambda p: p.op(
            "Mul", p.op("Add", p.op("Mul", p.gate(), p.number(-1.0)), p.number(1.0)), p.tanh()
        ),
    },
    "a rectifier": {
        "an operator": lambda p: p.op("Relu", p.dense(0)),
        "a maximum": lambda p: p.op("Max", p.dense(0), p.number(0.0)),
        "clipped": lambda p: p.op("Clip", p.dense(0), p.number(0.0)),
    },
    "a softplus": {
        "an operator": lambda p: p.op("Softplus", p.dense(0)),
        "spelled out": lambda p: p.op("Log", p.op("Add", p.op("Exp", p.dense(0)), p.number(1.0))),
        "one first": lambda p: p.op("Log", p.op("Add", p.number(1.0), p.op("Exp", p.dense(0)))),
    },
    "a step size": {
        "an operator": lambda p: p.op("Mul", p.op("Softplus", p.dense(0)), p.tanh()),
        "with torch's bound": lambda p: p.op("Mul", bounded_softplus(p, p.dense(0)), p.tanh()),
    },
    "a square": {
        "a power": lambda p: p.op("Pow", p.dense(0), p.number(2.0)),
        "a product": lambda p: (lambda a: p.op("Mul", a, a))(p.dense(0)),
    },
    "a root": {
        "an operator": lambda p: p.op("Sqrt", p.op("Exp", p.dense(0))),
        "a power": lambda p: p.op("Pow", p.op("Exp", p.dense(0)), p.number(0.5)),
    },
    "halves that change places": {
        "split": lambda p: p.op("Concat", *p.g.split(p.dense(0), 2, 2, 1)[::-1], axis=1),
        "gathered": lambda p: p.op("Gather", p.dense(0), p.g.ints(2, 3, 0, 1), axis=1),
        "sliced": lambda p: (
            lambda a: p.op(
                "Concat",
                p.op("Slice", a, p.g.ints(2), p.g.ints(4), p.g.ints(1)),
                p.op("Slice", a, p.g.ints(0), p.g.ints(2), p.g.ints(1)),
                axis=1,
            )
        )(p.dense(0)),
    },
    "a dense layer": {
        "added": lambda p: p.dense(0),
        "fused": lambda p: p.op("Gemm", p.x, p.weights[0], p.biases[0]),
        "an equation": lambda p: p.op("Add", p.op("Einsum", p.x, p.weights[0], equation="bi,ij->bj"), p.biases[0]),
        "plus nothing": lambda p: p.op("Add", p.dense(0), p.number(0.0)),
        "times one": lambda p: p.op("Mul", p.dense(0), p.number(1.0)),
        "the bias subtracted": lambda p: p.op("Sub", p.product(0), p.op("Neg", p.biases[0])),
    },
}
SINGLE = {"a softplus", "a step size"}  # ONNX Runtime has the operator in float32 only
PAIRS = [(name, how) for name, ways in IDENTITIES.items() for how in list(ways)[1:]]


def explained(formula: Formula, method: lx.Method, dtype: Any) -> lx.Explanation:
    """The formula between the tanh of a dense layer and another dense layer."""
    g = GraphBuilder(dtype, 17)
    parts = Parts(g)
    rng = np.random.default_rng(11)
    before = g.op("MatMul", [parts.x, g.constant(rng.standard_normal((WIDTH, WIDTH)), "before")])
    parts.x = g.op("Tanh", [before])
    behind = g.constant(rng.standard_normal((WIDTH, 2)), "behind")
    proto = g.model(g.op("MatMul", [g.op("Tanh", [formula(parts)]), behind]), ["B", 2], rename="y")
    x = np.random.default_rng(5).standard_normal((BATCH, WIDTH)).astype(dtype)
    return lx.load(proto).explain({"x": x}, method, lx.Target(index=0))


@pytest.mark.parametrize("method", SETTINGS, ids=lambda m: f"{m.product_rule}-{m.bias_factor}")
@pytest.mark.parametrize(("name", "how"), PAIRS, ids=lambda word: word.replace(" ", "-"))
def test_equivalent_formulas_have_equal_relevance(name: str, how: str, method: lx.Method) -> None:
    first, *_ = IDENTITIES[name].values()
    single = name in SINGLE
    dtype, close = (np.float32, 1e-4) if single else (np.float64, 1e-8)
    expected, received = explained(first, method, dtype), explained(IDENTITIES[name][how], method, dtype)
    np.testing.assert_allclose(received.explained, expected.explained, rtol=close)
    scale = np.abs(expected.relevance["x"]).max()
    np.testing.assert_allclose(received.relevance["x"], expected.relevance["x"], rtol=0, atol=close * scale)
    np.testing.assert_allclose(received.ledger.absorbed, expected.ledger.absorbed, rtol=0, atol=close * scale)


@functools.cache
def exported(folder: Path) -> tuple[lx.Model, lx.Model]:
    return lx.load(folder / "model.legacy.onnx"), lx.load(folder / "model.dynamo.onnx")


@pytest.mark.parametrize("rule", PRODUCT_RULES)
@pytest.mark.parametrize("folder", EXPORTED, ids=lambda folder: folder.name)
def test_both_exports_of_a_network_are_explained_alike(folder: Path, rule: Any) -> None:
    legacy, dynamo = exported(folder)
    with np.load(folder / "input.npz") as stored:
        inputs = {name: stored[name] for name in legacy.inputs}
    one, other = (model.explain(inputs, lx.LRP(rule), lx.Target(index=0)) for model in (legacy, dynamo))
    scale = max(float(np.abs(array).max()) for array in one.relevance.values())
    for name, array in one.relevance.items():
        np.testing.assert_allclose(other.relevance[name], array, rtol=0, atol=1e-5 * scale)
    assert [f.check for f in one.findings] == [f.check for f in other.findings]


@pytest.mark.parametrize("folder", EXPORTED, ids=lambda folder: folder.name)
def test_both_exports_run_in_double(folder: Path) -> None:
    """Whatever float32 cannot explain is computed again in float64, which takes a graph that is float64 throughout."""
    for model in exported(folder):
        graph = to_float64(model._engine.graph)
        with np.load(folder / "input.npz") as stored:
            inputs = in_float64({name: stored[name] for name in model.inputs})
        head = model.head_of(model.default_output)
        Engine(graph).explain(inputs, Question(lx.LRP("half"), model.default_output, head, [lx.Target(index=0)], ()))
