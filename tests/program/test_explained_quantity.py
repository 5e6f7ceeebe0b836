# SPDX-License-Identifier: Apache-2.0
"""For an output that ends in an activation, the answer says whether the value before it was explained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import lstm_explain as lx
from tests.conformance.models import probabilities
from tests.graph_builder import GraphBuilder

RNG = np.random.default_rng(16)
W = RNG.normal(size=(4, 3))
X = RNG.normal(size=(2, 4)).astype(np.float32)
Z = X.astype(np.float64) @ W  # before the activation
Numbers = np.ndarray


def softmax(z: Numbers) -> Numbers:
    powers = np.exp(z)
    return powers / powers.sum(axis=-1, keepdims=True)


def plain(g: GraphBuilder, z: str) -> str:
    return g.op("Identity", [z])


def by(*ops: str) -> Callable[[GraphBuilder, str], str]:
    """Applies these operators one after the other."""

    def build(g: GraphBuilder, z: str) -> str:
        for op in ops:
            z = g.op(op, [z])
        return z

    return build


def viewed(g: GraphBuilder, z: str) -> str:
    """The classes are the first axis of the output."""
    return g.op("Transpose", [g.op("Softmax", [z], axis=-1)], perm=[1, 0])


def retyped(g: GraphBuilder, z: str) -> str:
    """Converts types as a function of PyTorch's exporter does."""
    return g.op("CastLike", [g.op("Softmax", [z], axis=-1), g.constant(np.zeros(1), "like")])


ENDINGS = {
    "plain": (plain, "output", Z),
    "Softmax": (by("Softmax"), "logit", softmax(Z)),
    "Sigmoid": (by("Sigmoid"), "logit", 1 / (1 + np.exp(-Z))),
    "LogSoftmax": (by("LogSoftmax"), "score", np.log(softmax(Z))),
    "Log of Softmax": (by("Softmax", "Log"), "score", np.log(softmax(Z))),
    "Softmax, then transposed": (viewed, "logit", softmax(Z)),
    "Softmax, then in another type": (retyped, "logit", softmax(Z)),
    "Softmax, then Dropout": (by("Softmax", "Dropout"), "logit", softmax(Z)),
    "Exp": (by("Exp"), "score", np.exp(Z)),
    "Exp of LogSoftmax": (by("LogSoftmax", "Exp"), "logit", softmax(Z)),
    "Softplus": (by("Softplus"), "score", np.log1p(np.exp(Z))),
    "Tanh": (by("Tanh"), "output", np.tanh(Z)),
}
METHODS = [lx.LRP(), lx.LRP("half"), lx.Gradient(), lx.IntegratedGradients(steps=2), lx.Occlusion()]


def built(ending: Callable[[GraphBuilder, str], str]) -> lx.Model:
    g = GraphBuilder(np.float32, 17)
    z = g.op("MatMul", [g.input("x", ["B", 4]), g.constant(W, "W")])
    return lx.load(g.model(ending(g, z), ["B", 3] if ending is not viewed else [3, "B"], rename="p"))


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_quantity_describes_the_explained_value(ending: str, method: lx.Method) -> None:
    build, quantity, output = ENDINGS[ending]
    model, axis = built(build), 1 if build is viewed else 0
    for rows in (slice(0, 1), slice(0, 2)):
        e = model.explain({"x": X[rows]}, method, lx.Target(index=1, batch_axis=axis))
        assert e.explained_quantity == quantity
        expected = output if quantity == "output" else Z
        np.testing.assert_allclose(e.explained, expected[rows, 1], rtol=1e-5)


def test_repeated_requests_report_the_same_quantity() -> None:
    """From the third time on, a request runs a program that is specialised for its shapes."""
    built, target = probabilities(), lx.Target(index=1)
    model, x = lx.load(built.model), RNG.standard_normal((1, 4, 4)).astype(np.float32)
    for _ in range(4):
        e = model.explain({"x": x}, lx.LRP(), target)
        assert e.explained_quantity == "logit"
        np.testing.assert_allclose(e.explained, built.reference_forward({"x": x})[:, 1], rtol=1e-4)
    assert model.engine.known.count() == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_output_itself_where_that_is_asked_for(ending: str) -> None:
    build, _, output = ENDINGS[ending]
    target = lx.Target(index=1, batch_axis=1 if build is viewed else 0, pre_activation=False)
    e = built(build).explain({"x": X}, lx.GradientTimesInput(), target)
    assert e.explained_quantity == "output"
    np.testing.assert_allclose(e.explained, output[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("ending", "quantity"),
    [
        ("plain", "probability"),
        ("Softmax", "output"),
        ("LogSoftmax", "probability"),
        ("Log of Softmax", "probability"),
        ("Exp of LogSoftmax", "output"),
    ],
)
def test_occlusion_of_the_probability(ending: str, quantity: str) -> None:
    e = built(ENDINGS[ending][0]).explain({"x": X}, lx.Occlusion(of="probability"), lx.Target(index=1))
    assert e.explained_quantity == quantity
    np.testing.assert_allclose(e.explained, softmax(Z)[:, 1], rtol=1e-5)


def test_shares_of_an_exponent_point_where_the_output_goes() -> None:
    """The head of a Manhattan similarity, y = exp(-|x_0| - ... - |x_3|): to remove a distance increases y."""
    g = GraphBuilder(np.float32, 17)
    distance = g.op("ReduceSum", [g.op("Abs", [g.input("x", ["B", 4])]), g.constant(np.array([1]), "axes")], keepdims=1)
    model = lx.load(g.model(g.op("Exp", [g.op("Neg", [distance])]), ["B", 1], rename="y"))
    e = model.explain({"x": X}, lx.LRP())
    occluded = model.explain({"x": X}, lx.Occlusion(of="score"), lx.Target(pre_activation=False)).relevance["x"]
    assert np.all(np.sign(e.relevance["x"]) == np.sign(occluded))
    np.testing.assert_allclose(e.relevance["x"], -np.abs(X), rtol=1e-5)


def test_several_targets_at_once() -> None:
    targets = [lx.Target(index=0), lx.Target(index=0, pre_activation=False)]
    found = built(by("Softmax")).explain_many({"x": X}, lx.Gradient(), targets)
    assert [e.explained_quantity for e in found] == ["logit", "output"]


@pytest.mark.parametrize("method", [lx.LRP(), lx.LRP("half"), lx.ContextualDecomposition()], ids=str)
@pytest.mark.parametrize("ending", [name for name, (_, quantity, _) in ENDINGS.items() if quantity != "output"])
def test_methods_that_only_explain_logits_refuse_the_output(ending: str, method: lx.Method) -> None:
    """R = p at a logit would be its explanation times p / z: nothing about the probability, which has other logits."""
    build = ENDINGS[ending][0]
    target = lx.Target(index=1, batch_axis=1 if build is viewed else 0, pre_activation=False)
    with pytest.raises(lx.MethodError, match=r"before the activation .*occlusion") as refused:
        built(build).explain({"x": X}, method, target)
    assert refused.value.field == "target.pre_activation"


def test_an_output_without_activation_is_its_own_logit() -> None:
    e = built(ENDINGS["plain"][0]).explain({"x": X}, lx.LRP(), lx.Target(index=1, pre_activation=False))
    np.testing.assert_allclose(e.explained, Z[:, 1], rtol=1e-5)
