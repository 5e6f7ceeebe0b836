# SPDX-License-Identifier: Apache-2.0
"""If nodes: the branch that ran while compiling is compiled; a file whose condition turns out otherwise says so."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.compiled.compiled_files import check_like_engine, run_file


def doubled_if(condition: str) -> onnx.ModelProto:
    """y = 2x where the condition over the shape or the sum of x holds, else 3x."""

    def branch(name: str, factor: float) -> onnx.GraphProto:
        tensor = helper.make_tensor(f"{name}_factor", TensorProto.FLOAT, [], [factor])
        node = helper.make_node("Mul", ["x", f"{name}_factor"], [f"{name}_y"], name=f"{name}_mul")
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [out], [tensor])

    nodes = {
        "long": [
            helper.make_node("Shape", ["x"], ["size"], start=1, end=2),
            helper.make_node("Greater", ["size", "limit"], ["condition"]),
        ],
        "positive": [
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
            helper.make_node("Greater", ["total", "zero"], ["condition"]),
        ],
    }[condition]
    choice = helper.make_node(
        "If", ["condition"], ["y"], "choice", then_branch=branch("yes", 2.0), else_branch=branch("no", 3.0)
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "T"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "T"])
    constants = [helper.make_tensor("limit", TensorProto.INT64, [1], [3])]
    constants.append(helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]))
    graph = helper.make_graph([*nodes, choice], "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_the_branch_that_ran_is_compiled_and_the_other_one_answers_nan() -> None:
    model = lx.load(doubled_if("long"))
    proto, rng = lx.compile(model), np.random.default_rng(0)
    for steps in (4, 9):
        feeds = {"x": rng.standard_normal((3, steps)).astype(np.float32)}
        check_like_engine(run_file(proto, feeds), model.explain(feeds))
    found = run_file(proto, {"x": np.ones((2, 2), np.float32)})
    np.testing.assert_array_equal(found.outputs["y"], 3.0)  # the prediction is right either way
    assert np.isnan(found.explained).all()
    assert np.isnan(found.relevance["x"]).all()


def test_a_branch_that_the_examples_do_not_agree_on_is_refused() -> None:
    """Whether random inputs of both sizes agree by chance or not."""
    with pytest.raises(lx.UnsupportedOperator, match="branch") as refusal:
        lx.compile(lx.load(doubled_if("positive")))
    assert (refusal.value.node, refusal.value.op) == ("choice", "If")


def test_a_slice_that_an_input_moves_follows_it_or_is_refused() -> None:
    """With one example, nothing shows what the file has to do at another start."""
    model = lx.load(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> moved (float[B, 40] x, int64[1] k) => (float[B, 2] y)
        <int64[1] two = {2}, int64[1] axis = {1}, float[2, 2] W = {1, 0.5, -2, 3}> {
            end = Add(k, two)
            part = Slice(x, k, end, axis)
            y = MatMul(part, W)
        }""")
    )
    x, proto = np.random.default_rng(0).standard_normal((3, 40)).astype(np.float32), lx.compile(model)
    for at in (0, 1, 38):
        feeds = {"x": x, "k": np.array([at])}
        check_like_engine(run_file(proto, feeds), model.explain(feeds))
    with pytest.raises(lx.UnsupportedOperator, match="slices or shapes by k"):
        lx.compile(model, inputs={"x": x, "k": np.array([1])})
