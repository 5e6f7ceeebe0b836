# SPDX-License-Identifier: Apache-2.0
"""Every form of a target. The models are linear, so the gradient of a selected entry is a row of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder

RNG = np.random.default_rng(31)
W = RNG.normal(size=(4, 3))  # features to classes
V = RNG.normal(size=(4, 2))  # to those of a second output
X = RNG.normal(size=(3, 4)).astype(np.float32)  # [B, D]
STEPS = RNG.normal(size=(3, 5, 4)).astype(np.float32)  # [B, T, D]

Numbers = npt.NDArray[Any]


def classifier() -> lx.Model:
    """[B, 4] to y [B, 3] and other [B, 2]."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 4])
    other = g.op("MatMul", [x, g.constant(V, "V")])
    proto = g.model(g.op("MatMul", [x, g.constant(W, "W")]), ["B", 3], rename="y")
    proto.graph.output.append(helper.make_tensor_value_info(other, TensorProto.FLOAT, ["B", 2]))
    return lx.load(proto)


def per_step(batch_axis: int = 0, columns: Numbers = W) -> lx.Model:
    """[B, T, 4] to y [B, T, classes], or [T, B, classes]."""
    g = GraphBuilder(np.float32, 17)
    y = g.op("MatMul", [g.input("x", ["B", "T", 4]), g.constant(columns, "W")])
    if batch_axis == 1:
        y = g.op("Transpose", [y], perm=[1, 0, 2])
    return lx.load(g.model(y, ["T", "B", columns.shape[1]] if batch_axis else ["B", "T", columns.shape[1]], "y"))


def gradient(model: lx.Model, x: Numbers, **target: Any) -> Numbers:
    return model.explain({"x": x}, lx.Gradient(), lx.Target(**target)).relevance["x"]


def check_classes(target: dict[str, Any], classes: list[int]) -> None:
    """Sample b is explained for classes[b]."""
    e = classifier().explain({"x": X}, lx.LRP(), lx.Target(**target))
    np.testing.assert_allclose(e.explained, (X @ W)[np.arange(3), classes], rtol=1e-5)
    np.testing.assert_allclose(gradient(classifier(), X, **target), W[:, classes].T, rtol=1e-6)


@pytest.mark.parametrize(
    ("index", "classes"),
    [
        (0, [0, 0, 0]),
        (2, [2, 2, 2]),
        (-1, [2, 2, 2]),
        (-3, [0, 0, 0]),
        (np.int64(1), [1, 1, 1]),
        (np.array(1), [1, 1, 1]),
        ((1,), [1, 1, 1]),
        ((-2,), [1, 1, 1]),
        (np.array([2, 0, 1]), [2, 0, 1]),
        (np.array([-1, 0, -2]), [2, 0, 1]),
        (np.array([[2], [0], [1]]), [2, 0, 1]),
        (np.array([2, 0, 1], dtype=np.uint8), [2, 0, 1]),
        ([2, 0, 1], [2, 0, 1]),
    ],
)
def test_forms_of_an_index(index: Any, classes: list[int]) -> None:
    check_classes({"index": index}, classes)


def test_the_default_is_the_largest_entry_of_each_sample() -> None:
    check_classes({}, (X @ W).argmax(axis=1).tolist())


def test_the_default_output_is_the_first() -> None:
    e = classifier().explain({"x": X})
    assert e.target.output == next(iter(classifier().outputs)) == "y"


def test_the_target_comes_back_with_its_defaults_filled_in() -> None:
    e = classifier().explain({"x": X}, target=lx.Target(contrast=-1))
    assert e.target.index is not None
    assert e.target.contrast is not None
    np.testing.assert_array_equal(np.reshape(e.target.index, -1), (X @ W).argmax(axis=1))
    np.testing.assert_array_equal(np.reshape(e.target.contrast, -1), [2, 2, 2])


