# SPDX-License-Identifier: Apache-2.0
"""The float64 copy of a graph, which answers where float32 loses the explained value."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.graph.constant_folding import fold_constants
from lstm_explain.graph.im2col import convolution_as_im2col
from lstm_explain.graph.read import build, infer, read
from lstm_explain.graph.session import session_of
from tests import zoo
from tests.builders import recurrent_model
from tests.engine_checks import check_ledger
from tests.reference.textbook import Rules, one_hot
from tests.test_zoo import model, target

SLIDES = [(1, 1, 0), (2, 1, 1), (1, 2, 2), (3, 2, 1)]  # stride, dilation, padding


@pytest.mark.parametrize(("rank", "groups", "slide"), list(itertools.product((1, 2), (1, 2), SLIDES)))
@pytest.mark.parametrize("bias", [True, False])
def test_an_unfolded_convolution_equals_onnx_runtimes(rank: int, groups: int, slide: Any, bias: bool) -> None:
    rng, (stride, dilation, pad) = np.random.default_rng(0), slide
    weights = rng.standard_normal((4, 6 // groups, *(3, 2)[:rank])).astype(np.float32)
    constants = {"W": weights, "b": rng.standard_normal(4).astype(np.float32)}
    node = helper.make_node(
        "Conv", ["x", "W", *(["b"] if bias else [])], ["y"], name="conv", group=groups,
        strides=[stride] * rank, dilations=[dilation] * rank, pads=[pad] * rank + [pad + 1] * rank,
    )  # fmt: skip
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, *["t"] * rank])
    y_info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [node], "g", [x_info], [y_info], [numpy_helper.from_array(a, n) for n, a in constants.items()]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    x = rng.standard_normal((2, 6, *(9,) * rank)).astype(np.float32)
    expected = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[
        0
    ]
    read_in = fold_constants(build(infer(read(proto))))
    nodes = convolution_as_im2col(read_in, read_in.nodes[0])
    assert nodes is not None
    received = session_of(read_in, nodes, ["x"], ["y"]).run(None, {"x": x})[0]
    np.testing.assert_allclose(received, expected, atol=1e-5)


@pytest.mark.parametrize(("rule", "bias_factor"), list(itertools.product(("all", "half", "abs"), (0.0, 1.0))))
def test_the_ledger_of_a_convolution_closes(rule: Any, bias_factor: float) -> None:
    case = zoo.load("h_prelu_pad_conv_op14")
    e = model(case.name).explain(case.inputs, lx.LRP(rule, bias_factor=bias_factor), target(case))
    check_ledger(e, {"x": case.batch_axis("x")})


def test_a_model_that_onnx_runtime_cannot_optimise_runs_unoptimised() -> None:
    """Its fusion of Relu and Clip knows no float64."""
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        capped (double[N, 3] x) => (double[N, 3] y) <double zero = {0}, double six = {6}> {
            r = Relu(x)
            y = Clip(r, zero, six)
        }"""
    x = np.array([[-1.0, 2.0, 7.0]])
    e = lx.load(onnx.parser.parse_model(text)).explain({"x": x}, lx.Gradient(), lx.Target(weights=np.ones(3)))
    np.testing.assert_array_equal(e.relevance["x"], [[0, 1, 0]])


def test_relevance_beyond_float32_is_not_infinite() -> None:
    """LRP-prop multiplies relevance up; the textbook's largest here is 1e75."""
    rng = np.random.default_rng(0)
    built = recurrent_model(rng, layers=3, direction="bidirectional", head="mean")
    feeds = built.feeds(rng, T=20)
    assert np.isfinite(built.reference_lrp(feeds, one_hot(1, 3, 3), Rules("prop")).x).all()
    assert np.isfinite(lx.load(built.model).explain(feeds, lx.LRP("prop"), lx.Target(index=1)).relevance["x"]).all()
