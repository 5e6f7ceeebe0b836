# SPDX-License-Identifier: Apache-2.0
"""Small parts of a graph that NumPy evaluates equal ONNX Runtime's."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import lstm_explain as lx
from lstm_explain.graph.session import run_session
from lstm_explain.operators.operator import SHAPE
from lstm_explain.program import numpy_segments
from lstm_explain.program.compile import Purpose, Segment, compile_plan
from lstm_explain.program.numpy_segments import Bound, shaped
from lstm_explain.program.program import Program

Inputs = dict[str, npt.NDArray[Any]]
FLOATS = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)
TOKENS = np.array([[3, 1, 0], [2, -1, 4]], np.int64)

CASES: dict[str, tuple[str, npt.NDArray[Any], str]] = {
    "gemm": ("y = Gemm(x, w, b)", FLOATS, "float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {0.5, -1}"),
    "gemm, one bias": ("y = Gemm(x, w, b)", FLOATS, "float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[1] b = {0.5}"),
    "gemm, a bias a row": ("y = Gemm(x, w, b)", FLOATS, "float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2, 1] b = {5, 7}"),
    "gemm, transposed": ("y = Gemm<transB = 1>(x, w, b)", FLOATS, "float[1, 3] w = {1, 2, 3}, float[1] b = {1}"),
    "matmul": ("y = MatMul(x, w)", FLOATS, "float[3, 2] w = {1, 2, 3, 4, 5, 6}"),
    "add": ("y = Add(x, b)", FLOATS, "float[3] b = {0.5, -1, 2}"),
    "sub": ("y = Sub(x, b)", FLOATS, "float[3] b = {0.5, -1, 2}"),
    "mul": ("y = Mul(x, b)", FLOATS, "float[2, 1] b = {0.5, -1}"),
    "div": ("y = Div(x, b)", FLOATS, "float b = {3}"),
    "flatten": ("y = Flatten<axis = -1>(x)", FLOATS, ""),
    "transpose": ("y = Transpose<perm = [1, 0]>(x)", FLOATS, ""),
    "unsqueeze": ("y = Unsqueeze(x, a)", FLOATS, "int64[2] a = {0, -1}"),
    "reshape": ("y = Reshape(x, s)", FLOATS, "int64[2] s = {0, -1}"),
    "lookup": ("y = Gather(w, x)", TOKENS, "float[5, 2] w = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}"),
    "one position": ("y = Gather<axis = 1>(x, i)", FLOATS, "int64 i = {-1}"),
    "one position of the first axis": ("y = Gather(x, i)", FLOATS, "int64 i = {1}"),
    "one position, counted from the last axis": ("y = Gather<axis = -1>(x, i)", FLOATS, "int64 i = {0}"),
    "positions": ("y = Gather<axis = 1>(x, i)", FLOATS, "int64[2] i = {2, 0}"),
    "slice": ("y = Slice(x, s, e, a)", FLOATS, "int64[1] s = {1}, int64[1] e = {1000}, int64[1] a = {-1}"),
    "slice, backwards": (
        "y = Slice(x, s, e, a, t)", FLOATS,
        "int64[1] s = {-1}, int64[1] e = {-1000}, int64[1] a = {1}, int64[1] t = {-2}",
    ),
    "slice of two axes": ("y = Slice(x, s, e)", FLOATS, "int64[2] s = {1, 0}, int64[2] e = {2, -1}"),
    "concat": ("t = Neg(x) y = Concat<axis = -1>(x, w, x)", FLOATS, "float[2, 1] w = {7, 8}"),
    "relu": ("y = Relu(x)", FLOATS, ""),
    "tanh": ("y = Tanh(x)", FLOATS, ""),
    "sigmoid": ("y = Sigmoid(x)", FLOATS, ""),
    "softmax": ("y = Softmax(x)", FLOATS, ""),
    "softmax over the first axis": ("y = Softmax<axis = 0>(x)", FLOATS, ""),
    "log-softmax": ("y = LogSoftmax(x)", FLOATS, ""),
    "a shape of the input": (
        "t = Shape(x) c = Gather(t, i) s = Concat<axis=0>(o, c) u = Reshape(x, s) n = ConstantOfShape(c) y = Add(u, n)",
        FLOATS, "int64[1] i = {0}, int64[1] o = {-1}",
    ),
    "a shape of what is made": (
        "v = Gather(w, x) t = Shape(v) c = Slice(t, a, b) d = Concat<axis = 0>(c, n) y = Reshape(v, d)", TOKENS,
        "float[5, 2] w = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, int64[1] a = {0}, int64[1] b = {1}, int64[1] n = {-1}",
    ),
    "sign": ("t = Sign(x) y = Cast<to = 1>(t)", TOKENS, ""),
    "cumsum": ("t = CumSum(x, a) y = Cast<to = 1>(t)", TOKENS, "int64 a = {1}"),
    "cumsum, from the end": ("t = CumSum<reverse = 1>(x, a) y = Cast<to = 1>(t)", TOKENS, "int64 a = {-1}"),
    "sum": ("t = ReduceSum<keepdims = 0>(x, a) y = Cast<to = 1>(t)", TOKENS, "int64[1] a = {1}"),
    "sum, kept": ("t = ReduceSum(x, a) y = Cast<to = 1>(t)", TOKENS, "int64[1] a = {-2}"),
    "integers": ("t = Cast<to = 6>(x) y = Cast<to = 1>(t)", TOKENS, ""),
    "views in a row": (
        "t = Unsqueeze(x, a) u = Flatten(t) y = Add(u, b)", FLOATS, "int64[1] a = {0}, float[6] b = {1, 2, 3, 4, 5, 6}"
    ),
    "views that move elements": (
        "t = Transpose<perm = [1, 0]>(x) u = Flatten<axis = 0>(t) y = Add(u, b)", FLOATS, "float b = {1}"
    ),
    "views of what is made": ("t = Add(x, b) u = Flatten<axis = 0>(t) y = Unsqueeze(u, a)", FLOATS,
                              "int64[1] a = {0}, float b = {1}"),
}  # fmt: skip
LEFT_ALONE = {"gemm, a bias a row"}
ROUNDED = {
    "tanh",
    "sigmoid",
    "softmax",
    "softmax over the first axis",
    "log-softmax",
}  # otherwise than ONNX Runtime does


def loaded(name: str) -> lx.Model:
    code, x, constants = CASES[name]
    of = "float" if x.dtype == np.float32 else "int64"
    kept = f"<{constants}>" if constants else ""
    text = f"""<ir_version: 8, opset_import: ["": 17]> small ({of}[2, 3] x) => (float y) {kept} {{ {code} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return lx.load(proto)


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_onnx_runtime(name: str) -> None:
    model, x = loaded(name), CASES[name][1]
    plan = compile_plan(model._engine.graph, ["y"], Purpose(gradient=True))
    segments = [step for step in plan.steps if isinstance(step, Segment)]
    assert [segment.small is None for segment in segments] == [name in LEFT_ALONE]
    (expected,) = model.predict({"x": x}).values()
    received = Program(plan, {}, lx.Gradient()).forward({"x": x}).values["y"]
    assert received.dtype == expected.dtype
    np.testing.assert_allclose(received, expected, rtol=1e-6 if name in ROUNDED else 0, atol=0)


@pytest.mark.parametrize("name", sorted(CASES.keys() - LEFT_ALONE))
def test_steps_for_one_shape_give_the_same(name: str) -> None:
    model, x = loaded(name), CASES[name][1]
    plan = compile_plan(model._engine.graph, ["y"], Purpose(gradient=True))
    (segment,) = [step for step in plan.steps if isinstance(step, Segment)]
    values, others = {"x": x}, {"x": x[::-1].copy()}
    bound = bound_of(segment, others)
    Bound(shaped(bound, others, segment.outputs), bound.fixed).run(values)
    expected = Program(plan, {}, lx.Gradient()).forward({"x": x}).values
    np.testing.assert_array_equal(values["y"], expected["y"])
    assert {name for name in segment.outputs if not name.endswith(SHAPE)} <= set(values)


def bound_of(segment: Segment, values: Inputs) -> Bound:
    assert segment.small is not None
    bound = segment.small.bound(values)
    assert bound is not None
    return bound


def test_consecutive_views_are_merged() -> None:
    chain = "t = Unsqueeze(x, a) u = Flatten(t) v = Transpose<perm = [0, 1]>(u) y = Add(v, b)"
    text = f"""<ir_version: 8, opset_import: ["": 17]> small (float[2, 3] x) => (float[1, 6] y)
        <int64[1] a = {{0}}, float b = {{1}}> {{ {chain} }}"""
    plan = compile_plan(lx.load(onnx.parser.parse_model(text))._engine.graph, ["y"], Purpose(gradient=True))
    (segment,) = [step for step in plan.steps if isinstance(step, Segment)]
    bound = bound_of(segment, {"x": FLOATS})
    assert len(bound.steps) == 4
    assert len(shaped(bound, {"x": FLOATS}, ["y"])) == 2


def test_what_only_shapes_determine_is_computed_once_for_each_shape() -> None:
    """As PyTorch writes states of zeros for every sample of a batch."""
    code = "t = Shape(x) c = Gather(t, i) d = Unsqueeze(c, a) s = Concat<axis = 0>(d, h) z = ConstantOfShape(s)"
    text = f"""<ir_version: 8, opset_import: ["": 17]> small (float[N, 3] x) => (float[N, 2] y)
        <int64 i = {{0}}, int64[1] a = {{0}}, int64[1] h = {{2}}, float[3, 2] w = {{1, 2, 3, 4, 5, 6}}>
        {{ {code} u = MatMul(x, w) y = Add(u, z) }}"""
    plan = compile_plan(lx.load(onnx.parser.parse_model(text))._engine.graph, ["y"], Purpose(gradient=True), ["z"])
    (segment,) = [step for step in plan.steps if isinstance(step, Segment)]
    assert segment.small is not None
    runs = []
    with mock.patch.object(numpy_segments, "run_session", side_effect=lambda *a: runs.append(a) or run_session(*a)):
        for rows in (2, 2, 5, 2, 5):
            values = {"x": np.ones((rows, 3), np.float32)}
            bound_of(segment, values).run(values)
            np.testing.assert_array_equal(values["z"], np.zeros((rows, 2)))
            np.testing.assert_array_equal(values["y"], np.tile(np.float32([[9, 12]]), (rows, 1)))
    assert len(runs) == 2


def kept_for_shapes(code: str, constants: str) -> list[Segment]:
    """The segments of y = MatMul(x, w) + z, of which z is made from the shape of x."""
    text = f"""<ir_version: 8, opset_import: ["": 17]> small (float[N, 1] x) => (float[N, M] y)
        <int64[1] a = {{0}}, int64[1] b = {{1}}, float[1, 1] w = {{1}}, {constants}>
        {{ t = Shape(x) n = Slice(t, a, b) {code} u = MatMul(x, w) y = Add(u, z) }}"""
    plan = compile_plan(lx.load(onnx.parser.parse_model(text))._engine.graph, ["y"], Purpose(gradient=True))
    return [step for step in plan.steps if isinstance(step, Segment)]


def test_large_arrays_are_not_kept_for_their_shapes() -> None:
    """As a mask [T, T] of a long sequence. Up to 512 shapes would fill the memory."""
    (segment,) = kept_for_shapes("s = Concat<axis = 0>(n, n) z = ConstantOfShape(s)", "int64 unused = {0}")
    assert segment.small is not None
    assert segment.small.bound({"x": np.ones((100, 1), np.float32)}) is not None
    assert segment.small.bound({"x": np.ones((200, 1), np.float32)}) is None


def test_what_is_random_is_not_kept() -> None:
    """Dropout in training mode drops elements of an array that the shape of the input determines otherwise."""
    code = "s = Concat<axis = 0>(n, b) o = ConstantOfShape(s) z = Dropout(o, ratio, training)"
    (segment,) = kept_for_shapes(code, "float ratio = {0.5}, bool training = {1}")
    assert segment.small is None


def test_a_token_outside_the_table_is_refused() -> None:
    with pytest.raises(lx.InputError, match="cannot run on these inputs"):
        loaded("lookup").explain({"x": TOKENS + 3}, lx.GradientTimesInput(), lx.Target(index=(0, 0)))
