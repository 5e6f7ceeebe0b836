# SPDX-License-Identifier: Apache-2.0
"""Warnings: each limit for known numbers, sample by sample, however an answer is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.repository.batching import RequestBatching
from lstm_explain.repository.request import ModelRequest
from lstm_explain.verdict import DIVERGES, FLOOR, MAX_ABSORBED, MAX_ENTRY, Finding
from tests import zoo
from tests.graph_builder import GraphBuilder

STEEP = np.array([[4096.0, -4095.0], [-4095.0, 4096.0]])  # takes [1, 1] to itself, by terms that nearly cancel
LOUD, CALM = [1.0, 1.0], [1.0, 0.0]
Array = npt.NDArray[Any]

PAPERS = lx.LRP(epsilon=1e-3)  # grows where the default does not


def steep(layers: int = 2) -> onnx.ModelProto:
    g = GraphBuilder(np.float32, 17)
    value = g.input("x", ["B", 2])
    for layer in range(layers):
        value = g.op("MatMul", [value, g.constant(STEEP, f"W{layer}")])
    return g.model(value, ["B", 2], rename="y")


def linear(weights: Array, bias: float = 0.0, layers: int = 1) -> lx.Model:
    """x [B, N] to y [B, 1]. Further layers pass on their input."""
    g = GraphBuilder(np.float64, 17)
    value = g.op("MatMul", [g.input("x", ["B", len(weights)]), g.constant(weights[:, None], "w")])
    value = g.op("Add", [value, g.constant(np.array([bias]), "b")])
    for layer in range(1, layers):
        value = g.op("MatMul", [value, g.constant(np.ones((1, 1)), f"w{layer}")])
    return lx.load(g.model(value, ["B", 1], rename="y"))


def prefixes(warnings: tuple[str, ...]) -> list[str]:
    return [warning.split(":")[0].split(" in sample")[0] for warning in warnings]


def test_a_warning_names_the_samples_and_each_sample_has_its_own() -> None:
    model, x = lx.load(steep()), np.array([CALM, LOUD, CALM, LOUD], np.float32)
    e = model.explain({"x": x}, PAPERS, lx.Target(index=0))
    (warning,) = e.warnings
    assert warning.startswith("relevance diverges in samples 1, 3 of 4: one entry of input 'x' is 3.3e+07")
    assert "the explained value is 1 (sample 1)" in warning
    assert "larger epsilon" in warning
    for sample, row in enumerate(x):
        alone = model.explain({"x": row[None]}, PAPERS, lx.Target(index=0))
        assert e.warnings_of(sample) == alone.warnings
        assert bool(alone.warnings) == (sample in (1, 3))
    assert "sample" not in e.warnings_of(1)[0]


def test_a_large_entry_causes_a_warning_although_the_ledger_closes() -> None:
    """The residual is only rounding, so only the size of an entry causes the warning."""
    e = lx.load(steep()).explain({"x": np.array([LOUD], np.float32)}, lx.LRP(epsilon=1e-9), lx.Target(index=0))
    assert abs(e.ledger.residual[0]) < 1e-3 * abs(e.explained[0])
    assert prefixes(e.warnings) == ["relevance diverges"]


@pytest.mark.parametrize("method", [lx.LRP(epsilon=1e-9), lx.GradientTimesInput(), lx.IntegratedGradients()], ids=str)
def test_an_entry_of_ten_times_the_value_is_the_limit_behind_a_second_layer(method: lx.Method) -> None:
    """The last layer has one term, the value itself, so there is no other scale."""
    model = linear(np.array([1.0, 1.0]), layers=2)
    for share, warned in ((0.98 * MAX_ENTRY, False), (1.02 * MAX_ENTRY, True)):
        e = model.explain({"x": np.array([[share, 1 - share]])}, method)
        np.testing.assert_allclose(e.explained, 1, rtol=1e-9)
        np.testing.assert_allclose(e.relevance["x"], [[share, 1 - share]], rtol=1e-6)
        assert prefixes(e.warnings) == (["relevance diverges"] if warned else [])


@pytest.mark.parametrize(
    "method",
    [lx.LRP(epsilon=1e-12), lx.GradientTimesInput(), lx.IntegratedGradients(), lx.Occlusion(), lx.ShapleySampling()],
    ids=str,
)
def test_an_entry_far_above_a_value_near_zero_is_said_to_cancel(method: lx.Method) -> None:
    """The sum of 3 and -2.999 is 0.001, so entries of 3 are the terms of the sum, and no stabiliser makes them less."""
    e = linear(np.array([3.0, -2.999])).explain({"x": np.ones((1, 2))}, method)
    np.testing.assert_allclose(e.explained, 0.001, rtol=1e-6)
    assert np.abs(e.relevance["x"]).max() > 1
    (warning,) = e.warnings
    assert warning.startswith("relevance diverges: one entry of input 'x' is 3.0e+00, but the explained value is 0.001")
    assert "nearly cancel" in warning
    assert "stabiliser" not in warning


def test_a_logit_near_zero_next_to_a_large_one_is_said_to_cancel() -> None:
    """Before an activation, there are no terms to compare with, only the sample's other logits."""
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 2])
    sums = g.op("MatMul", [x, g.constant(np.array([[3.0, 5.0], [-2.999, 1.0]]), "w")])
    model = lx.load(g.model(g.op("LeakyRelu", [sums]), ["B", 2], rename="y"))
    e = model.explain({"x": np.ones((1, 2))}, lx.LRP(epsilon=1e-12), lx.Target(index=0))
    np.testing.assert_allclose([*e.explained, e.outputs["y"][0, 1]], [0.001, 6.0], rtol=1e-6)
    np.testing.assert_allclose(e.relevance["x"], [[3.0, -2.999]], rtol=1e-6)
    assert FLOOR * 6.0 * MAX_ENTRY > 3.0
    (warning,) = e.warnings
    assert "nearly cancel" in warning


