# SPDX-License-Identifier: Apache-2.0
"""Inputs, methods, targets and nodes that cannot be explained get one clear error that names them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.bad_input.example import BUILT, FEEDS, tiny
from tests.engine_checks import check_same
from tests.graph_builder import GraphBuilder

# --- inputs ----------------------------------------------------------------------------------------------------------


def spoiled(name: str, value: float, dtype: Any = np.float32) -> Any:
    array = FEEDS[name].astype(dtype)
    array.flat[1] = value
    return array


WRONG_INPUTS: dict[str, tuple[dict[str, Any], str, str]] = {  # what replaces FEEDS, the input to name, a word to say
    "unknown": ({**FEEDS, "y": FEEDS["x"]}, "y", "x"),
    "missing": ({k: v for k, v in FEEDS.items() if k != "lens"}, "lens", "missing"),
    "nothing": ({}, "x", "missing"),
    "rank-2": ({**FEEDS, "x": FEEDS["x"][0]}, "x", "(T, B, 4)"),
    "rank-4": ({**FEEDS, "x": FEEDS["x"][None]}, "x", "(T, B, 4)"),
    "scalar": ({**FEEDS, "x": 1.0}, "x", ""),
    "too-few-features": ({**FEEDS, "x": FEEDS["x"][:, :, :3]}, "x", "4"),
    "float64-overflow": ({**FEEDS, "x": FEEDS["x"].astype(np.float64) * 1e300}, "x", "float32"),
    "integers": ({**FEEDS, "x": FEEDS["x"].astype(np.int64)}, "x", "float32"),
    "int64-overflow": ({**FEEDS, "lens": FEEDS["lens"].astype(np.int64) + 2**40}, "lens", "int32"),
    "strings": ({**FEEDS, "x": FEEDS["x"].astype(str)}, "x", "float32"),
    "objects": ({**FEEDS, "x": np.full(FEEDS["x"].shape, None)}, "x", "float32"),
    "ragged-lists": ({**FEEDS, "x": [[1.0], [1.0, 2.0]]}, "x", ""),
    "complex": ({**FEEDS, "x": FEEDS["x"].astype(np.complex64)}, "x", "float32"),
    "no-steps": ({**FEEDS, "x": FEEDS["x"][:0]}, "x", "0"),
    "no-samples": ({**FEEDS, "x": FEEDS["x"][:, :0]}, "x", "0"),
    "nan": ({**FEEDS, "x": spoiled("x", np.nan)}, "x", "nan"),
    "inf": ({**FEEDS, "x": spoiled("x", np.inf)}, "x", "inf"),
    "minus-inf-state": ({**FEEDS, "initial_c_0": spoiled("initial_c_0", -np.inf)}, "initial_c_0", "inf"),
    "length-beyond-the-end": ({**FEEDS, "lens": spoiled("lens", 6, np.int32)}, "", "6"),
    "negative-length": ({**FEEDS, "lens": spoiled("lens", -1, np.int32)}, "", "-1"),
    "other-batch": ({**FEEDS, "initial_h_0": FEEDS["initial_h_0"][:, :2]}, "", ""),
    "other-batch-of-lengths": ({**FEEDS, "lens": FEEDS["lens"][:2]}, "", ""),
    "other-batch-of-x": ({**FEEDS, "x": FEEDS["x"][:, :2]}, "", ""),
}


@pytest.mark.parametrize("how", [lx.LRP(), lx.Gradient()], ids=["lrp", "gradient"])
@pytest.mark.parametrize(("feeds", "name", "message"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_an_invalid_input_is_named(
    model: lx.Model, feeds: dict[str, Any], name: str, message: str, how: lx.Method
) -> None:
    with pytest.raises(lx.InputError) as refused:
        model.explain(feeds, how, lx.Target(index=1))
    assert message in str(refused.value)
    if name:
        assert repr(name) in str(refused.value)
        assert refused.value.field.startswith(f"inputs.{name}")
    assert "onnxruntime/" not in str(refused.value)  # no source locations of somebody else's code


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    g = GraphBuilder(np.float32, 17)
    tokens = g.input("tokens", ["B", "T"], TensorProto.INT64)
    vectors = g.op("Gather", [g.constant(np.random.default_rng(63).normal(size=(7, 3)), "E"), tokens])
    embedded = lx.load(g.model(g.reduce("mean", vectors, 1, "head"), ["B", 3], "y"))
    assert np.isfinite(embedded.explain({"tokens": np.array([[1, 6]])}).explained).all()
    for wrong in (7, -8, 2**40):
        with pytest.raises(lx.InputError):
            embedded.explain({"tokens": np.array([[1, wrong]])})
    assert np.isfinite(embedded.explain({"tokens": np.array([[1, 6]])}).explained).all()


def test_an_unknown_capture_is_named(model: lx.Model) -> None:
    with pytest.raises(lx.Error, match="no/such/tensor"):
        model.explain(FEEDS, target=lx.Target(index=1), capture=["no/such/tensor"])


def test_huge_inputs_are_answered_or_refused_but_never_with_nan(model: lx.Model) -> None:
    for value in (1e30, 3e38):
        feeds = {**FEEDS, "x": spoiled("x", value)}
        try:
            with np.errstate(over="ignore"):
                e = model.explain(feeds, lx.LRP(), lx.Target(index=1))
        except lx.InputError:
            continue
        assert np.isfinite(e.relevance["x"]).all()


# --- operators without a rule ----------------------------------------------------------------------------------------


def determinant() -> lx.Model:
    """x [B, 3, 3] to det [B], for which there is no rule, and to total [B]."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", 3, 3])
    total = g.op("ReduceSum", [x, g.ints(1, 2)], "total", keepdims=0)
    proto = g.model(g.op("Det", [x], "the_culprit"), ["B"], "det")
    proto.graph.output.append(helper.make_tensor_value_info(total, TensorProto.FLOAT, ["B"]))
    return lx.load(proto)


