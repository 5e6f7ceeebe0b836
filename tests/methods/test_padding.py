# SPDX-License-Identifier: Apache-2.0
"""Padding after the end of a sequence gets no relevance and changes nothing, under every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import lstm_explain as lx
from tests import cases
from tests.builders import recurrent_model
from tests.graph_builder import GraphBuilder

SENTIMENT = Path(__file__).resolve().parents[2] / "models" / "sentiment"
METHODS: list[lx.Method] = [
    lx.LRP(),
    lx.LRP("half"),
    lx.LRP("prop"),
    lx.Gradient(),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(steps=20),
    lx.SmoothGrad(samples=3),
    lx.Occlusion(),
    lx.Occlusion(window=3),
    lx.Occlusion(window=3, of="probability"),
    lx.ShapleySampling(permutations=3),
    lx.ShapleySampling(permutations=2, over="cells"),
    lx.ContextualDecomposition(),
]
CLOSE = 2e-6  # of the largest number: other shapes, other orders of float32's sums
Arrays = dict[str, Any]


def lengthened(model: lx.Model, arrays: Arrays, steps: int, values: Arrays) -> Arrays:
    """Appends this number of padding steps."""
    longer = {}
    for name, array in arrays.items():
        time = model.axes[name].time
        widths = [(0, steps if axis == time else 0) for axis in range(array.ndim)]
        longer[name] = np.pad(array, widths, constant_values=values.get(name, 0))
    return longer


def first(model: lx.Model, name: str, array: Any, steps: int) -> tuple[Any, Any]:
    """The first steps, and the rest."""
    time = model.axes[name].time
    return tuple(np.split(array, [steps], axis=time)) if time is not None else (array, np.zeros(0))


def check(model: lx.Model, feeds: Arrays, method: lx.Method, values: Arrays | None = None, index: int = 1) -> None:
    """Checks that five steps of padding do not change the answer, and get relevance 0."""
    alone = model.explain(feeds, method, lx.Target(index=index))
    padded = model.explain(lengthened(model, feeds, 5, values or {}), method, lx.Target(index=index))
    for name, expected in alone.relevance.items():
        time = model.axes[name].time
        received, behind = first(model, name, padded.relevance[name], 0 if time is None else expected.shape[time])
        if not own_derivative(name, method):
            assert (behind == 0).all(), name
        np.testing.assert_allclose(received, expected, rtol=0, atol=CLOSE * np.abs(expected).max(initial=1e-30))
    for part in () if any(own_derivative(n, method) for n in feeds) else ("inputs", "absorbed", "residual"):
        scale = np.abs(alone.explained) + np.abs(alone.ledger.inputs)
        assert (np.abs(getattr(padded.ledger, part) - getattr(alone.ledger, part)) <= 1e-5 * scale).all(), part
    assert not any("padding of shorter sequences" in warning for warning in padded.warnings)


def own_derivative(name: str, method: lx.Method) -> bool:
    """The derivative of a mask: how the score would change if a step were included."""
    return name == "mask" and isinstance(method, lx.Gradient)


by_method = pytest.mark.parametrize("method", METHODS, ids=str)


@by_method
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_input_of_lengths_shows_the_padding(method: lx.Method, batch_first: bool) -> None:
    rng = np.random.default_rng(1)
    built = recurrent_model(rng, D=2, H=3, sequence_lens=True, head="Y_h", batch_first=batch_first)
    feeds = built.feeds(rng, T=6, B=1)
    feeds["lens"][:] = 6
    check(lx.load(built.model), feeds, method, {"x": 7.0})


@by_method
def test_computed_lengths_show_the_padding(method: lx.Method) -> None:
    """The bundled `sentiment` computes the number of words itself."""
    model = lx.load(SENTIMENT / "1" / "model.onnx")
    tokens = Tokenizer.from_file(str(SENTIMENT / "tokenizer.json")).encode("a film of quiet power").ids
    check(model, {"tokens": np.array([tokens])}, method)
    check(model, {"tokens": np.array([tokens[1:2]])}, method)


def masked(declared: bool) -> lx.Model:
    """Sums of the tanh of vectors, over the steps that a mask includes: an input, or all tokens except 0."""
    rng = np.random.default_rng(2)
    g = GraphBuilder(np.float32, 17)
    w = g.constant(rng.normal(size=(3, 3)), "w")
    if declared:
        tokens = g.input("tokens", ["B", "T"], 7)
        x = g.op("Gather", [g.constant(rng.normal(size=(9, 3)), "table"), tokens])
        kept = g.op("Cast", [g.op("Not", [g.op("Equal", [tokens, g.constant(np.array(0), "zero")])])], to=1)
    else:
        x, kept = g.input("x", ["B", "T", 3]), g.input("mask", ["B", "T"])
    steps = g.op("Mul", [g.op("Tanh", [g.op("MatMul", [x, w])]), g.unsqueeze(kept, 2)])
    running = g.op("Tanh", [g.op("CumSum", [steps, g.constant(np.array(1), "one")])])
    mean = g.reduce("sum", g.op("Mul", [running, g.unsqueeze(kept, 2)]), 1, "pooled")
    model = lx.load(g.model(g.op("MatMul", [mean, w]), ["B", 3]))
    if declared:
        model.padding["tokens"] = 0
    return model


@by_method
@pytest.mark.parametrize("declared", [False, True])
def test_a_mask_or_a_declared_value_shows_the_padding(method: lx.Method, declared: bool) -> None:
    if isinstance(method, lx.ContextualDecomposition):
        pytest.skip("there is no LSTM")
    model = masked(declared)
    assert all(axes == lx.Axes(0, 1) for axes in model.axes.values())
    rng = np.random.default_rng(3)
    tokens = {"tokens": rng.integers(1, 9, (2, 4))}
    vectors = {"x": rng.normal(size=(2, 4, 3)).astype(np.float32), "mask": np.ones((2, 4), np.float32)}
    check(model, tokens if declared else vectors, method, {"x": 7.0})


@by_method
def test_samples_of_several_lengths_equal_single_samples(method: lx.Method) -> None:
    model = lx.load(SENTIMENT / "1" / "model.onnx")
    rows = [[31, 7, 12, 400, 5], [9], [77, 8, 3], [15, 6, 2]]
    batch = np.array([row + [0] * (5 - len(row)) for row in rows])
    whole = model.explain({"tokens": batch}, method, lx.Target(index=2))
    for number, row in enumerate(rows):
        alone = model.explain({"tokens": np.array([row])}, method, lx.Target(index=2))
        expected, received = alone.relevance["tokens"][0], whole.relevance["tokens"][number]
        np.testing.assert_allclose(received[: len(row)], expected, rtol=0, atol=CLOSE * np.abs(expected).max())
        assert (received[len(row) :] == 0).all()
        np.testing.assert_allclose(whole.ledger.inputs[number], alone.ledger.inputs[0], rtol=1e-5, atol=1e-7)


def test_a_baseline_for_each_step_goes_with_its_step() -> None:
    model = lx.load(SENTIMENT / "1" / "model.onnx")
    batch, baseline = np.array([[31, 7, 12, 400, 5], [9, 8, 0, 0, 0]]), np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
    whole = model.explain({"tokens": batch}, lx.Occlusion(baseline={"tokens": baseline}), lx.Target(index=2))
    own = lx.Occlusion(baseline={"tokens": baseline[1:, :2]})
    alone = model.explain({"tokens": batch[1:, :2]}, own, lx.Target(index=2))
    np.testing.assert_allclose(whole.relevance["tokens"][1, :2], alone.relevance["tokens"][0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [lx.Occlusion(window=3), lx.ShapleySampling(permutations=3)], ids=str)
def test_padding_of_a_model_with_fixed_length_is_not_replaced(method: lx.Method) -> None:
    """It cannot be removed, but it still gets no relevance and changes nothing."""
    case = cases.load("packed_bilstm_sorted/legacy")
    model = case.model
    assert model.lengths == {"n": "x"}
    e = model.explain(case.inputs, method, lx.Target(index=0))
    behind = np.arange(12) >= case.inputs["n"][:, None]
    assert behind.any()
    assert (e.relevance["x"][behind] == 0).all()
    assert (e.relevance["x"][~behind] != 0).all()
    other = np.where(behind, 3, case.inputs["x"])
    again = model.explain({**case.inputs, "x": other}, method, lx.Target(index=0))
    np.testing.assert_array_equal(again.relevance["x"], e.relevance["x"])


def test_a_window_longer_than_the_sentence_is_the_sentence() -> None:
    model = lx.load(SENTIMENT / "1" / "model.onnx")
    batch = np.array([[31, 7, 0, 0, 0]])
    e = model.explain({"tokens": batch}, lx.Occlusion(window=4), lx.Target(index=2))
    fall = (
        e.explained[0]
        - model.explain({"tokens": np.zeros((1, 2), np.int64)}, lx.LRP(), lx.Target(index=2)).explained[0]
    )
    np.testing.assert_allclose(e.relevance["tokens"], [[fall / 2, fall / 2, 0, 0, 0]], rtol=1e-5, atol=1e-7)


def test_a_model_that_reads_its_padding_causes_a_warning() -> None:
    """The model computes the mean over all steps, including padding."""
    rng = np.random.default_rng(4)
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", ["B", "T"], 7)
    x = g.op("Gather", [g.constant(rng.normal(size=(9, 3)), "table"), tokens])
    y = g.op("MatMul", [g.reduce("mean", x, 1, "pooled"), g.constant(rng.normal(size=(3, 2)), "w")])
    model = lx.load(g.model(y, ["B", 2]))
    feeds = {"tokens": np.array([[4, 2, 0, 0], [5, 1, 3, 2]])}
    plain = model.explain(feeds, lx.IntegratedGradients(steps=10), lx.Target(index=0))
    model.padding["tokens"] = 0
    explanation = model.explain(feeds, lx.IntegratedGradients(steps=10), lx.Target(index=0))
    np.testing.assert_array_equal(explanation.relevance["tokens"], plain.relevance["tokens"])
    assert any("padding of shorter sequences" in warning for warning in explanation.warnings)
    assert not any("padding of shorter sequences" in warning for warning in plain.warnings)
    np.testing.assert_allclose(explanation.outputs["logits"], model.predict(feeds)["logits"], rtol=1e-5)
