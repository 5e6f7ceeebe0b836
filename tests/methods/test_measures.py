# SPDX-License-Identifier: Apache-2.0
"""Errors, norms and probabilities of outputs: gradients against finite differences of the expression, and ledgers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.builders import Built, Op, recurrent_model
from tests.graph_builder import GraphBuilder

Array = npt.NDArray[Any]
RNG = np.random.default_rng(21)
REFERENCE = RNG.normal(size=(2, 3))
STEP = 1e-5


def log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# By the text of the target: the same in NumPy, from the output and the input to [batch].
OF_LOGITS: dict[str, Callable[[Array], Array]] = {
    "mean_squared_error": lambda y: ((y - REFERENCE) ** 2).mean(axis=1),
    "mean_absolute_error": lambda y: np.abs(y - REFERENCE).mean(axis=1),
    "l1_norm": lambda y: np.abs(y).sum(axis=1),
    "l2_norm": lambda y: np.sqrt((y**2).sum(axis=1)),
    "log_probability(1)": lambda y: log_softmax(y)[:, 1],
    "probability(2)": lambda y: np.exp(log_softmax(y))[:, 2],
}


def target_of(text: str) -> lx.Target | str:
    return lx.Target(measure=lx.Measure(text, REFERENCE)) if text.endswith("error") else text


def gradient_times_input(expression: Callable[[Array], Array], x: Array) -> Array:
    """By central differences in float64. Samples do not depend on each other, so one direction serves all of them."""
    found = np.zeros(x.shape)
    for place in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape)
        step[(slice(None), *place)] = STEP
        found[(slice(None), *place)] = (expression(x + step) - expression(x - step)) / (2 * STEP)
    return found * x


def built_for(op: Op = "GRU") -> tuple[Built, lx.Model, Array]:
    built = recurrent_model(np.random.default_rng(22), op, batch_first=True)
    return built, lx.load(built.model), built.feeds(np.random.default_rng(23), T=4, B=2)["x"]


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
@pytest.mark.parametrize("text", OF_LOGITS)
def test_gradient_times_input_is_that_of_the_expression(text: str, op: Op) -> None:
    built, model, x = built_for(op)
    value = OF_LOGITS[text]

    def expression(at: Array) -> Array:
        return value(built.reference_forward({"x": at}))

    found = model.explain({"x": x}, lx.GradientTimesInput(), target_of(text))
    np.testing.assert_allclose(found.explained, expression(x.astype(np.float64)), rtol=1e-5, atol=1e-6)
    expected = gradient_times_input(expression, x.astype(np.float64))
    np.testing.assert_allclose(found.relevance["x"], expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert found.explained_quantity == text.partition("(")[0]
    assert list(found.outputs) == ["logits"]
    assert list(found.relevance) == ["x"]


@pytest.mark.parametrize("rule", ["all", "half", "prop", "abs"])
@pytest.mark.parametrize("text", OF_LOGITS)
def test_the_ledger_closes_under_lrp(text: str, rule: str) -> None:
    _, model, x = built_for()
    e = model.explain({"x": x}, lx.LRP(rule, stabiliser=0.3), target_of(text))
    ledger = e.ledger
    scale = np.abs(e.explained) + np.abs(ledger.inputs) + np.abs(ledger.absorbed)
    assert (np.abs(ledger.residual) <= 1e-5 * scale).all()
    np.testing.assert_allclose(ledger.inputs, e.relevance["x"].sum(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    whole = ledger.inputs + ledger.initial_states + ledger.absorbed + ledger.residual
    np.testing.assert_allclose(whole, e.explained, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sum(ledger.by_node.values()), ledger.absorbed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", OF_LOGITS)
def test_occlusion_is_the_change_of_the_expression(text: str) -> None:
    built, model, x = built_for()
    e = model.explain({"x": x}, lx.Occlusion(), target_of(text))
    without = x.copy()
    without[:, 2] = 0
    value = OF_LOGITS[text]
    expected = value(built.reference_forward({"x": x})) - value(built.reference_forward({"x": without}))
    np.testing.assert_allclose(e.relevance["x"][:, 2].sum(axis=1), expected, rtol=1e-4, atol=1e-5)


# --- errors against an input -----------------------------------------------------------------------------------------

ENCODE, DECODE = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 3))


def autoencoder() -> lx.Model:
    """x [batch, steps, 3] to its reconstruction, step by step."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["batch", "steps", 3])
    hidden = g.op("Tanh", [g.op("MatMul", [x, g.constant(ENCODE, "E")])])
    return lx.load(g.model(g.op("MatMul", [hidden, g.constant(DECODE, "D")]), ["batch", "steps", 3]))


