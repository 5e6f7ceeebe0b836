# SPDX-License-Identifier: Apache-2.0
"""Empty values that ONNX Runtime reads: recurrent nodes without a step, loops without a trip count."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx

RNG = np.random.default_rng(0)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def first_steps(op: str, axis: int) -> onnx.ModelProto:
    """A recurrent node over the first `count` steps (axis 0) or samples (axis 1) of x."""
    rows = 2 * GATES[op]
    weights = [(name, RNG.standard_normal((1, rows, n)).astype(np.float32)) for name, n in (("W", 3), ("R", 2))]
    bounds = [("zero", np.array([0])), ("axis", np.array([axis])), ("all", np.array([0, 1]))]
    nodes = [
        helper.make_node("Slice", ["x", "zero", "count", "axis"], ["some"], name="cut"),
        helper.make_node(op, ["some", "W", "R"], ["", "last"], name="cell", hidden_size=2),
        helper.make_node("ReduceSum", ["last", "all"], ["y"], name="sum", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "first_steps",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", 3]),
            helper.make_tensor_value_info("count", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [onnx.numpy_helper.from_array(array, name) for name, array in (*weights, *bounds)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("axis", [0, 1], ids=["no step", "no sample"])
@pytest.mark.parametrize("op", list(GATES))
def test_an_empty_recurrent_node_does_not_end_the_process(op: str, axis: int) -> None:
    model, x = lx.load(first_steps(op, axis)), RNG.standard_normal((4, 3, 3)).astype(np.float32)
    nothing, some = {"x": x, "count": np.array([0])}, {"x": x, "count": np.array([2])}
    with suppress(lx.Error):  # which it may be told, as long as the process lives
        assert np.isfinite(model.predict(nothing)["y"]).all()
    for method in (lx.LRP(), lx.IntegratedGradients(steps=2), lx.Occlusion()):
        target = lx.Target(index=0, batch_axis=None)
        with suppress(lx.Error):
            assert not model.explain(nothing, method, target).relevance["x"].any()
        assert np.isfinite(model.explain(some, method, target).relevance["x"]).all()


@pytest.mark.parametrize("op", ["LSTM", "RNN"])  # ONNX Runtime refuses a GRU without a step
def test_states_without_a_step_are_those_of_onnx_runtime(op: str) -> None:
    model, x = lx.load(first_steps(op, 0)), RNG.standard_normal((4, 3, 3)).astype(np.float32)
    inputs, target = {"x": x, "count": np.array([0])}, lx.Target(index=0, batch_axis=None)
    for method in (lx.LRP(), lx.LRP("half"), lx.Gradient()):
        for _ in range(3):
            answer = model.explain(inputs, method, target)
            np.testing.assert_array_equal(answer.outputs["y"], model.predict(inputs)["y"])
            assert not answer.relevance["x"].any()


LOOP = """<ir_version: 8, opset_import: ["": 17]>
looped (float[2] x, {kind}[n] count) => (float[2] y) <bool yes = {{1}}, int64 two = {{2}}> {{
    y = Loop <body = step (int64 i, bool c, float[2] s) => (bool d, float[2] t) {{ d = Identity (c)
        t = Tanh (s) }}> ({operands}, x)
}}"""
BRANCHES = """<ir_version: 8, opset_import: ["": 17]> branches (float[2] x, bool[n] count) => (float[2] y) {
    y = If (count) <then_branch = a () => (float[2] p) { p = Tanh (x) },
        else_branch = b () => (float[2] q) { q = Neg (x) }>
}"""
READERS = {
    "trip count": LOOP.format(kind="int64", operands="count, yes"),
    "condition": LOOP.format(kind="bool", operands="two, count"),
    "branch": BRANCHES,
}


@pytest.mark.parametrize("what", list(READERS))
def test_a_trip_count_of_one_element_is_read(what: str) -> None:
    model, x = lx.load(onnx.parser.parse_model(READERS[what])), np.array([0.5, -1.0], np.float32)
    dtype = model.inputs["count"].dtype
    assert np.isfinite(model.predict({"x": x, "count": np.ones(1, dtype)})["y"]).all()
    with pytest.raises(lx.InputError, match="Reshape"):
        model.predict({"x": x, "count": np.ones(2, dtype)})


def test_an_empty_trip_count_is_refused_on_loading() -> None:
    text = (
        READERS["trip count"].replace("bool yes", "int64[0] none = {}, bool yes").replace("(count, yes", "(none, yes")
    )
    with pytest.raises(lx.ModelError, match="its trip count 'none' has 0 elements, expected 1"):
        lx.load(onnx.parser.parse_model(text))