def test_a_second_output() -> None:
    model = classifier()
    name = list(model.outputs)[1]
    np.testing.assert_allclose(gradient(model, X, output=name, index=1), np.tile(V[:, 1], (3, 1)), rtol=1e-6)
    e = model.explain({"x": X}, target=lx.Target(name))
    np.testing.assert_allclose(e.explained, (X @ V).max(axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("contrast", "classes"), [(0, [0, 0, 0]), (-1, [2, 2, 2]), ((2,), [2, 2, 2]), (np.array([0, 2, 1]), [0, 2, 1])]
)
def test_contrast_is_a_difference(contrast: Any, classes: list[int]) -> None:
    e = classifier().explain({"x": X}, lx.LRP(epsilon=1e-9), lx.Target(index=1, contrast=contrast))
    y = X @ W
    np.testing.assert_allclose(e.explained, y[:, 1] - y[np.arange(3), classes], rtol=1e-4, atol=1e-6)
    expected = (W[:, [1]] - W[:, classes]).T
    np.testing.assert_allclose(gradient(classifier(), X, index=1, contrast=contrast), expected, rtol=1e-5, atol=1e-7)


def test_the_relevance_of_a_contrast_is_the_difference_of_both() -> None:
    model = classifier()
    first, second, both = (
        model.explain({"x": X}, target=lx.Target(**target)).relevance["x"]
        for target in ({"index": 2}, {"index": 0}, {"index": 2, "contrast": 0})
    )
    np.testing.assert_allclose(both, first - second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_weights_explain_any_linear_combination(dtype: Any) -> None:
    weights = np.array([2, -1, 3]).astype(dtype)
    e = classifier().explain({"x": X}, target=lx.Target(weights=weights))
    np.testing.assert_allclose(e.explained, X @ W @ weights, rtol=1e-5)
    check_same(gradient(classifier(), X, weights=weights), np.tile(W @ weights, (3, 1)), 1e-6)


@pytest.mark.parametrize("batch_axis", [0, 1, -3, -2])
def test_a_step_and_a_class_of_an_output_for_each_step(batch_axis: int) -> None:
    model = per_step(batch_axis % 3)
    for index, places in [
        ((3, 1), [(3, 1)] * 3),
        ((-1, -3), [(4, 0)] * 3),
        (np.array([[0, 2], [4, 1], [2, 0]]), [(0, 2), (4, 1), (2, 0)]),
    ]:
        expected = np.zeros_like(STEPS)
        for b, (t, k) in enumerate(places):
            expected[b, t] = W[:, k]
        got = gradient(model, STEPS, index=index, batch_axis=batch_axis)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        e = model.explain({"x": STEPS}, target=lx.Target(index=index, batch_axis=batch_axis))
        scores = [STEPS[b, t] @ W[:, k] for b, (t, k) in enumerate(places)]
        np.testing.assert_allclose(e.explained, scores, rtol=1e-5)


@pytest.mark.parametrize("batch_axis", [0, 1])
def test_weights_over_steps_and_classes(batch_axis: int) -> None:
    weights = RNG.normal(size=(5, 3))
    got = gradient(per_step(batch_axis), STEPS, weights=weights, batch_axis=batch_axis)
    np.testing.assert_allclose(got, np.tile(weights @ W.T, (3, 1, 1)), rtol=1e-5, atol=1e-6)


def test_one_index_suffices_where_one_axis_leaves_a_choice() -> None:
    expected = np.zeros_like(STEPS)
    expected[:, 3] = W[:, 0]
    np.testing.assert_allclose(gradient(per_step(columns=W[:, :1]), STEPS, index=3), expected, rtol=1e-6)


def test_without_a_batch_axis_there_is_one_sample() -> None:
    model = per_step()
    e = model.explain({"x": STEPS}, target=lx.Target(index=(1, 2, 0), batch_axis=None))
    assert e.explained.shape == e.ledger.inputs.shape == e.ledger.residual.shape == (1,)
    np.testing.assert_allclose(e.explained, STEPS[1, 2] @ W[:, :1], rtol=1e-5)
    expected = np.zeros_like(STEPS)
    expected[1, 2] = W[:, 0]
    np.testing.assert_allclose(gradient(model, STEPS, index=(1, 2, 0), batch_axis=None), expected, rtol=1e-6)


def test_a_model_without_any_batch_axis() -> None:
    g = GraphBuilder(np.float32, 17)
    model = lx.load(g.model(g.op("MatMul", [g.input("x", [4]), g.constant(W, "W")]), [3], "y"))
    for target, weights in (
        ({"index": 2}, [0, 0, 1]),
        ({}, np.eye(3)[(X[0] @ W).argmax()]),
        ({"weights": np.arange(3)}, [0, 1, 2]),
    ):
        e = model.explain({"x": X[0]}, target=lx.Target(batch_axis=None, **target))
        np.testing.assert_allclose(e.explained, [X[0] @ W @ weights], rtol=1e-5)
        np.testing.assert_allclose(gradient(model, X[0], batch_axis=None, **target), W @ weights, rtol=1e-6)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_an_output_with_one_number_per_sample_needs_no_index(keepdims: int) -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 4])
    y = g.op("ReduceSum", [x, g.ints(1)], keepdims=keepdims)
    model = lx.load(g.model(y, ["B", 1][: 1 + keepdims], "y"))
    e = model.explain({"x": X})
    np.testing.assert_allclose(e.explained, X.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(gradient(model, X), np.ones_like(X))


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ({"index": 3}, "3"),
        ({"index": -4}, "-4"),
        ({"index": (0, 0)}, "y"),
        ({"index": ()}, "y"),
        ({"index": 1.5}, "1.5"),
        ({"index": "first"}, "first"),
        ({"index": np.array([0, 1])}, "3 samples"),
        ({"index": np.array([0, 1, 3])}, "3"),
        ({"index": np.array([[0, 1], [0, 1], [0, 1]])}, "y"),
        ({"index": np.array([0.0, 1.0, 2.0])}, "whole"),
        ({"index": 0, "contrast": 7}, "7"),
        ({"index": 0, "contrast": np.array([0, 1])}, "3 samples"),
        ({"output": "nothing"}, "nothing"),
        ({"batch_axis": 2}, "2"),
        ({"batch_axis": -3}, "-3"),
        ({"weights": np.ones(2)}, "(3,)"),
        ({"weights": np.ones((3, 3))}, "(3,)"),
        ({"weights": np.array([1.0, np.nan, 0.0])}, "finite"),
        ({"weights": np.array(["a", "b", "c"])}, "numbers"),
        ({"weights": np.ones(3), "index": 0}, "cannot be combined"),
        ({"weights": np.ones(3), "contrast": 0}, "cannot be combined"),
        ({"batch_axis": None}, "y"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", [lx.LRP(), lx.Gradient()], ids=["lrp", "gradient"])
def test_an_invalid_target_is_refused_by_its_field(method: lx.Method, target: dict[str, Any], named: str) -> None:
    model = classifier()
    with pytest.raises(lx.TargetError) as refused:
        model.explain({"x": X}, method, lx.Target(**target))
    assert named in str(refused.value)
    assert refused.value.field.startswith("target")
    assert np.isfinite(model.explain({"x": X}, method).explained).all()


@pytest.mark.parametrize(
    "target", [{}, {"index": 1}, {"index": np.array([0, 1, 2])}, {"contrast": (0, 1)}, {"batch_axis": 1}], ids=str
)
def test_an_ambiguous_position_is_refused(target: dict[str, Any]) -> None:
    model = per_step()
    with pytest.raises(lx.TargetError, match="y"):
        model.explain({"x": STEPS}, target=lx.Target(**target))


# --- outputs that hold no floating-point numbers ---------------------------------------------------------------------


def with_winner(*outputs: str) -> lx.Model:
    """[B, 4] to the class `best` (int64), whether it is the first (bool), and the scores `y`; of these, `outputs`."""
    g = GraphBuilder(np.float32, 17)
    y = g.op("MatMul", [g.input("x", ["B", 4]), g.constant(W, "W")])
    best = g.op("ArgMax", [y], axis=1, keepdims=0)
    first = g.op("Equal", [best, g.ints(0)])
    proto = g.model(y, ["B", 3], rename="y")
    proto.graph.node.append(helper.make_node("Identity", [best], ["best"]))
    proto.graph.node.append(helper.make_node("Identity", [first], ["first"]))
    kinds = {
        "y": helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3]),
        "best": helper.make_tensor_value_info("best", TensorProto.INT64, ["B"]),
        "first": helper.make_tensor_value_info("first", TensorProto.BOOL, ["B"]),
    }
    del proto.graph.output[:]
    proto.graph.output.extend(kinds[name] for name in outputs)
    return lx.load(proto)


