# SPDX-License-Identifier: Apache-2.0
"""Contextual decomposition equals the paper's equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from tests import zoo
from tests.builders import recurrent_model
from tests.reference.decomposition import decomposed


@pytest.mark.parametrize("head", ["last", "mean", "Y_h", "Y_c"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("span", [None, (0, 2), (1, 4), (0, 4)])
def test_parts_equal_the_papers(head: Any, direction: Any, ragged: bool, span: tuple[int, int] | None) -> None:
    """Of every step, or of a span of them and of every other step."""
    rng = np.random.default_rng(51)
    built = recurrent_model(rng, D=2, H=3, direction=direction, head=head, sequence_lens=ragged)
    feeds = built.feeds(rng, T=4, B=2)
    if ragged and span is not None:
        feeds["lens"] = np.maximum(feeds["lens"], span[1])
    e = lx.load(built.model).explain(feeds, lx.ContextualDecomposition(span), lx.Target(index=1))
    layer, dense = built.network.layers[0], built.network
    start, end = span or (0, 0)
    phrases = [[t] for t in range(4) if not start <= t < end] + ([list(range(start, end))] if span else [])
    for b in range(2):
        length = int(feeds["lens"][b]) if ragged else 4
        for phrase in phrases:
            beta_score = gamma_score = 0.0
            for d in range(layer.dirs):
                backwards = direction == "reverse" or d == 1
                x = feeds["x"][:length, b][:: -1 if backwards else 1].astype(float)
                place = [length - 1 - t if backwards else t for t in phrase]
                bias = layer.B[d][:12] + layer.B[d][12:]
                last, cell, every = decomposed(x, layer.W[d], layer.R[d], bias, place)
                if backwards:
                    every = every[::-1]
                every = every + [(np.zeros(3), np.zeros(3))] * (4 - length)
                chosen = {"Y_h": last, "Y_c": cell, "last": every[-1]}.get(head)
                if head == "mean":
                    chosen = tuple(sum(h[k] for h in every) / 4 for k in (0, 1))
                w = dense.W[1, 3 * d : 3 * d + 3]
                beta_score += float(w @ chosen[0])
                gamma_score += float(w @ chosen[1])
            of_cells = e.relevance["x"][phrase, b]
            np.testing.assert_allclose(of_cells.sum(), beta_score, atol=1e-5)
            np.testing.assert_allclose(of_cells, beta_score / of_cells.size, atol=1e-5)
            bias_of_head = dense.b[1]
            np.testing.assert_allclose(beta_score + gamma_score + bias_of_head, e.explained[b], atol=1e-5)
            np.testing.assert_allclose(e.ledger.absorbed[b], bias_of_head, atol=1e-5)


@pytest.mark.parametrize(("steps", "span"), [(1, None), (1, (0, 1)), (5, (0, 5))])
def test_a_phrase_of_all_steps_is_everything_but_the_bias(steps: int, span: tuple[int, int] | None) -> None:
    """With a single phrase, there is no other contribution, so beta is all of h."""
    rng = np.random.default_rng(52)
    built = recurrent_model(rng, D=2, H=3)
    feeds = built.feeds(rng, T=steps, B=4)
    e = lx.load(built.model).explain(feeds, lx.ContextualDecomposition(span), lx.Target(index=0))
    np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-6)


def test_a_span_of_one_step_changes_nothing() -> None:
    rng = np.random.default_rng(57)
    built = recurrent_model(rng)
    feeds, model, target = built.feeds(rng, T=5), lx.load(built.model), lx.Target(index=0)
    every, spanned = (model.explain(feeds, lx.ContextualDecomposition(s), target) for s in (None, (2, 3)))
    np.testing.assert_array_equal(every.relevance["x"], spanned.relevance["x"])


@pytest.mark.parametrize(
    "span", [(2, 2), (3, 2), (-1, 2), (1,), (1, 2, 3), (1.0, 2), (True, 2), (0, None), 3, "0:2", ((0, 1), (2, 3))]
)
def test_other_spans_are_errors(span: Any) -> None:
    with pytest.raises(lx.MethodError, match="0 <= start < end") as caught:
        lx.ContextualDecomposition(span)
    assert repr(span) in str(caught.value)
    assert caught.value.field == "method.span"


def test_a_span_ends_within_every_sample() -> None:
    """The error does not depend on the rest of the batch: padding is no part of a sample."""
    rng = np.random.default_rng(58)
    built = recurrent_model(rng, sequence_lens=True)
    model, target = lx.load(built.model), lx.Target(index=0)
    feeds = built.feeds(rng, T=6, B=2)
    feeds["lens"][:] = (6, 3)
    with pytest.raises(lx.MethodError, match=r"\(2, 5\), but a sample has 3 time steps") as caught:
        model.explain(feeds, lx.ContextualDecomposition((2, 5)), target)
    assert caught.value.field == "method.span"
    feeds["lens"][:] = 6
    with pytest.raises(lx.MethodError, match="a sample has 6 time steps"):
        model.explain(feeds, lx.ContextualDecomposition((2, 7)), target)
    model.explain(feeds, lx.ContextualDecomposition((2, 6)), target)


def test_many_steps_are_computed_in_parts(monkeypatch: Any) -> None:
    built = recurrent_model(np.random.default_rng(53))
    feeds, model = built.feeds(np.random.default_rng(54), T=7), lx.load(built.model)
    method, target = lx.ContextualDecomposition(), lx.Target(index=0)
    whole = model.explain(feeds, method, target).relevance["x"]
    monkeypatch.setattr("lstm_explain.runner.decomposition.MAX_BYTES", 1)
    np.testing.assert_allclose(model.explain(feeds, method, target).relevance["x"], whole)


@pytest.mark.parametrize("op", ["Relu", "LeakyRelu", "Elu", "Gelu", "Dropout"])
def test_functions_of_single_elements_may_come_before_the_lstm(op: str) -> None:
    """Each time step remains separate."""
    built, rng = recurrent_model(np.random.default_rng(55)), np.random.default_rng(56)
    feeds = {name: np.abs(x) + 8 for name, x in built.feeds(rng, T=4, B=2).items()}
    changed = onnx.ModelProto.FromString(built.model.SerializeToString())
    changed.opset_import[0].version = 20  # which brought Gelu
    nodes = [onnx.helper.make_node(op, ["x"], ["before"], name="before"), *changed.graph.node]
    lstm = next(node for node in nodes if node.op_type == "LSTM")
    lstm.input[0] = "before"
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    method, target = lx.ContextualDecomposition(), lx.Target(index=1)
    received, expected = (lx.load(model).explain(feeds, method, target) for model in (changed, built.model))
    np.testing.assert_allclose(received.relevance["x"], expected.relevance["x"], rtol=1e-4, atol=1e-6)


def test_a_running_sum_of_whole_numbers_mixes_time_steps() -> None:
    built = recurrent_model(np.random.default_rng(55), D=2)
    changed = onnx.ModelProto.FromString(built.model.SerializeToString())
    changed.graph.initializer.append(onnx.numpy_helper.from_array(np.int64(0), "axis"))
    changed.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    nodes = [
        onnx.helper.make_node("CumSum", ["x", "axis"], ["sums"], name="sums"),
        onnx.helper.make_node("Cast", ["sums"], ["before"], name="cast", to=onnx.TensorProto.FLOAT),
        *changed.graph.node,
    ]
    next(node for node in nodes if node.op_type == "LSTM").input[0] = "before"
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    with pytest.raises(lx.UnsupportedOperator, match="sums"):
        lx.load(changed).explain({"x": np.ones((4, 3, 2), np.int64)}, lx.ContextualDecomposition(), lx.Target(index=1))


REFUSED = {
    "k_stacked_timedist_tf2onnx15": "LSTM__665",
    "h_gru_lbr1_op14": "GRU_1",
    "h_lstm_yc_relu_mlp_op14": "Relu_4",
    "h_lstm_clip_op14": "LSTM_1",
    "t_lstm_addattn_legacy17": "/Tanh",
    "t_static_each_step_legacy17": "/Concat_1",
    "k_conv_pool_lstm_softmax_tf2onnx17": "MaxPool",
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_refused_with_the_name_of_a_node(name: str) -> None:
    case = zoo.load(name)
    target = lx.Target(case.target_output, case.target_index)
    with pytest.raises(lx.UnsupportedOperator, match=REFUSED[name]):
        lx.load(case.path).explain(case.inputs, lx.ContextualDecomposition(), target)
