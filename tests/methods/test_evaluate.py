# SPDX-License-Identifier: Apache-2.0
"""Measures of explanations, on models whose right explanation is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.cli import main
from lstm_explain.evaluate.data import player_set_of
from lstm_explain.evaluate.summary import split
from tests.builders import recurrent_model
from tests.graph_builder import GraphBuilder

ROOT = Path(__file__).parents[2]


def additive(weights: Any) -> lx.Model:
    """y = sum of w_t x_t: relevance is w_t x_t, and every curve is a known sum."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T"])
    return lx.load(
        g.model(g.op("ReduceSum", [g.op("Mul", [x, g.constant(weights, "w")]), g.ints(1)], keepdims=1), ["B", 1])
    )


W = np.array([1.0, -2.0, 3.0, 0.5, -1.0])
X = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [2.0, -1.0, 0.5, 4.0, 3.0]], np.float32)


def test_curves_of_a_sum_are_partial_sums() -> None:
    model, parts = additive(W), W * X
    made = lx.evaluate.deletion(model, {"x": X}, [lx.GradientTimesInput()], lx.Target(index=0), points=6)
    down = np.sort(parts, axis=1)[:, ::-1]
    left = parts.sum(axis=1, keepdims=True) - np.concatenate([np.zeros((2, 1)), np.cumsum(down, axis=1)], axis=1)
    np.testing.assert_allclose(made.curves["gradient_times_input"].scores, left, atol=1e-5)
    up = np.concatenate([np.zeros((2, 1)), np.cumsum(down, axis=1)], axis=1)
    received = lx.evaluate.insertion(model, {"x": X}, [lx.GradientTimesInput()], lx.Target(index=0), points=6)
    np.testing.assert_allclose(received.curves["gradient_times_input"].scores, up, atol=1e-5)
    back = parts.sum(axis=1, keepdims=True) - np.concatenate(
        [np.zeros((2, 1)), np.cumsum(down[:, ::-1], axis=1)], axis=1
    )
    np.testing.assert_allclose(made.reverse["gradient_times_input"].scores, back, atol=1e-5)
    np.testing.assert_allclose(
        made.curves["gradient_times_input"].auc, ((left[:, 1:] + left[:, :-1]) / 2).mean(axis=1), atol=1e-5
    )
    auc = made.auc()
    assert auc["gradient_times_input"] < auc["random"] < auc["reverse gradient_times_input"]


def test_batches_and_equal_methods_stay_separate() -> None:
    rng = np.random.default_rng(81)
    built = recurrent_model(rng, sequence_lens=True)
    model = lx.load(built.model)
    data = [built.feeds(rng, T=5, B=3), built.feeds(rng, T=4, B=2)]
    methods = [lx.LRP(), lx.LRP("half"), lx.Occlusion()]
    heard: list[str] = []
    made = lx.evaluate.deletion(model, data, methods, points=4, progress=heard.append)
    assert list(made.curves) == ["lrp(product_rule=all)", "lrp(product_rule=half)", "occlusion"]
    assert made.random.scores.shape == made.curves["occlusion"].scores.shape == (5, 4)
    np.testing.assert_allclose(made.curves["occlusion"].scores[:, 0], made.random.scores[:, 0], rtol=1e-5)
    np.testing.assert_allclose(made.curves["occlusion"].scores[:, -1], made.random.scores[:, -1], rtol=1e-5)
    assert len(heard) == 8
    alone = lx.evaluate.deletion(model, data[1], methods, points=4)
    np.testing.assert_allclose(alone.curves["occlusion"].scores, made.curves["occlusion"].scores[3:], rtol=1e-5)
    assert np.isfinite(made.curves["occlusion"].standard_error).all()