ANY_METHOD = (
    *(lx.LRP(), lx.Gradient(), lx.GradientTimesInput(), lx.IntegratedGradients(steps=2), lx.SmoothGrad(samples=2)),
    *(lx.Occlusion(), lx.ShapleySampling(permutations=2)),
)


@pytest.mark.parametrize("method", ANY_METHOD, ids=lambda m: m.name)
@pytest.mark.parametrize(("output", "dtype"), [("best", "int64"), ("first", "bool")])
def test_whole_numbers_cannot_be_explained(method: lx.Method, output: str, dtype: str) -> None:
    with pytest.raises(lx.TargetError, match=f"'{output}' is of type {dtype}"):
        with_winner("y", "best", "first").explain({"x": X}, method, lx.Target(output=output))


def test_the_default_is_the_first_output_that_can_be_explained() -> None:
    model = with_winner("best", "y")
    e = model.explain({"x": X})
    np.testing.assert_allclose(e.explained, (X @ W).max(axis=1), rtol=1e-5)
    report = model.report()
    assert report.supported
    assert any("'best'" in warning and "int64" in warning for warning in report.warnings)


def test_a_model_of_whole_numbers_alone_is_not_supported() -> None:
    model = with_winner("best", "first")
    assert not model.report().supported
    with pytest.raises(lx.TargetError, match="'best' is of type int64"):
        model.explain({"x": X})
    np.testing.assert_array_equal(model.predict({"x": X})["best"], (X @ W).argmax(axis=1))


@pytest.mark.parametrize("target", [1, (1,), np.int64(1), "1", "y:1"], ids=str)
def test_methods_and_targets_may_be_given_as_words(target: Any) -> None:
    found = classifier().explain({"x": X}, method="gradient", target=target)
    np.testing.assert_allclose(found.relevance["x"], np.broadcast_to(W[:, 1], X.shape), rtol=1e-6)
    assert found.method == lx.Gradient()
    assert classifier().explain({"x": X}, "lrp").method == lx.LRP()


@pytest.mark.parametrize("target", [1.5, True, None, "elsewhere:1"], ids=str)
def test_other_words_are_refused(target: Any) -> None:
    with pytest.raises(lx.TargetError):
        classifier().explain({"x": X}, target=target)
    with pytest.raises(lx.MethodError, match="unknown method 'lpr', there are lrp"):
        classifier().explain({"x": X}, "lpr")
