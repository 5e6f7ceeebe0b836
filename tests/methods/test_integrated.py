# SPDX-License-Identifier: Apache-2.0
"""IntegratedGradients and SmoothGrad: completeness, explicit sums, and equality of tokens and the vectors that they
look up.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer

import lstm_explain as lx
from lstm_explain.methods.integrated_gradients import quadrature
from lstm_explain.runner import stacking
from tests import zoo
from tests.builders import recurrent_model
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder

KINKS = {"h_prelu_pad_conv_op14"}  # the line crosses kinks, where a quadrature is no better than its spacing


def explained(case: zoo.Case, method: lx.Method) -> lx.Explanation:
    target = lx.Target(case.target_output, case.target_index, case.target_batch_axis)
    return lx.load(case.path).explain(case.inputs, method, target)


@pytest.mark.parametrize("name", zoo.names())
def test_integrated_gradients_are_complete(name: str) -> None:
    case = zoo.load(name)
    e = explained(case, lx.IntegratedGradients(steps=300))
    difference = e.explained - e.ledger.absorbed
    scale = np.abs(difference).max() if name in KINKS else np.abs(difference)
    assert (np.abs(e.ledger.residual) <= 0.01 * scale).all()
    total = sum(
        np.moveaxis(r, case.batch_axis(i), 0).reshape(len(difference), -1).sum(axis=1) for i, r in e.relevance.items()
    )
    np.testing.assert_allclose(total, e.ledger.inputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        e.ledger.inputs + e.ledger.initial_states + e.ledger.absorbed + e.ledger.residual, e.explained, rtol=1e-5
    )


SENTENCES = [
    "a film of quiet power that never once raises its voice , and is all the better for it .",
    "neither funny nor suspenseful , it runs out of ideas long before it runs out of film .",
    "the acting is fine , the script is not , and the ending makes no sense at all .",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_integrated_gradients_are_complete_on_real_sentences(text: str) -> None:
    folder = Path(__file__).resolve().parents[2] / "models" / "sentiment"
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    model = lx.load(folder / "1" / "model.onnx")
    e = model.explain({"tokens": np.array([ids])}, lx.IntegratedGradients(steps=300))
    assert (np.abs(e.ledger.residual) <= 0.01 * np.abs(e.explained - e.ledger.absorbed)).all()


def lstm(dtype: Any = np.float64, **options: Any) -> tuple[Any, dict[str, Any], lx.Model]:
    rng = np.random.default_rng(31)
    built = recurrent_model(rng, D=2, H=3, dtype=dtype, **options)
    return built, built.feeds(rng, T=4, B=3), lx.load(built.model)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"sequence_lens": True, "initial_states": "input"}])
def test_integrated_gradients_are_a_sum_of_gradients(options: dict[str, Any]) -> None:
    """The same integral by the midpoint rule, with one explanation per point."""
    _, feeds, model = lstm(**options)
    rng, target, n = np.random.default_rng(32), lx.Target(index=1), 200
    numbers = [name for name in feeds if name != "lens"]
    baseline = {name: rng.normal(size=feeds[name].shape) for name in numbers}
    expected = {name: np.zeros(feeds[name].shape) for name in numbers}
    for k in range(n):
        at = {i: baseline[i] + (k + 0.5) / n * (feeds[i] - baseline[i]) if i in baseline else feeds[i] for i in feeds}
        gradient = model.explain(at, lx.Gradient(), target).relevance
        for name in numbers:
            expected[name] += gradient[name] / n * (feeds[name] - baseline[name])
    received = model.explain(feeds, lx.IntegratedGradients(50, baseline), target)
    for name in numbers:
        check_same(received.relevance[name], expected[name], 1e-4, name)
    at_baseline = model.explain({**feeds, **baseline}, lx.Gradient(), target).explained
    np.testing.assert_allclose(received.ledger.absorbed, at_baseline, rtol=1e-9)
    assert (np.abs(received.ledger.residual) < 1e-9).all()


@pytest.mark.parametrize("steps", [1, 2, 50, 64, 65, 300])
def test_the_quadrature_integrates_smooth_functions(steps: int) -> None:
    panels = -(-steps // 5)
    uneven = np.stack([np.linspace(0, 1, panels + 1), np.linspace(0, 1, panels + 1) ** 2], axis=1)
    places, weights = quadrature(uneven, steps)
    assert places.shape == weights.shape == (steps, 2)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)
    assert (np.diff(places, axis=0) > 0).all()
    degree = 2 * (steps // panels) - 1
    np.testing.assert_allclose((weights * places**degree).sum(axis=0), 1 / (degree + 1))


def test_a_gate_that_opens_at_once_is_found() -> None:
    """The whole change lies in a thousandth of the line, at another position for every sample."""
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 2])
    w = g.constant(np.array([[1.0], [0.5]]), "w")
    z = g.op(
        "Mul",
        [g.op("Sub", [g.op("MatMul", [x, w]), g.constant(np.array(0.37), "at")]), g.constant(np.array(4e3), "steep")],
    )
    model = lx.load(g.model(g.op("Tanh", [z]), ["B", 1]))
    feeds = {"x": np.array([[1.0, 0.5], [3.0, -1.0], [0.5, 4.0]])}
    e = model.explain(feeds, lx.IntegratedGradients(steps=100), lx.Target(index=0))
    np.testing.assert_allclose(e.ledger.inputs, 2.0, rtol=5e-3)
    alone = model.explain({"x": feeds["x"][1:2]}, lx.IntegratedGradients(steps=100), lx.Target(index=0))
    np.testing.assert_allclose(alone.relevance["x"][0], e.relevance["x"][1], rtol=1e-9)


def steep_sigmoid() -> lx.Model:
    """x [B, 1] to a Sigmoid that changes fast near 0: one step is far off for a large x."""
    g = GraphBuilder(np.float64, 17)
    steep = g.op("Mul", [g.input("x", ["B", 1]), g.constant(np.array([50.0]), "k")])
    return lx.load(g.model(g.op("Sigmoid", [steep]), ["B", 1]))


def test_every_sample_gets_the_steps_that_it_needs() -> None:
    model, x, target = steep_sigmoid(), np.array([[1.0], [1e-3], [0.1]]), lx.Target(pre_activation=False)
    e = model.explain({"x": x}, lx.IntegratedGradients(steps=1), target)
    assert e.steps_used is not None
    assert e.steps_used[1] == 1 < e.steps_used[2] < e.steps_used[0] <= 500
    assert (np.abs(e.ledger.residual) <= 0.01 * e.explained).all()
    for row, steps in enumerate(e.steps_used):
        alone = model.explain({"x": x[row : row + 1]}, lx.IntegratedGradients(steps=1), target)
        assert alone.steps_used is not None
        assert alone.steps_used.tolist() == [steps]
        np.testing.assert_allclose(alone.relevance["x"][0], e.relevance["x"][row], rtol=1e-9)


def test_max_steps_limits_the_steps() -> None:
    model, x, target = steep_sigmoid(), {"x": np.ones((1, 1))}, lx.Target(pre_activation=False)
    found = [model.explain(x, lx.IntegratedGradients(1, max_steps=most), target) for most in (1, 2, 500)]
    errors = [abs(e.ledger.residual[0]) for e in found]
    assert [e.steps_used.tolist() <= [most] for e, most in zip(found, (1, 2, 500), strict=True)] == [True] * 3  # type: ignore[union-attr]
    assert errors[0] > 0.05
    assert errors[2] <= 0.01
    assert model.explain(x, lx.Gradient(), target).steps_used is None


def embedded(model_of_vectors: Any, table: Any) -> Any:
    """The same model after a lookup: `x` becomes the vectors that `tokens` look up."""
    proto = type(model_of_vectors)()
    proto.CopyFrom(model_of_vectors)
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", ["T", "B"], TensorProto.INT64)
    g.nodes.append(helper.make_node("Gather", [g.constant(table, "table"), tokens], ["x"], name="look_up"))
    del proto.graph.input[:]
    proto.graph.input.extend(g.inputs)
    proto.graph.initializer.extend(g.initializers.values())
    nodes = [*g.nodes, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def tokens_and_vectors() -> tuple[lx.Model, Any, lx.Model, Any]:
    rng = np.random.default_rng(33)
    built = recurrent_model(rng, D=3, H=4)
    table = rng.normal(size=(7, 3)).astype(np.float32)
    tokens = rng.integers(1, 7, size=(5, 3))
    return lx.load(embedded(built.model, table)), tokens, lx.load(built.model), table


def test_a_token_gets_the_sum_over_its_vector() -> None:
    of_tokens, tokens, of_vectors, table = tokens_and_vectors()
    method, target = lx.IntegratedGradients(20), lx.Target(index=0)
    expected = of_vectors.explain({"x": table[tokens]}, method, target)
    received = of_tokens.explain({"tokens": tokens}, method, target)
    check_same(received.relevance["tokens"], expected.relevance["x"].sum(axis=2), 1e-5)
    np.testing.assert_allclose(received.ledger.absorbed, expected.ledger.absorbed, rtol=1e-4, atol=1e-6)


def test_a_baseline_token_stands_for_its_vector() -> None:
    of_tokens, tokens, of_vectors, table = tokens_and_vectors()
    target = lx.Target(index=0)
    expected = of_vectors.explain({"x": table[tokens]}, lx.IntegratedGradients(20, table[2]), target)
    received = of_tokens.explain({"tokens": tokens}, lx.IntegratedGradients(20, 2), target)
    check_same(received.relevance["tokens"], expected.relevance["x"].sum(axis=2), 1e-5)


def test_smooth_gradients_of_tokens_are_norms() -> None:
    of_tokens, tokens, of_vectors, table = tokens_and_vectors()
    expected = of_vectors.explain({"x": table[tokens]}, lx.SmoothGrad(samples=6, noise=0.0), lx.Target(index=0))
    received = of_tokens.explain({"tokens": tokens}, lx.SmoothGrad(samples=6, noise=0.0), lx.Target(index=0))
    check_same(received.relevance["tokens"], np.sqrt((expected.relevance["x"] ** 2).sum(axis=2)), 1e-5)
    noisy = of_tokens.explain({"tokens": tokens}, lx.SmoothGrad(samples=6, noise=0.3), lx.Target(index=0))
    assert np.abs(noisy.relevance["tokens"] - received.relevance["tokens"]).max() > 1e-4


def test_smooth_gradient_without_noise_is_the_gradient() -> None:
    _, feeds, model = lstm()
    expected = model.explain(feeds, lx.Gradient(), lx.Target(index=2))
    received = model.explain(feeds, lx.SmoothGrad(samples=3, noise=0.0), lx.Target(index=2))
    check_same(received.relevance["x"], expected.relevance["x"], 1e-9)


def test_smooth_gradient_of_a_quadratic_form_is_its_gradient_on_average() -> None:
    """The gradient is linear in x, so noise averages out: the result is within five standard errors, and not exact."""
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 4])
    proto = g.model(g.op("ReduceSum", [g.op("Mul", [x, x]), g.ints(1)], keepdims=1), ["B", 1])
    feeds = {"x": np.array([[1.0, -2.0, 3.0, 0.5], [0.0, 1.0, 0.0, 10.0]])}
    samples, noise = 400, 0.2
    e = lx.load(proto).explain(feeds, lx.SmoothGrad(samples, noise, seed=3), lx.Target(index=0))
    deviation = 2 * noise * np.ptp(feeds["x"], axis=1, keepdims=True) / np.sqrt(samples)
    error = np.abs(e.relevance["x"] - 2 * feeds["x"])
    assert (error < 5 * deviation).all()
    assert (error > 0).all()


def test_smooth_gradient_does_not_depend_on_units() -> None:
    """The same model reads feature 1 in units 1,000 times smaller: only the unit of its gradient changes."""
    rng, found = np.random.default_rng(5), []
    x = rng.normal(size=(2, 6, 2))
    for unit in (1.0, 1000.0):
        g = GraphBuilder(np.float64, 17)
        given = g.op("Mul", [g.input("x", ["B", 6, 2]), g.constant(np.array([1.0, 1 / unit]), "units")])
        summed = g.op("ReduceSum", [g.op("Tanh", [given]), g.ints(1, 2)], keepdims=0)
        model = lx.load(g.model(g.op("Unsqueeze", [g.op("Mul", [summed, summed]), g.ints(1)]), ["B", 1]))
        model.axes["x"] = lx.Axes(batch=0, time=1)
        answer = model.explain({"x": x * [1, unit]}, lx.SmoothGrad(noise=0.5), lx.Target(index=0))
        found.append(answer.relevance["x"] * [1, unit])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_a_constant_feature_gets_no_noise() -> None:
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 4, 2])
    model = lx.load(g.model(g.op("ReduceSum", [g.op("Mul", [x, x]), g.ints(1)], keepdims=0), ["B", 2]))
    model.axes["x"] = lx.Axes(batch=0, time=1)
    feeds = np.array([[[3.0, 0.0], [3.0, 1.0], [3.0, 5.0], [3.0, 2.0]]])
    for index, noisy in ((0, False), (1, True)):
        found = model.explain({"x": feeds}, lx.SmoothGrad(noise=0.2), lx.Target(index=index)).relevance["x"][..., index]
        assert np.allclose(found, 2 * feeds[..., index], rtol=1e-12) != noisy


METHODS = [lx.IntegratedGradients(9, 0.1), lx.SmoothGrad(9, 0.2, 5), lx.Occlusion(2), lx.ShapleySampling(3)]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_neither_the_batch_nor_the_size_of_a_pass_changes_answers(method: lx.Method, monkeypatch: Any) -> None:
    _, feeds, model = lstm(np.float32, sequence_lens=True)
    together = model.explain(feeds, method, lx.Target(index=0))
    again = model.explain(feeds, method, lx.Target(index=0))
    np.testing.assert_array_equal(together.relevance["x"], again.relevance["x"])
    monkeypatch.setattr(stacking, "MAX_COPIES", 2)
    small = model.explain(feeds, method, lx.Target(index=0))
    check_same(small.relevance["x"], together.relevance["x"], 1e-5)
    for b in range(3):
        alone = {"x": feeds["x"][:, b : b + 1], "lens": feeds["lens"][b : b + 1]}
        e = model.explain(alone, method, lx.Target(index=0))
        check_same(e.relevance["x"][:, 0], together.relevance["x"][:, b], 1e-4)


@pytest.mark.parametrize(
    "method", [lx.SmoothGrad(seed=1), lx.ShapleySampling(3, seed=1, exact_players=0)], ids=lambda m: m.name
)
def test_another_seed_gives_another_answer(method: Any) -> None:
    _, feeds, model = lstm()
    one = model.explain(feeds, method, lx.Target(index=0)).relevance["x"]
    other = model.explain(feeds, replace(method, seed=2), lx.Target(index=0)).relevance["x"]
    assert np.abs(one - other).max() > 0


def test_wrong_baselines_are_refused() -> None:
    _, feeds, model = lstm(np.float32)
    for bad in ({"y": 0.0}, np.zeros(5), np.nan, "mean", np.array(["a"])):
        with pytest.raises(lx.MethodError) as error:
            model.explain(feeds, lx.IntegratedGradients(2, bad), lx.Target(index=0))  # type: ignore[arg-type]
        assert error.value.field == "method.baseline"


def test_the_resolved_baseline_is_reported_by_input() -> None:
    _, feeds, model = lstm(np.float32)
    reported = model.explain(feeds, lx.Occlusion(baseline=0.5), lx.Target(index=0)).method
    assert reported == lx.Occlusion(baseline={"x": np.array(0.5, np.float32)})
    assert reported != lx.Occlusion(baseline={"x": np.array(0.25, np.float32)})
    assert reported != lx.Occlusion()


def test_the_mean_of_samples_as_baseline() -> None:
    _, feeds, model = lstm(np.float32)
    mean = lx.mean_baseline({"x": feeds["x"]}, axes=(0, 1))
    assert mean["x"].shape == (1, 1, 2)
    e = model.explain(feeds, lx.IntegratedGradients(20, mean), lx.Target(index=0))
    same = model.explain(feeds, lx.IntegratedGradients(20, feeds["x"].mean(axis=(0, 1))), lx.Target(index=0))
    check_same(e.relevance["x"], same.relevance["x"], 1e-6)


def test_inner_values_are_for_propagation_only() -> None:
    _, feeds, model = lstm(np.float32)
    with pytest.raises(lx.MethodError, match="capture"):
        model.explain(feeds, lx.Occlusion(), lx.Target(index=0), capture=["x"])