def reconstruction(x: Array) -> Array:
    return np.tanh(x @ ENCODE) @ DECODE


@pytest.mark.parametrize("ahead", [0, 1, 2])
@pytest.mark.parametrize("kind", ["mean_squared_error", "mean_absolute_error"])
def test_the_error_of_a_reconstruction_or_prediction(kind: str, ahead: int) -> None:
    model, x = autoencoder(), np.random.default_rng(24).normal(size=(2, 5, 3)).astype(np.float32)
    model.axes["x"] = lx.Axes(0, 1)

    def expression(at: Array) -> Array:
        apart = reconstruction(at)[:, : 5 - ahead] - at[:, ahead:]
        return (apart**2 if kind == "mean_squared_error" else np.abs(apart)).mean(axis=(1, 2))

    target = f"{kind}(x, ahead={ahead})" if ahead else f"{kind}(x)"
    e = model.explain({"x": x}, lx.GradientTimesInput(), target)
    np.testing.assert_allclose(e.explained, expression(x.astype(np.float64)), rtol=1e-5)
    expected = gradient_times_input(expression, x.astype(np.float64))
    np.testing.assert_allclose(e.relevance["x"], expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    ledger = model.explain({"x": x}, lx.LRP(), target).ledger
    np.testing.assert_allclose(ledger.inputs + ledger.absorbed, e.explained, rtol=1e-4)


def test_a_final_softmax_is_looked_through() -> None:
    """The probability is not that of a softmax over probabilities."""
    built, _, x = built_for()
    proto = onnx.ModelProto()
    proto.CopyFrom(built.model)
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["p"], axis=-1))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["B", 3]))
    model = lx.load(proto)
    e = model.explain({"x": x}, lx.GradientTimesInput(), "probability(2)")
    np.testing.assert_allclose(e.explained, e.outputs["p"][:, 2], rtol=1e-5)
    plain = lx.load(built.model).explain({"x": x}, lx.GradientTimesInput(), "probability(2)")
    np.testing.assert_allclose(e.relevance["x"], plain.relevance["x"], rtol=1e-5)


def test_measures_among_other_targets() -> None:
    _, model, x = built_for()
    found = model.explain_many({"x": x}, lx.LRP(), "probability(0); 1; l2_norm; every class")
    assert [e.explained_quantity for e in found] == ["probability", "output", "l2_norm", *["output"] * 3]
    np.testing.assert_array_equal(
        found[0].relevance["x"], model.explain({"x": x}, target="probability(0)").relevance["x"]
    )
    np.testing.assert_array_equal(found[1].relevance["x"], model.explain({"x": x}, target=1).relevance["x"])


@pytest.mark.parametrize(
    ("target", "field", "word"),
    [
        (lambda: lx.Measure("variance"), "target.measure.kind", "variance"),
        (lambda: lx.Measure("mean_squared_error"), "target.measure.reference", "needs a reference"),
        (lambda: lx.Measure("l2_norm", "x"), "target.measure.reference", "no reference"),
        (lambda: lx.Measure("mean_squared_error", "x", -1), "target.measure.ahead", "-1"),
        (lambda: lx.Measure("mean_squared_error", REFERENCE, 1), "target.measure.ahead", "input"),
        (lambda: "mean_squared_error(y)", "target.measure.reference", "'y'"),
        (lambda: "mean_squared_error(x)", "target.measure.reference", "2 axes"),  # x has three
        (lambda: "probability(7)", "target.index", "outside"),
        (lambda: lx.Target(measure=lx.Measure("l2_norm"), index=1), "target.index", "no index"),
        (lambda: lx.Target(measure=lx.Measure("probability"), contrast=1), "target.measure", "no contrast"),
        (
            lambda: lx.Target(measure=lx.Measure("mean_squared_error", np.ones((2, 5)))),
            "target.measure.reference",
            "shape",
        ),
    ],
)
def test_what_cannot_be_measured(target: Callable[[], Any], field: str, word: str) -> None:
    _, model, x = built_for()
    with pytest.raises(lx.TargetError, match=word) as caught:
        model.explain({"x": x}, target=target())
    assert caught.value.field == field