@pytest.mark.parametrize("how", [lx.LRP(), lx.Gradient(), lx.GradientTimesInput()], ids=lambda how: how.name)
def test_a_node_without_a_rule_is_named_and_other_outputs_are_explained(how: lx.Method) -> None:
    model, x = determinant(), np.random.default_rng(65).normal(size=(2, 3, 3)).astype(np.float32)
    with pytest.raises(lx.UnsupportedOperator) as refused:
        model.explain({"x": x}, how)
    assert (refused.value.node, refused.value.op) == ("the_culprit", "Det")
    assert "the_culprit" in str(refused.value)
    assert "Det" in str(refused.value)
    e = model.explain({"x": x}, how, lx.Target("total_out"))
    np.testing.assert_allclose(e.explained, x.sum(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(e.outputs["det"], np.linalg.det(x), rtol=1e-4)


def test_the_report_names_the_node_without_a_rule() -> None:
    report = determinant().report()
    assert not report.supported
    assert [(n.name, n.op) for n in report.nodes if not n.supported] == [("the_culprit", "Det")]
    assert lx.load(BUILT.model).report().supported


def test_scan_of_opset_8_is_refused_by_name() -> None:
    """It runs over the samples as well, and takes lengths in front of its states."""
    x, y, h, v, g, w = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 3, 4]), ("y", [2, 4]), ("h", [4]), ("v", [4]), ("g", [4]), ("w", [4]))
    )
    body = helper.make_graph([helper.make_node("Add", ["h", "v"], ["g"]), helper.make_node("Tanh", ["g"], ["w"])],
                             "body", [h, v], [g, w])  # fmt: skip
    node = helper.make_node("Scan", ["", "start", "x"], ["y", "steps"], name="scan", body=body, num_scan_inputs=1)
    start = helper.make_tensor("start", TensorProto.FLOAT, [2, 4], np.zeros(8))
    graph = helper.make_graph([node], "g", [x], [y], [start])
    model = lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=4))
    feeds = {"x": np.random.default_rng(66).normal(size=(2, 3, 4)).astype(np.float32)}
    assert not model.report().supported
    with pytest.raises(lx.UnsupportedOperator, match="Scan-8"):
        model.explain(feeds, lx.LRP(), lx.Target(index=0))
    for how in (lx.Occlusion(), lx.ShapleySampling()):
        e = model.explain(feeds, how, lx.Target(index=0))
        np.testing.assert_allclose(e.relevance["x"].sum(axis=(1, 2)), feeds["x"][:, :, 0].sum(axis=1), atol=1e-5)


