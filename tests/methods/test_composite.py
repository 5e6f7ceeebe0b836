# SPDX-License-Identifier: Apache-2.0
"""Composites: every rule equals its formula written as messages, and the laws between the rules hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.repository.text_notation import parse_composite
from tests.builders import recurrent_model
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder

EPS = 1e-6
RULES = [
    lx.Epsilon(0.1),
    lx.Gamma(0.3),
    lx.ZPlus(),
    lx.AlphaBeta(2.0, 1.0),
    lx.AlphaBeta(1.0, 0.0),
    lx.Flat(),
    lx.ZBox(-3.0, 4.0),
    lx.WSquare(),
]


def stab(z: Any, eps: float) -> Any:
    return z + np.where(z >= 0, eps, -eps)


def messages(rule: lx.Rule, x: Any, W: Any, b: Any, r: Any) -> Any:
    """R [inputs] of one dense layer z = x W + b, from the matrix of messages."""
    eps = rule.epsilon if isinstance(rule, lx.Epsilon) else EPS
    parts = x[:, None] * W

    def share(part: Any, bias: Any) -> Any:
        return part / stab(part.sum(axis=0) + bias, eps)

    match rule:
        case lx.Epsilon():
            q = share(parts, b)
        case lx.ZPlus():
            q = share(np.maximum(parts, 0), np.maximum(b, 0))
        case lx.AlphaBeta(alpha, beta):
            q = alpha * share(np.maximum(parts, 0), np.maximum(b, 0))
            q = q - beta * share(np.minimum(parts, 0), np.minimum(b, 0))
        case lx.Gamma(g):
            up = share(parts + g * np.maximum(parts, 0), b + g * np.maximum(b, 0))
            down = share(parts + g * np.minimum(parts, 0), b + g * np.minimum(b, 0))
            q = np.where(parts.sum(axis=0) + b >= 0, up, down)
        case lx.Flat():
            q = share(np.ones_like(parts), 0.0)
        case lx.ZBox(low, high):
            q = share(parts - low * np.maximum(W, 0) - high * np.minimum(W, 0), 0.0)
        case lx.WSquare():
            q = W**2 / (W**2).sum(axis=0)
    return q @ r


def dense(spelling: str, seed: int = 61) -> tuple[lx.Model, Any, tuple[Any, ...]]:
    """x -> dense -> Tanh -> Gemm, in float64."""
    rng = np.random.default_rng(seed)
    W, b, V, c = rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=(5, 3)), rng.normal(size=3)
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 4])
    if spelling == "Gemm":
        z = g.op("Gemm", [x, g.constant(W, "W"), g.constant(b, "b")], "first")
    elif spelling == "transB":
        z = g.op("Gemm", [x, g.constant(W.T, "W"), g.constant(b, "b")], "first", transB=1)
    else:
        z = g.op("Add", [g.op("MatMul", [x, g.constant(W, "W")], "first"), g.constant(b, "b")])
    y = g.op("Gemm", [g.op("Tanh", [z]), g.constant(V, "V"), g.constant(c, "c")], "last")
    return lx.load(g.model(y, ["B", 3])), rng.normal(size=(2, 4)), (W, b, V, c)


@pytest.mark.parametrize("spelling", ["Gemm", "transB", "MatMul+Add"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_rule_of_a_dense_layer(rule: lx.Rule, spelling: str) -> None:
    model, x, (W, b, V, c) = dense(spelling)
    composite = lx.Composite({"first": rule}) if spelling != "transB" else lx.Composite({"last": lx.Epsilon(EPS)}, rule)
    e = model.explain({"x": x}, lx.LRP(epsilon=EPS, composite=composite), lx.Target(index=1))
    for k in range(2):
        h = np.tanh(x[k] @ W + b)
        above = messages(lx.Epsilon(EPS), h, V, c, np.eye(3)[1] * (h @ V + c))
        np.testing.assert_allclose(e.relevance["x"][k], messages(rule, x[k], W, b, above), rtol=1e-8, atol=1e-10)
    ledger = e.ledger
    np.testing.assert_allclose(ledger.inputs + ledger.absorbed, e.explained, rtol=1e-9)
    np.testing.assert_allclose(ledger.residual, 0, atol=1e-9)
    assert ledger.by_node.keys() == {"first", "last"}


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "dense"])
def test_rules_by_operator_and_by_kind(op: str) -> None:
    model, x, _ = dense("MatMul+Add")
    names = {"MatMul": ["first"], "Gemm": ["last"], "dense": ["first", "last"]}[op]
    by_name = lx.Composite(dict.fromkeys(names, lx.Gamma(0.5)))
    by_op = lx.Composite({op: lx.Gamma(0.5)})
    one, other = (
        model.explain({"x": x}, lx.LRP(epsilon=1e-3, composite=c), lx.Target(index=0)) for c in (by_name, by_op)
    )
    np.testing.assert_array_equal(one.relevance["x"], other.relevance["x"])
    plain = model.explain({"x": x}, lx.LRP(epsilon=1e-3), lx.Target(index=0))
    assert np.abs(plain.relevance["x"] - one.relevance["x"]).max() > 1e-3


def convolution(op: str) -> tuple[lx.Model, dict[str, Any]]:
    rng = np.random.default_rng(62)
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 3, 6])
    shape = (4, 3, 3) if op == "Conv" else (3, 4, 3)
    weights = [g.constant(rng.normal(size=shape), "W"), g.constant(rng.normal(size=4), "b")]
    z = g.op("Relu", [g.op(op, [x, *weights], "conv", pads=[1, 1], strides=[2])])
    pooled = g.op("ReduceMean", [z], axes=[2], keepdims=0)
    proto = g.model(g.op("Gemm", [pooled, g.constant(rng.normal(size=(4, 2)), "V")], "last"), ["B", 2])
    return lx.load(proto), {"x": rng.normal(size=(2, 3, 6)).astype(np.float32)}


def explained(op: str, rule: lx.Rule, **lrp: Any) -> lx.Explanation:
    model, feeds = convolution(op)
    composite = lx.Composite({"convolution": rule})
    return model.explain(feeds, lx.LRP(composite=composite, **{"epsilon": 1e-3, **lrp}), lx.Target(index=0))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_convolution_is_the_dense_layer_that_it_unrolls_to(rule: lx.Rule, op: str) -> None:
    """Its matrix, found by feeding unit vectors; padding has no input that could take relevance."""
    model, feeds = convolution(op)
    e = explained(op, rule, epsilon=EPS)
    inner = model.explain(feeds, lx.LRP(epsilon=EPS), lx.Target(index=0), capture=["conv_out"])
    proto_z = lambda x: conv_outputs(op, x)  # noqa: E731
    bias = proto_z(np.zeros((1, 3, 6)))[0].reshape(-1)
    W = np.stack([proto_z(row.reshape(1, 3, 6))[0].reshape(-1) - bias for row in np.eye(18)])
    for k in range(2):
        r = inner.captured["conv_out"][k].reshape(-1).astype(np.float64)
        expected = messages(rule, feeds["x"][k].reshape(-1).astype(np.float64), W, bias, r)
        if isinstance(rule, lx.Flat):  # equal shares of the inputs within the kernel, not of all
            continue
        check_same(e.relevance["x"][k].reshape(-1), expected, 2e-3)
    np.testing.assert_allclose(
        e.ledger.inputs + e.ledger.absorbed + e.ledger.residual, e.explained, rtol=1e-5, atol=1e-6
    )
    assert (np.abs(e.ledger.residual) < 1e-5).all()


def conv_outputs(op: str, x: Any) -> Any:
    """The convolution alone, in NumPy."""
    rng = np.random.default_rng(62)
    W, b = rng.normal(size=(4, 3, 3) if op == "Conv" else (3, 4, 3)), rng.normal(size=4)
    W, b = W.astype(np.float32).astype(float), b.astype(np.float32).astype(float)
    if op == "Conv":
        padded = np.pad(x, [(0, 0), (0, 0), (1, 1)])
        columns = [np.einsum("bcl,ocl->bo", padded[:, :, t : t + 3], W) for t in range(0, 6, 2)]
        return np.stack(columns, axis=2) + b[None, :, None]
    full = np.zeros((len(x), 4, 13))
    for t in range(6):
        full[:, :, 2 * t : 2 * t + 3] += np.einsum("bc,col->bol", x[:, :, t], W)
    return full[:, :, 1:-1] + b[None, :, None]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_laws_between_rules(op: str) -> None:
    epsilon = explained(op, lx.Epsilon(1e-3)).relevance["x"]
    check_same(explained(op, lx.Gamma(0.0)).relevance["x"], epsilon, 1e-5)
    check_same(explained(op, lx.Gamma(1e-7)).relevance["x"], epsilon, 1e-4)
    plus = explained(op, lx.ZPlus()).relevance["x"]
    np.testing.assert_array_equal(explained(op, lx.AlphaBeta(1.0, 0.0)).relevance["x"], plus)
    model, feeds = convolution(op)
    plain = model.explain(feeds, lx.LRP(epsilon=1e-3), lx.Target(index=0)).relevance["x"]
    check_same(epsilon, plain, 1e-5)


def test_flat_shares_do_not_depend_on_values() -> None:
    model, x, (W, *_) = dense("Gemm")
    e = model.explain({"x": x}, lx.LRP(epsilon=1e-3, composite=lx.Composite(first=lx.Flat())), lx.Target(index=0))
    assert np.ptp(e.relevance["x"], axis=1).max() < 1e-12
    assert W.shape == (4, 5)


@pytest.mark.parametrize("size", [1.0, 1e-6])
@pytest.mark.parametrize("lrp", [{"epsilon": 1e-3}, {"layer_stabiliser": 0.5}], ids=str)
def test_w_square_conserves_relevance_at_any_size_of_the_weights(lrp: Any, size: float) -> None:
    """The relevance of the layer's output arrives at the inputs, whatever the stabiliser; the inputs do not matter."""
    rng = np.random.default_rng(64)
    g = GraphBuilder(np.float64, 17)
    W, b = rng.normal(size=(4, 3)) * size, rng.normal(size=3)
    x = g.input("x", ["B", 4])
    z = g.op("Gemm", [x, g.constant(W, "W"), g.constant(b, "b")], "only")
    model = lx.load(g.model(z, ["B", 3]))
    inputs = np.stack([rng.normal(size=4), np.zeros(4)])
    e = model.explain({"x": inputs}, lx.LRP(composite=lx.Composite(first=lx.WSquare()), **lrp), lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"].sum(axis=1), inputs @ W[:, 1] + b[1], rtol=1e-9)
    shares = e.relevance["x"] / e.explained[:, None]
    np.testing.assert_allclose(shares, np.tile(W[:, 1] ** 2 / (W[:, 1] ** 2).sum(), (2, 1)), rtol=1e-9)


def test_w_square_equals_the_formula_of_zennit() -> None:
    """zennit's WSquare(zero_params="bias"): the gradient at an input of ones, with squared weights and without bias."""
    model, x, (W, b, V, c) = dense("Gemm")
    composite = lx.Composite({"last": lx.Epsilon(1e-6)}, lx.WSquare())
    e = model.explain({"x": x}, lx.LRP(epsilon=1e-6, composite=composite), lx.Target(index=1))
    h = np.tanh(x @ W + b)
    upper = stab(h @ V + c, 1e-6)
    above = h * ((h @ V + c) / upper * np.eye(3)[1] @ V.T)
    ones, squares = np.ones_like(x), W**2
    expected = ones * (above / stab(ones @ squares, 1e-6) @ squares.T)
    np.testing.assert_allclose(e.relevance["x"], expected, rtol=1e-4)


@pytest.mark.parametrize("spelling", ["Gemm", "transB", "MatMul+Add"])
def test_a_layer_rule_uses_the_relative_stabiliser_of_layers(spelling: str) -> None:
    """Gamma of 0 increases nothing, so it equals the rule of a layer without a rule of its own."""
    model, x, _ = dense(spelling)
    for beta in (0.02, 0.5):
        plain = model.explain({"x": x}, lx.LRP(layer_stabiliser=beta), lx.Target(index=1))
        composite = lx.Composite({"first": lx.Gamma(0.0), "last": lx.Gamma(0.0)})
        ruled = model.explain({"x": x}, lx.LRP(layer_stabiliser=beta, composite=composite), lx.Target(index=1))
        np.testing.assert_allclose(ruled.relevance["x"], plain.relevance["x"], rtol=1e-9)


def test_layers_around_an_lstm() -> None:
    """`first` does not apply to the layer after the LSTM; with a rule there, the ledger closes; the LSTM uses its own
    epsilon.
    """
    rng = np.random.default_rng(63)
    built = recurrent_model(rng, batch_first=True)
    feeds, model = built.feeds(rng, T=4), lx.load(built.model)
    target = lx.Target(index=0)
    plain = model.explain(feeds, lx.LRP(epsilon=1e-3), target)
    same = model.explain(feeds, lx.LRP(epsilon=1e-3, composite=lx.Composite(first=lx.Flat())), target)
    np.testing.assert_array_equal(same.relevance["x"], plain.relevance["x"])
    for rule in RULES:
        e = model.explain(feeds, lx.LRP(epsilon=1e-3, composite=lx.Composite({"dense": rule})), target)
        assert np.abs(e.relevance["x"] - plain.relevance["x"]).max() > 1e-4
        assert (np.abs(e.ledger.residual) <= 1e-4 * np.abs(e.explained)).all()
    own = model.explain(feeds, lx.LRP(epsilon=1e-3, composite=lx.Composite({"LSTM": lx.Epsilon(0.2)})), target)
    everywhere = model.explain(feeds, lx.LRP(epsilon=0.2, composite=lx.Composite({"dense": lx.Epsilon(1e-3)})), target)
    check_same(own.relevance["x"], everywhere.relevance["x"], 1e-4)


def test_a_product_of_two_computed_values_is_no_dense_layer() -> None:
    """The rule of dense layers leaves it alone, as a rule for both layers by name does; by name, it is refused."""
    rng = np.random.default_rng(64)
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 3, 4])
    one, other = (g.op("MatMul", [x, g.constant(rng.normal(size=(4, 3)), f"W{n}")], n) for n in ("one", "other"))
    model = lx.load(g.model(g.op("MatMul", [one, other], "both"), ["B", 3, 3]))

    def relevance(composite: lx.Composite) -> Any:
        feeds = {"x": np.random.default_rng(65).normal(size=(2, 3, 4))}
        return model.explain(feeds, lx.LRP(composite=composite), lx.Target(index=(1, 2))).relevance["x"]

    by_kind = relevance(lx.Composite({"dense": lx.ZPlus()}))
    np.testing.assert_array_equal(by_kind, relevance(lx.Composite({"one": lx.ZPlus(), "other": lx.ZPlus()})))
    assert np.abs(by_kind - relevance(lx.Composite({"one": lx.ZPlus()}))).max() > 1e-4
    with pytest.raises(lx.MethodError, match=r"'both' .* is no dense"):
        relevance(lx.Composite({"both": lx.ZPlus()}))