def test_relevance_of_players_sums_their_cells() -> None:
    rng = np.random.default_rng(82)
    built = recurrent_model(rng, initial_states="input", batch_first=True)
    feeds, model = built.feeds(rng, T=4, B=2), lx.load(built.model)
    e = model.explain(feeds, lx.LRP(), lx.Target(index=0))
    player_set = player_set_of(model, feeds, lx.Target(index=0))
    rows = player_set.totals(e.relevance)
    np.testing.assert_allclose(rows[:, :4], e.relevance["x"].sum(axis=2), rtol=1e-5)
    np.testing.assert_allclose(rows[:, 4], e.relevance["initial_h_0"].sum(axis=(0, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(rows.sum(axis=1), e.ledger.inputs, rtol=1e-4, atol=1e-6)


def test_conservation_collects_the_ledgers() -> None:
    rng = np.random.default_rng(83)
    built = recurrent_model(rng)
    model, data = lx.load(built.model), [built.feeds(rng, T=4, B=3), built.feeds(rng, T=6, B=2)]
    received = lx.evaluate.conservation(model, data, [lx.LRP(), lx.LRP(bias_factor=1.0), lx.IntegratedGradients(20)])
    full = received["lrp(bias_factor=1.0)"]
    assert full.explained.shape == (5,)
    assert full.share("absorbed") < 1e-4
    assert full.share("residual") < 1e-4
    assert received["lrp(bias_factor=0.0)"].share("absorbed") > 0.01
    complete = received["integrated_gradients"]
    np.testing.assert_allclose(complete.inputs + complete.absorbed, complete.explained, atol=1e-4)
    np.testing.assert_allclose(full.inputs + full.initial_states, full.explained, rtol=1e-4)
    assert -1 <= full.correlation <= 1


def test_rank_correlation() -> None:
    a = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    b = np.array([[10.0, 20.0, 40.0, 30.0], [2.0, 3.0, 5.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    received = lx.evaluate.rank_correlation(a, b)
    assert received[0] == pytest.approx(0.8)
    assert received[1] == pytest.approx(np.corrcoef([0.5, 0.5, 2, 3], [0, 1, 3, 2])[0, 1])
    assert np.isnan(received[2])


def test_agreement_is_symmetric_and_reflexive() -> None:
    model = additive(W)
    received = lx.evaluate.agreement(
        model, {"x": X}, [lx.GradientTimesInput(), lx.Occlusion(), lx.Gradient()], lx.Target(index=0)
    )
    np.testing.assert_allclose(np.diag(received.correlation), 1.0)
    np.testing.assert_allclose(received.correlation, received.correlation.T)
    assert received.correlation[0, 1] == pytest.approx(1.0)
    assert received.correlation[0, 2] < 1.0


def test_randomisation_changes_what_depends_on_weights() -> None:
    """LRP changes; the magnitude of the input, as a method that ignores the weights would report, does not."""
    rng = np.random.default_rng(84)
    built = recurrent_model(rng, H=8, layers=2)
    feeds, model = built.feeds(rng, T=12, B=6), lx.load(built.model)
    received = lx.evaluate.randomisation(model, feeds, [lx.LRP(), lx.Gradient()], over="cells")
    assert received.nodes == ["dense", "layer1", "layer0"]
    assert (np.abs(received.correlation["lrp"]) <= 1).all()
    assert received.correlation["lrp"][-1] < 0.9
    again = lx.evaluate.randomisation(model, feeds, [lx.LRP(), lx.Gradient()], over="cells")
    np.testing.assert_array_equal(again.correlation["gradient"], received.correlation["gradient"])


def test_randomisation_is_the_mean_and_the_spread_of_several_draws() -> None:
    """Two draws are 2 m - a, where m is their mean and a the first of them, which is the only one of a single draw."""
    rng = np.random.default_rng(85)
    built = recurrent_model(rng, H=8)
    feeds, model = built.feeds(rng, T=12, B=2), lx.load(built.model)
    one, two = (lx.evaluate.randomisation(model, feeds, [lx.LRP()], over="cells", draws=n) for n in (1, 2))
    first, mean = one.correlation["lrp"], two.correlation["lrp"]
    assert (np.abs(first - mean) > 1e-3).all()
    np.testing.assert_allclose(two.spread["lrp"], np.sqrt(2) * np.abs(first - mean), rtol=1e-9)
    assert np.isnan(one.spread["lrp"]).all()
    with pytest.raises(lx.InputError, match="draws is 0"):
        lx.evaluate.randomisation(model, feeds, [lx.LRP()], draws=0)


def test_weights_are_found_wherever_they_are_kept() -> None:
    """In a Constant node, before a Transpose, and in the body of a Scan."""
    rng = np.random.default_rng(82)
    kept = {name: rng.standard_normal((3, 3)).astype(np.float32) for name in ("a", "b", "c")}
    node = helper.make_node
    body = helper.make_graph(
        [node("MatMul", ["step", "c"], ["moved"], "inner"), node("Add", ["sum_in", "moved"], ["sum_out"], "add")],
        "body",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("sum_in", "step")],
        [helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kept["c"], "c")],
    )
    nodes = [
        node("Constant", [], ["a"], value=numpy_helper.from_array(kept["a"])),
        node("Transpose", ["b"], ["b_turned"], "turn", perm=[1, 0]),
        node("MatMul", ["x", "a"], ["first"], "first"),
        node("Scan", ["zero", "first"], ["summed"], "scan", body=body, num_scan_inputs=1),
        node("MatMul", ["summed", "b_turned"], ["y"], "last"),
    ]
    constants = [numpy_helper.from_array(kept["b"], "b"), numpy_helper.from_array(np.zeros((2, 3), np.float32), "zero")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph(nodes, "kept", [x], [y], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = lx.load(proto)
    feeds = {"x": rng.standard_normal((4, 2, 3)).astype(np.float32)}
    received = lx.evaluate.randomisation(model, feeds, [lx.Gradient()], lx.Target(index=0), over="cells")
    assert received.nodes == ["last", "scan", "first"]
    assert (np.diff(received.correlation["gradient"]) != 0).all()  # each of them changed something


def test_the_command_measures_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(85)
    built = recurrent_model(rng, batch_first=True)
    onnx.save(built.model, str(tmp_path / "m.onnx"))
    np.save(tmp_path / "x.npy", built.feeds(rng, T=5, B=7)["x"])
    expected = ["lrp:product_rule=half,epsilon=0.01", "lrp", "occlusion"]
    options = [option for name in expected for option in ("--method", name)]
    common = ["evaluate", tmp_path / "m.onnx", "--input", f"x={tmp_path / 'x.npy'}", *options, "--batch-size", "4"]

    def command(*more: object) -> str:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in (*common, *more)])
        assert left.value.code in (0, None)
        return capsys.readouterr().out

    found = json.loads(command("--json", "--randomise", "--plot", tmp_path / "curves.svg"))
    default = "lrp(product_rule=all, stabiliser=0.1, cell_stabiliser=0.0, layer_stabiliser=0.02, ceiling=10.0)"
    names = ["lrp(product_rule=half, epsilon=0.01)", default, "occlusion"]
    assert found["agreement"]["names"] == names
    assert len(found["deletion"]["mean"]["random"]) == 11
    assert found["randomisation"]["nodes"] == ["dense", "layer0"]
    assert all(spread > 0 for spread in found["randomisation"]["spread"]["occlusion"])
    assert "occlusion" in (tmp_path / "curves.svg").read_text(encoding="utf-8")
    text = command()
    assert "insertion" in text
    assert "rank correlation" in text


def test_the_command_deletes_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its baseline is a number, which is a token here."""
    model = ROOT / "models" / "sentiment" / "1" / "model.onnx"
    np.save(tmp_path / "tokens.npy", np.random.default_rng(88).integers(1, 3000, (3, 6)))
    command = ["evaluate", str(model), "--input", f"tokens={tmp_path / 'tokens.npy'}", "--json"]
    with pytest.raises(SystemExit) as left:
        main([*command, "--baseline", "2"])
    assert left.value.code in (0, None)
    assert len(json.loads(capsys.readouterr().out)["deletion"]["mean"]["random"]) == 11
    with pytest.raises(SystemExit):
        main([*command, "--baseline", "0.5"])
    assert "whole numbers" in capsys.readouterr().err


def test_inputs_of_different_numbers_of_samples_are_refused() -> None:
    built = recurrent_model(np.random.default_rng(86), sequence_lens=True)
    feeds = built.feeds(np.random.default_rng(87), T=3, B=4)
    with pytest.raises(lx.InputError, match="x 4, lens 3"):
        split(lx.load(built.model), {**feeds, "lens": feeds["lens"][:3]}, 2)