# --- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("lpr", {}, "lpr"),
        ("", {}, "lrp"),
        ("lrp", {"rule": "all"}, "rule"),
        ("lrp", {"product_rule": "both"}, "both"),
        ("lrp", {"product_rule": None}, "None"),
        ("lrp", {"epsilon": -1e-3}, "epsilon"),
        ("lrp", {"epsilon": float("nan")}, "epsilon"),
        ("lrp", {"epsilon": float("inf")}, "epsilon"),
        ("lrp", {"epsilon": "small"}, "epsilon"),
        ("lrp", {"epsilon": 0.1, "stabiliser": 0.1}, "stabiliser"),
        ("lrp", {"ceiling": 0.5}, "ceiling"),
        ("lrp", {"bias_factor": 1.5}, "bias_factor"),
        ("lrp", {"bias_factor": -0.1}, "bias_factor"),
        ("lrp", {"bias_factor": True}, "bias_factor"),
        ("gradient", {"epsilon": 0.1}, "epsilon"),
        ("gradient_times_input", {"steps": 3}, "steps"),
    ],
)
def test_a_method_or_parameter_that_does_not_exist_is_named(
    name: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(lx.MethodError, match=message) as refused:
        lx.method_from_name(name, parameters)
    assert refused.value.field.startswith("method")


def test_methods_by_name_are_the_classes() -> None:
    assert lx.method_from_name("lrp", {"product_rule": "abs", "epsilon": 0.1}) == lx.LRP("abs", 0.1)
    assert lx.method_from_name("gradient") == lx.Gradient()
    given = {"product_rule": "prop", "epsilon": 0.5, "bias_factor": 1}
    assert given.items() <= lx.LRP("prop", np.float32(0.5), 1).parameters().items()


# --- many at once ----------------------------------------------------------------------------------------------------


def test_eight_threads_get_the_answers_of_one(model: lx.Model) -> None:
    """Good and bad calls of all methods at once, on one model, and a fresh model that all of them use first."""
    fresh = lx.load(BUILT.model)
    jobs = []
    for k in range(64):
        feeds = BUILT.feeds(np.random.default_rng(k), T=1 + k % 9, B=1 + k % 4)
        how = [lx.LRP(), lx.LRP("prop", 0.1), lx.LRP("abs", bias_factor=1.0), lx.Gradient()][k % 4]
        jobs.append((feeds, how, lx.Target(index=k % 3), [[], ["layer0:1"]][k // 4 % 2]))

    def answer(which: lx.Model, job: Any) -> dict[str, Any]:
        e = which.explain(*job)
        return {**e.relevance, **e.captured, "explained": e.explained, "residual": e.ledger.absorbed, **e.outputs}

    def wrong(k: int) -> None:
        with pytest.raises(lx.InputError):
            fresh.explain({"x": jobs[k][0]["x"]})

    serial = [answer(model, job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(answer, fresh, job) for job in jobs]
        mistakes = [pool.submit(wrong, k) for k in range(16)]
        for future, expected in zip(futures, serial, strict=True):
            for name, received in future.result().items():
                check_same(received, expected[name], 1e-6, name)
        for mistake in mistakes:
            mistake.result()


def test_an_output_without_elements_is_an_engine_error() -> None:
    g = GraphBuilder(np.float32, 17)
    proto = g.model(g.op("Slice", [g.input("x", ["B", 4]), g.ints(9), g.ints(9), g.ints(0)]), ["N", 4], rename="y")
    for index in (None, 1):
        with pytest.raises(lx.TargetError, match="it is empty"):
            lx.load(proto).explain({"x": np.ones((2, 4), np.float32)}, target=lx.Target(index=index))


def test_topk_of_unsigned_numbers() -> None:
    g = GraphBuilder(np.float32, 17)
    best, _ = g.ops("TopK", [g.input("x", ["B", 4], TensorProto.UINT8), g.ints(2)], 2)
    proto = g.model(g.op("Cast", [best], to=TensorProto.FLOAT), ["B", 2], rename="y")
    e = lx.load(proto).explain({"x": np.array([[3, 0, 200, 7]], np.uint8)}, target=lx.Target(index=1))
    np.testing.assert_allclose(e.relevance["x"], [[0, 0, 0, 7]])


def test_an_axis_out_of_range_is_an_engine_error() -> None:
    proto = tiny(helper.make_node("Squeeze", ["x", "axis"], ["y"], name="squeeze"))
    proto.graph.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [9]))
    with pytest.raises(lx.Error):
        lx.load(proto).explain({"x": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize("method", ["lpr", None, lx.LRP])
def test_an_invalid_method_is_refused(method: Any) -> None:
    loaded = lx.load(tiny(helper.make_node("Relu", ["x"], ["y"])))
    with pytest.raises(lx.MethodError):
        loaded.explain({"x": np.ones((1, 4), np.float32)}, method, lx.Target(index=0))


@pytest.mark.parametrize("target", [4, "z", None])
def test_an_invalid_target_is_refused(target: Any) -> None:
    loaded = lx.load(tiny(helper.make_node("Relu", ["x"], ["y"])))
    with pytest.raises(lx.TargetError):
        loaded.explain({"x": np.ones((1, 4), np.float32)}, lx.LRP(), target)