@pytest.mark.parametrize(
    ("composite", "says"),
    [
        (lambda: lx.Composite({"nothing": lx.ZPlus()}), "nothing"),
        (lambda: lx.Composite({"Tanh": lx.ZPlus()}), "Tanh"),
        (lambda: lx.Composite({"first": "zplus"}), "first"),  # type: ignore[dict-item]
        (lambda: lx.Composite({"first": lx.AlphaBeta(2.0, 2.0)}), "alpha"),
        (lambda: lx.Composite({"first": lx.Gamma(-1.0)}), "gamma"),
        (lambda: lx.Composite({"first": lx.ZBox(1.0, 1.0)}), "low"),
        (lambda: lx.Composite({"first": lx.Epsilon(float("nan"))}), "epsilon"),
    ],
)
def test_invalid_composites_are_refused(composite: Any, says: str) -> None:
    model, x, _ = dense("Gemm")
    with pytest.raises(lx.MethodError, match=says) as error:
        model.explain({"x": x}, lx.LRP(epsilon=1e-3, composite=composite()), lx.Target(index=0))
    assert error.value.field == "method.composite"


def test_composites_survive_the_round_trip_through_text() -> None:
    rules = [
        lx.Epsilon(0.5),
        lx.Gamma(),
        lx.ZPlus(),
        lx.AlphaBeta(3.0, 2.0),
        lx.Flat(),
        lx.ZBox(-1.5, 1e-7),
        lx.WSquare(),
    ]
    composite = lx.Composite({f"/node {i}": rule for i, rule in enumerate(rules)} | {"a=b": lx.Flat()}, lx.Flat())
    assert parse_composite(str(composite)) == composite
    assert parse_composite("dense=gamma ; Conv = alpha_beta(2,1);") == lx.Composite(
        {"dense": lx.Gamma(), "Conv": lx.AlphaBeta(2, 1)}
    )
