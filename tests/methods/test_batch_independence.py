# SPDX-License-Identifier: Apache-2.0
"""A sample's answer does not depend on the rest of its batch, whatever the method and however the graph folds the
batch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest

import lstm_explain as lx
from lstm_explain import explanation
from lstm_explain.runner import gradient_points, model_runner
from tests import cases, zoo
from tests.builders import recurrent_model
from tests.graph_builder import GraphBuilder

METHODS: list[lx.Method] = [
    lx.LRP(),
    lx.LRP("prop"),
    lx.Gradient(),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(steps=20),
    lx.GradientShap(samples=4),
    lx.SmoothGrad(samples=3),
    lx.Occlusion(window=2),
    lx.ShapleySampling(permutations=2),
    lx.ContextualDecomposition(),
]
NEEDS_BASELINE = {"integrated_gradients", "gradient_shap", "occlusion", "shapley_sampling"}
CLOSE = 1e-5  # of the largest number; what another order of float32's sums may do to LRP
Arrays = dict[str, Any]


def taken(model: lx.Model, arrays: Arrays, rows: list[int], batch: int) -> Arrays:
    """These samples of every input that holds samples."""
    axes = {name: model.axes[name].batch for name in arrays}
    return {n: a if axes[n] is None or a.shape[axes[n]] != batch else a.take(rows, axes[n]) for n, a in arrays.items()}


def check_rows(model: lx.Model, inputs: Arrays, method: lx.Method, target: lx.Target, groups: list[list[int]]) -> None:
    """Checks that the answer for these samples alone equals their part of the whole batch, and that the ledger's
    `inputs` adds up.
    """
    whole = model.explain(inputs, method, target)
    batch = len(whole.explained)
    for rows in groups:
        some = model.explain(taken(model, inputs, rows, batch), method, target)
        expected = taken(model, whole.relevance, rows, batch)
        falls = np.abs(whole.explained).max() if method.name in NEEDS_BASELINE else 0.0  # small differences of scores
        for name, array in some.relevance.items():
            scale = np.abs(expected[name]).max(initial=max(falls, 1e-30))
            assert np.abs(array - expected[name]).max(initial=0.0) <= CLOSE * scale, (name, rows)
        for part in ("inputs", "initial_states", "absorbed"):
            received, there = getattr(some.ledger, part), getattr(whole.ledger, part)[rows]
            scale = np.abs([there, whole.explained[rows], some.ledger.inputs]).max(axis=0)
            assert (np.abs(received - there) <= CLOSE * scale + 1e-30).all(), (part, rows)
    for row in range(batch):
        own = [a.astype(np.float64) for a in taken(model, whole.relevance, [row], batch).values()]
        spread = sum(np.abs(a).sum() for a in own) + 1e-30
        assert abs(sum(a.sum() for a in own) - whole.ledger.inputs[row]) <= 1e-6 * spread, row


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'product_rule', '')}")
@pytest.mark.parametrize("name", cases.names())
def test_cases(name: str, method: lx.Method) -> None:
    case = cases.load(name)
    if case.name == "manual_bidir_flip" and method.name in NEEDS_BASELINE:  # zeros divide by zero
        method = dataclasses.replace(method, baseline={"mask": 1.0})  # type: ignore[call-arg]
    try:
        check_rows(case.model, case.inputs, method, lx.Target(index=0), [[0], [1], [2], [2, 0], [1, 2, 0]])
    except lx.UnsupportedOperator as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", [lx.IntegratedGradients(5, max_steps=5), lx.Occlusion()], ids=lambda m: m.name)
@pytest.mark.parametrize("name", cases.names())
def test_cases_with_a_background(name: str, method: Any) -> None:
    """Every sample of a batch is compared with the same draws, also where a graph mixes the samples."""
    case = cases.load(name)
    names = [n for n in case.inputs if n != "mask" and n not in case.model.lengths]
    axes = {n: case.model.axes[n].batch for n in names}
    samples = {n: np.moveaxis(case.inputs[n], axis, 0) for n, axis in axes.items() if axis is not None}
    method = method.with_baseline(lx.Background(samples, draws=2))
    try:
        check_rows(case.model, case.inputs, method, lx.Target(index=0), [[0], [1], [2], [2, 0], [1, 2, 0]])
    except lx.UnsupportedOperator as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [n for n in zoo.names() if n != "h_lstm_state_const_op14"])  # a state for each row
def test_the_zoo(name: str) -> None:
    case = zoo.load(name)
    model, batch = lx.load(case.path), case.outputs[case.target_output].shape[case.target_batch_axis]
    target = lx.Target(case.target_output, case.target_index, case.target_batch_axis)
    free = all(isinstance(spec.shape[model.axes[n].batch or 0], str) for n, spec in model.inputs.items())
    groups = [[0], [batch - 1]] if free else []
    for method in METHODS:
        try:
            check_rows(model, case.inputs, method, target, [*groups, list(range(batch))[::-1]])
        except lx.UnsupportedOperator:
            assert isinstance(method, lx.ContextualDecomposition)


def shared_scale(batch: Any = "B") -> tuple[lx.Model, Arrays]:
    """tanh(x * s) @ w, where all samples share the input s, whose length equals the number of samples."""
    rng = np.random.default_rng(5)
    g = GraphBuilder(np.float32, 17)
    x, s = g.input("x", [batch, 3]), g.input("s", [3])
    y = g.op("MatMul", [g.op("Tanh", [g.op("Mul", [x, s])]), g.constant(rng.normal(size=(3, 2)), "w")])
    feeds = {"x": rng.normal(size=(3, 3)), "s": rng.normal(size=3)}
    return lx.load(g.model(y, [batch, 2])), {name: a.astype(np.float32) for name, a in feeds.items()}


@pytest.mark.parametrize("batch", ["B", 3])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'product_rule', '')}")
def test_a_shared_input_gets_the_sum_over_samples(method: lx.Method, batch: Any) -> None:
    model, feeds = shared_scale(batch)
    free, _ = shared_scale()
    assert model.axes["s"] == lx.Axes(None, None)
    try:
        whole = model.explain(feeds, method, lx.Target(index=1))
    except lx.UnsupportedOperator:
        assert isinstance(method, lx.ContextualDecomposition)
        return
    alone = [free.explain({**feeds, "x": feeds["x"][[b]]}, method, lx.Target(index=1)) for b in range(3)]
    np.testing.assert_allclose(whole.relevance["x"], [e.relevance["x"][0] for e in alone], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.ledger.inputs, [e.ledger.inputs[0] for e in alone], rtol=1e-5)
    np.testing.assert_allclose(whole.relevance["s"], sum(e.relevance["s"] for e in alone), rtol=1e-4, atol=1e-6)
    assert not any("axes are a guess" in warning for warning in whole.warnings)


MANY_RUNS = [method for method in METHODS if method.name in {*NEEDS_BASELINE, "smooth_grad"}]


def turned_by_picking(batch: Any) -> lx.Model:
    """Three samples change positions before the LSTM and back after it, by constant indices."""
    picks = [onnx.helper.make_node("Gather", [a, "order"], [b], axis=0) for a, b in ("zx", ("logits", "y"))]
    return rearranged(batch, *picks, order=[2, 1, 0])


@pytest.mark.parametrize("method", MANY_RUNS, ids=lambda m: m.name)
@pytest.mark.parametrize("name", ["tokens", "z"])
def test_positions_in_a_batch_of_fixed_size_do_not_matter(name: str, method: lx.Method) -> None:
    """Permuting the batch permutes the answers, and each equals the answer alone in an equivalent graph that takes
    batches of any size.
    """
    if name == "tokens":
        (model, array), (free, _) = sorted_lookup(3), sorted_lookup("B")
    else:
        model, free = turned_by_picking(3), rearranged("B", *same_places())
        array = np.random.default_rng(3).normal(size=(3, 5, 2)).astype(np.float32)
    target, order = lx.Target(index=1), [1, 2, 0]
    whole = model.explain({name: array}, method, target)
    turned = model.explain({name: array[order]}, method, target)
    alone = [free.explain({name: array[[b]]}, method, target) for b in range(3)]
    close = {"rtol": 1e-4, "atol": 1e-5 * float(np.abs(whole.relevance[name]).max())}
    np.testing.assert_allclose(turned.relevance[name], whole.relevance[name][order], **close)
    np.testing.assert_allclose(whole.relevance[name], [e.relevance[name][0] for e in alone], **close)
    np.testing.assert_allclose(whole.ledger.inputs, [e.ledger.inputs[0] for e in alone], **close)
    assert not any("place in the batch" in warning for warning in whole.warnings)


def same_places() -> list[onnx.NodeProto]:
    return [onnx.helper.make_node("Identity", [a], [b]) for a, b in ("zx", ("logits", "y"))]


def test_noise_that_depends_on_the_position_causes_a_warning() -> None:
    """The graph folds the words of all samples into one axis before it sorts them and looks them up."""
    rng = np.random.default_rng(6)
    g = GraphBuilder(np.float32, 17)
    words = g.op("Reshape", [g.input("tokens", [3, 4], 7), g.ints(-1)])
    count = g.ints(12)
    sort = g.ops("TopK", [words, count], 2, "sorted", axis=0)
    back = g.ops("TopK", [sort[1], count], 2, "unsorted", axis=0, largest=0)[1]
    vectors = g.op("Tanh", [g.op("Gather", [g.constant(rng.normal(size=(9, 2)), "table"), sort[0]])])
    placed = g.op("Reshape", [g.op("Gather", [vectors, back], axis=0), g.ints(3, 4, 2)])
    model = lx.load(g.model(g.reduce("sum", placed, 1, "summed"), [3, 2]))
    tokens = np.array([[2, 5, 1, 1], [7, 3, 3, 8], [4, 4, 6, 2]])
    messages = model.explain({"tokens": tokens}, lx.SmoothGrad(samples=3), lx.Target(index=0)).warnings
    assert any("place in the batch" in warning for warning in messages)
    messages = model.explain({"tokens": tokens}, lx.IntegratedGradients(steps=5), lx.Target(index=0)).warnings
    assert not any("place in the batch" in warning for warning in messages)


def test_a_batch_of_fixed_size_is_explained_sample_by_sample_in_the_whole() -> None:
    """The graph sorts samples before the lookup, and only takes batches of three."""
    model, tokens = sorted_lookup(3)
    free, _ = sorted_lookup("B")
    method = lx.IntegratedGradients(steps=20)
    received = model.explain({"tokens": tokens}, method, lx.Target(index=0))
    for b in range(3):
        alone = free.explain({"tokens": tokens[[b]]}, method, lx.Target(index=0))
        np.testing.assert_allclose(received.relevance["tokens"][b], alone.relevance["tokens"][0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(received.ledger.inputs[b], alone.ledger.inputs[0], rtol=1e-5)


def sorted_lookup(batch: Any) -> tuple[lx.Model, Any]:
    """Sorts rows of tokens by their first token before the lookup, and restores the order of their sums."""
    rng = np.random.default_rng(6)
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", [batch, 4], 7)
    first = g.op("Gather", [tokens, g.ints(0)], axis=1)
    first = g.op("Squeeze", [first, g.ints(1)])
    count = g.op("Shape", [first])
    order = g.ops("TopK", [first, count], 2, "sorted", axis=0)[1]
    back = g.ops("TopK", [order, count], 2, "unsorted", axis=0, largest=0)[1]
    vectors = g.op("Gather", [g.constant(rng.normal(size=(9, 3)), "table"), g.op("Gather", [tokens, order], axis=0)])
    score = g.op("Tanh", [g.op("MatMul", [vectors, g.constant(rng.normal(size=(3, 2)), "w")])])
    y = g.op("Gather", [g.reduce("sum", score, 1, "summed"), back], axis=0)
    return lx.load(g.model(y, [batch, 2])), np.array([[2, 5, 1, 1], [7, 3, 3, 8], [4, 4, 6, 2]])


def test_contextual_decomposition_of_an_lstm_that_sorts_its_samples() -> None:
    rng = np.random.default_rng(9)
    built = recurrent_model(rng, D=2, H=3)
    g = GraphBuilder(np.float32, 17)
    x = g.input("z", ["T", "B", 2])
    key = g.op("ReduceSum", [x, g.ints(0, 2)], keepdims=0)
    count = g.op("Shape", [key])
    order = g.ops("TopK", [key, count], 2, "sorted", axis=0)[1]
    back = g.ops("TopK", [order, count], 2, "unsorted", axis=0, largest=0)[1]
    proto = g.model(g.op("Gather", [x, order], axis=1), ["T", "B", 2], rename="x")
    inner = built.model
    del proto.graph.output[:]
    proto.graph.node.extend(inner.graph.node)
    proto.graph.initializer.extend(inner.graph.initializer)
    proto.graph.node.add(op_type="Gather", input=["logits", back], output=["y"], name="as_they_came")
    proto.graph.output.add().CopyFrom(inner.graph.output[0])
    proto.graph.output[0].name = "y"
    feeds = {"z": rng.normal(size=(5, 4, 2)).astype(np.float32)}
    check_rows(lx.load(proto), feeds, lx.ContextualDecomposition(), lx.Target(index=1), [[0], [2, 1], [3]])


def rearranged(batch: Any, *nodes: onnx.NodeProto, **constants: Any) -> lx.Model:
    """An LSTM over samples of z that `nodes` put in other places, as x; its `logits` come back by other nodes, as y."""
    inner = recurrent_model(np.random.default_rng(9), D=2, H=3, batch_first=True).model
    before, after = [n for n in nodes if "y" not in n.output], [n for n in nodes if "y" in n.output]
    weights = [onnx.numpy_helper.from_array(np.array(array), name) for name, array in constants.items()]
    given = onnx.helper.make_tensor_value_info("z", 1, [batch, 5, 2])
    answer = onnx.helper.make_tensor_value_info("y", 1, [batch, 3])
    graph = onnx.helper.make_graph(
        [*before, *inner.graph.node, *after], "rearranged", [given], [answer], [*inner.graph.initializer, *weights]
    )
    return lx.load(onnx.helper.make_model(graph, opset_imports=inner.opset_import, ir_version=inner.ir_version))


def turned_round() -> lx.Model:
    slices = [
        onnx.helper.make_node("Slice", [a, "last", "end", "axis", "back"], [b]) for a, b in ("zx", ("logits", "y"))
    ]
    return rearranged("B", *slices, last=[-1], end=[-(2**62)], axis=[0], back=[-1])


def moved_on() -> lx.Model:
    """The previous sample replaces the last one, and the first one is a sum of zeros."""
    pads = [onnx.helper.make_node("Pad", ["z", "by"], ["x"]), onnx.helper.make_node("Pad", ["logits", "of"], ["y"])]
    return rearranged("B", *pads, by=[1, 0, 0, -1, 0, 0], of=[-1, 0, 1, 0])


@pytest.mark.parametrize("rule", ["half", "prop", "abs"])
def test_absorbed_relevance_is_assigned_to_its_sample(rule: Any) -> None:
    """The graph reverses the samples before the LSTM, and again after it."""
    z = np.random.default_rng(3).normal(size=(3, 5, 2)).astype(np.float32)
    check_rows(turned_round(), {"z": z}, lx.LRP(rule), lx.Target(index=1), [[0], [1], [2]])


def test_shifted_samples_are_assigned_correctly() -> None:
    """The answer for each sample but the last equals that of the LSTM alone."""
    z = np.random.default_rng(3).normal(size=(3, 5, 2)).astype(np.float32)
    received = moved_on().explain({"z": z}, lx.LRP("half"), lx.Target(index=1)).ledger
    alone = turned_round().explain({"z": z}, lx.LRP("half"), lx.Target(index=1)).ledger
    np.testing.assert_allclose(received.absorbed[:2], alone.absorbed[:2], rtol=1e-4)
    np.testing.assert_allclose(received.residual, 0, atol=1e-5)


def test_contextual_decomposition_refuses_indistinguishable_samples() -> None:
    """No sample can be taken out of a batch of fixed size, so the ledger would not add up for any of them."""
    model = turned_by_picking(3)
    z = np.random.default_rng(3).normal(size=(3, 5, 2)).astype(np.float32)
    with pytest.raises(lx.UnsupportedOperator, match="its samples differ from those of the output"):
        model.explain({"z": z}, lx.ContextualDecomposition(), lx.Target(index=1))


def test_copies_are_not_stacked_where_the_graph_puts_them_in_another_order() -> None:
    """The copies in the trial differ, which reveals an order that depends on the contents of samples."""
    rng = np.random.default_rng(8)
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T", 2])
    last = g.op("Gather", [x, g.constant(np.array(-1), "last")], axis=1)
    key = g.op("Squeeze", [g.op("Gather", [last, g.ints(0)], axis=1), g.ints(1)])
    order = g.ops("TopK", [key, g.op("Shape", [key])], 2, "sorted", axis=0)[1]
    y = g.op("MatMul", [g.op("Gather", [last, order], axis=0), g.constant(rng.normal(size=(2, 2)), "w")])
    model = lx.load(g.model(y, ["B", 2]))
    model.axes["x"] = lx.Axes(0, 1)
    feeds = {"x": -np.abs(rng.normal(size=(1, 4, 2))).astype(np.float32)}  # below the baseline: it would come first
    e = model.explain(feeds, lx.Occlusion(), lx.Target(index=0))
    np.testing.assert_allclose(e.relevance["x"][0, :3], 0.0)
    np.testing.assert_allclose(e.ledger.inputs, e.explained, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"direction": "bidirectional", "head": "Y_h"}, {"layers": 2, "head": "mean"}])
def test_a_simple_rnn_predicts_to_the_last_bit_the_same_alone(options: Arrays) -> None:
    """ONNX Runtime's RNN adds up in another order for a batch of one."""
    rng = np.random.default_rng(7)
    built = recurrent_model(rng, "RNN", D=5, H=37, **options)
    feeds, model = built.feeds(rng, T=20, B=4), lx.load(built.model)
    for method in (lx.LRP(), lx.Gradient(), lx.Occlusion(window=19)):
        whole = model.explain(feeds, method, lx.Target(index=1))
        for b in range(4):
            alone = model.explain({"x": feeds["x"][:, [b]]}, method, lx.Target(index=1))
            np.testing.assert_array_equal(alone.outputs["logits"][0], whole.outputs["logits"][b])
            assert alone.explained[0] == whole.explained[b]


def test_a_sample_beyond_float32_does_not_change_the_others() -> None:
    """LRP-prop can give one sample relevance beyond float32; its whole batch is then returned in float64."""
    ordinary = np.array([[0.1, 0.7]])
    (alone,) = explanation._in_output_dtype({"x": ordinary}, single=True).values()
    (both,) = explanation._in_output_dtype({"x": np.vstack([[[1e300, 0.1]], ordinary])}, single=True).values()
    assert both[0, 0] == 1e300
    np.testing.assert_array_equal(both[1:], alone)


def test_positions_are_found_once_per_shape(monkeypatch: Any) -> None:
    traced: list[int] = []
    original = gradient_points.layouts_of

    def counted(*args: Any) -> Any:
        traced.append(1)
        return original(*args)

    monkeypatch.setattr(gradient_points, "layouts_of", counted)
    case = cases.load("han/legacy")
    for _ in range(3):
        case.model.explain(case.inputs, lx.IntegratedGradients(steps=5), lx.Target(index=0))
    assert len(traced) == 1
    assert isinstance(case.model.runner, model_runner.ModelRunner)
