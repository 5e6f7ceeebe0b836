# SPDX-License-Identifier: Apache-2.0
"""The study of stabilisers: its networks equal the engine, which shares no code with them, and its laws hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

import lstm_explain as lx
from scripts.stabilisers.cells import GRU, LSTM
from scripts.stabilisers.networks import Network, from_onnx
from scripts.stabilisers.rules import Rule, Stabiliser, absolute, bounded, clipped, gap, relative, same
from scripts.stabilisers.sources import MODELS
from scripts.stabilisers.toy import toys

EPSILON = 1e-3
Floats = npt.NDArray[np.float64]


def _file(name: str) -> str:
    return str(MODELS / name / "1" / "model.onnx")


RULES = [
    (same("papers", absolute(EPSILON)), lx.LRP(epsilon=EPSILON)),
    (bounded(0.1), lx.LRP()),
    (bounded(0.03, 1.5), lx.LRP(stabiliser=0.03, ceiling=1.5)),
    (Rule("cell", gap(0.2), gap(0.05), gap(0.3)), lx.LRP(stabiliser=(0.2, 0.05), layer_stabiliser=0.3, ceiling=1e9)),
]


@pytest.mark.parametrize(("rule", "method"), RULES)
@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("addition", np.random.default_rng(0).uniform(-1, 1, (3, 7, 3)).astype(np.float32)),
        ("discharge", np.random.default_rng(1).uniform(0, 50, (2, 30, 5)).astype(np.float32)),
        ("sentiment", np.random.default_rng(2).integers(2, 8000, (2, 9))),
    ],
)
def test_a_bundled_model_has_the_engine_s_relevance(
    name: str, x: npt.NDArray[np.generic], rule: Rule, method: lx.LRP
) -> None:
    network, model = from_onnx(MODELS / name / "1" / "model.onnx"), lx.load(_file(name))
    run = network.run(x)
    index = run.y.argmax(1)
    relevance, explained = network.relevance(run, index, rule)
    target = lx.Target(index=index) if run.y.shape[1] > 1 else lx.Target()
    answer = model.explain({next(iter(model.inputs)): x}, method, target)
    theirs = next(iter(answer.relevance.values()))
    mine = relevance if theirs.ndim == 3 else relevance.sum(2)
    np.testing.assert_allclose(explained, answer.explained, rtol=1e-4)
    np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(("rule", "method"), RULES)
def test_a_gru_has_the_engine_s_relevance(rule: Rule, method: lx.LRP) -> None:
    rng = np.random.default_rng(3)
    W, R, B = (rng.normal(size=shape).astype(np.float32) for shape in ((1, 12, 3), (1, 12, 4), (1, 24)))
    V = rng.normal(size=(2, 4)).astype(np.float32)
    nodes = [
        helper.make_node("GRU", ["x", "W", "R", "B"], ["", "last"], hidden_size=4, linear_before_reset=1),
        helper.make_node("Squeeze", ["last", "zero"], ["state"]),
        helper.make_node("Gemm", ["state", "V"], ["y"], transB=1),
    ]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "gru",
        [helper.make_tensor_value_info("x", float32, ["T", "B", 3])],
        [helper.make_tensor_value_info("y", float32, ["B", 2])],
        [numpy_helper.from_array(a, n) for n, a in {"W": W, "R": R, "B": B, "V": V, "zero": np.array([0])}.items()],
    )
    model = lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    x = rng.normal(size=(6, 2, 3)).astype(np.float32)
    answer = model.explain({"x": x}, method, lx.Target(index=1))
    cell = GRU(*(a.astype(np.float64) for a in (W[0], R[0], B[0, :12], B[0, 12:])))
    network = Network([[cell]], V.astype(np.float64), np.zeros(2))
    run = network.run(x.transpose(1, 0, 2))
    relevance, _ = network.relevance(run, np.array([1, 1]), rule)
    theirs = answer.relevance["x"].transpose(1, 0, 2)
    np.testing.assert_allclose(relevance, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("stabiliser", [relative(0.1), clipped(0.1), gap(0.1)])
def test_a_relative_stabiliser_bounds_what_a_neuron_passes_on(stabiliser: Stabiliser) -> None:
    terms = np.random.default_rng(4).normal(size=(1000, 8))
    terms[:500, -1] = -terms[:500, :-1].sum(1)  # these cancel
    z, total = terms.sum(1), np.abs(terms).sum(1)
    assert (total / np.abs(stabiliser(z, total))).max() <= 1 / 0.1 * (1 + 1e-9)


def test_gap_loses_nothing_where_all_terms_agree() -> None:
    z = np.array([3.0, -2.0])
    np.testing.assert_array_equal(gap(0.1)(z, np.abs(z)), z)
    assert (np.abs(relative(0.1)(z, np.abs(z))) > np.abs(z)).all()


def test_the_ceiling_holds_where_relevance_explodes_without_it() -> None:
    rng, H, T = np.random.default_rng(7), 24, 300
    bias = np.repeat([0.0, 0.0, 1.0, 0.0], H)
    cell = LSTM(rng.normal(0, 1.5, (4 * H, 4)), rng.normal(0, 3 / np.sqrt(H), (4 * H, H)), bias)
    network = Network([[cell]], rng.normal(size=(1, H)), np.zeros(1))
    run, index = network.run(rng.normal(size=(4, T, 4))), np.zeros(4, int)

    def growth(rule: Rule) -> float:
        network.relevance(run, index, rule)
        return float(network.growth()[0].max())

    assert growth(same("", absolute(1e-6))) > 1e3
    assert growth(Rule("", gap(0), gap(0), gap(0), ceiling=2.0)) <= 2 * (1 + 1e-9)


@pytest.mark.parametrize("task", ["addition", "subtraction"])
def test_the_bounded_rule_keeps_the_toy_figures(task: str) -> None:
    figures = np.mean([toy.figures(bounded(0.1)) for toy in toys(task)], axis=0)
    assert np.abs(figures).min() > 98