def test_what_a_value_near_zero_absorbs_does_not_warn() -> None:
    """3 + 3 - 2.999 - 3 is 0.001: biases of 3 + 3 are as small beside the terms as ever."""
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 2])
    value = g.op("MatMul", [x, g.constant(np.array([[-2.999], [-3.0]]), "w")])
    model = lx.load(g.model(g.op("Add", [value, g.constant(np.array([6.0]), "b")]), ["B", 1], rename="y"))
    e = model.explain({"x": np.ones((1, 2))}, lx.LRP(epsilon=1e-12))
    np.testing.assert_allclose([e.explained[0], e.ledger.absorbed[0]], [0.001, 6.0], rtol=1e-5)
    assert prefixes(e.warnings) == ["relevance diverges"]


def test_a_warning_quotes_a_sample_that_diverges_before_one_that_crosses_zero() -> None:
    found = Finding(DIVERGES, (0, 1), (3.0, 100.0), (3000.0, 50.0), (0.001, 2.0), ("x", "x"), (True, False))
    text = found.text(lx.LRP(), 2)
    assert "is 1.0e+02, but the explained value is 2 (sample 1); a larger stabiliser" in text
    assert "nearly cancel" in (found.of(0, 1) or found).text(lx.LRP(), 1)


def test_large_absorbed_relevance_causes_a_warning() -> None:
    """x - bias before a second layer: the magnitude of the bias relative to the value is unchanged."""
    for bias, warned in ((0.98 * MAX_ABSORBED, False), (1.02 * MAX_ABSORBED, True)):
        model = linear(np.array([0.25, 0.25, 0.25, 0.25]), -bias, layers=2)
        e = model.explain({"x": np.full((1, 4), 1 + bias)}, lx.LRP(epsilon=1e-12))
        np.testing.assert_allclose(e.ledger.absorbed, -bias, rtol=1e-6)
        assert prefixes(e.warnings) == (["relevance is absorbed"] if warned else [])
    assert "absorb 1.0e+01" in e.warnings[0]
    assert not model.explain({"x": np.full((1, 4), 1 + bias)}, lx.GradientTimesInput()).warnings


def test_an_integral_of_too_few_steps_says_by_how_much_and_what_to_set() -> None:
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["B", 1])
    model = lx.load(g.model(g.op("Sigmoid", [g.op("Mul", [x, g.constant(np.array([50.0]), "k")])]), ["B", 1]))
    found = {}
    for steps in (1, 100):
        target = lx.Target(pre_activation=False)
        found[steps] = model.explain({"x": np.ones((2, 1))}, lx.IntegratedGradients(steps=steps, max_steps=1), target)
    missing = abs(found[1].ledger.residual[0])
    assert missing > 0.05
    (warning,) = found[1].warnings
    assert warning.startswith("relevance is incomplete in samples 0, 1 of 2")
    assert f"{missing:.1e}" in warning
    assert "set max_steps above 1" in warning
    assert not found[100].warnings


@pytest.mark.parametrize("method", [lx.Gradient(), lx.SmoothGrad(samples=2)], ids=str)
def test_derivatives_cause_no_warning(method: lx.Method) -> None:
    assert not lx.load(steep()).explain({"x": np.array([LOUD], np.float32)}, method, lx.Target(index=0)).warnings


def test_a_specialised_program_gives_the_same_warnings() -> None:
    model, x = lx.load(steep()), {"x": np.array([LOUD], np.float32)}
    once = lx.load(steep()).explain(x, PAPERS, lx.Target(index=0))
    found = [model.explain(x, PAPERS, lx.Target(index=0)) for _ in range(5)]
    assert model.engine.known.count() == 1
    assert all(e.warnings == once.warnings for e in found)
    assert once.warnings


def test_requests_of_one_batch_get_their_own_warnings() -> None:
    model = lx.load(steep())
    together, rows = RequestBatching(model, {}), [[CALM], [LOUD, CALM], [LOUD]]
    requests = [ModelRequest({"x": np.array(row, np.float32)}, PAPERS, lx.Target(index=0)) for row in rows]
    alone = [model.explain(r.inputs, PAPERS, r.target) for r in requests]
    merged = together.merged(requests)
    whole = model.explain(merged.inputs, merged.method, merged.target)  # type: ignore[arg-type]
    record = together.record(together.key(requests[0]), requests)  # type: ignore[arg-type]
    together.learn(record, requests, alone, whole)
    assert record.layout is not None
    parts = together.split(whole, requests, record.layout)
    assert [part.warnings for part in parts] == [e.warnings for e in alone]
    assert [bool(part.warnings) for part in parts] == [False, True, True]


@pytest.mark.parametrize("name", zoo.names())
def test_no_warning_where_every_entry_is_within_the_limits(name: str) -> None:
    """Conversely, there is a warning wherever the plain limits are exceeded on the largest possible scale."""
    case = zoo.load(name)
    model = lx.load(case.path)
    target = lx.Target(case.target_output, case.target_index, case.target_batch_axis)
    for rule in ("all", "prop"):
        e = model.explain(case.inputs, lx.LRP(rule), target)  # type: ignore[arg-type]
        entry = max(float(np.abs(a).max()) for a in e.relevance.values())
        value = np.abs(e.explained).min()
        if entry <= MAX_ENTRY * value:
            assert "relevance diverges" not in prefixes(e.warnings)
        if len(e.explained) == 1 and entry > 1e4 * value:
            assert "relevance diverges" in prefixes(e.warnings)
