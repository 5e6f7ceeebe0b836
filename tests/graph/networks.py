# SPDX-License-Identifier: Apache-2.0
"""Builds small networks around one layer, and compares how two spellings of the layer are explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from onnx import helper, numpy_helper

import lstm_explain as lx

AnyArray = npt.NDArray[Any]
RULES: tuple[lx.ProductRule, ...] = ("all", "half", "prop", "abs")
BATCH, TIME, WIDTH = 3, 4, 6


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Net:
    """x [N, TIME, WIDTH] -> a layer under test -> dense -> y [N, 2]: the layers around it are explained, too."""

    def __init__(self, opset: int = 17, dtype: npt.DTypeLike = np.float32) -> None:
        self.opset, self.dtype = opset, np.dtype(dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def const(self, array: AnyArray) -> str:
        name = f"c{len(self.constants)}"
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def mean(self, x: str, *axes: int) -> str:
        if self.opset >= 18:
            return self.op("ReduceMean", x, self.const(np.array(axes, np.int64)), keepdims=1)
        return self.op("ReduceMean", x, axes=list(axes), keepdims=1)

    def dense(self, x: str, units: int, seed: int) -> str:
        width = WIDTH if seed == 1 else 5
        W, b = rng(seed).standard_normal((width, units)), rng(seed + 50).standard_normal(units)
        return self.op("Add", self.op("MatMul", x, self.const(W)), self.const(b))

    def model(self, layer: Callable[[Net, str], str]) -> onnx.ModelProto:
        before = self.dense("x", 5, seed=1)
        behind = self.dense(self.op("Tanh", layer(self, before)), 2, seed=2)
        y = self.op("Squeeze", self.mean(behind, 1), self.const(np.array([1])))
        self.nodes.append(helper.make_node("Identity", [y], ["y"]))
        element = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", element, ["N", TIME, WIDTH])],
            [helper.make_tensor_value_info("y", element, ["N", 2])],
            self.constants,
        )
        ir = 8 if self.opset < 21 else 10
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir)


def explain(model: onnx.ModelProto, method: lx.Method, dtype: npt.DTypeLike = np.float32) -> lx.Explanation:
    x = rng(9).standard_normal((BATCH, TIME, WIDTH)).astype(dtype)
    return lx.load(model).explain({"x": x}, method, lx.Target(index=1))


def assert_alike(
    models: Sequence[onnx.ModelProto],
    tolerance: float = 2e-5,
    dtype: npt.DTypeLike = np.float32,
    rules: Sequence[lx.ProductRule] = RULES,
    default: bool = True,
) -> None:
    """The same prediction, gradient and relevance under every rule; ledgers that close.

    default: whether to compare the default stabiliser, too. It counts constants that are added one after the other as
    several terms, and cannot see weights that are no operands (docs/methods.md).
    """
    methods = [lx.Gradient(), *([lx.LRP(), lx.LRP("half")] if default else [])]
    methods += [lx.LRP(rule, 1e-3, bias_factor=f) for rule in rules for f in (0.0, 0.4, 1.0)]
    for method in methods:
        first, *others = (explain(model, method, dtype) for model in models)
        scale = np.abs(first.relevance["x"]).max()
        for other in others:
            np.testing.assert_allclose(other.explained, first.explained, rtol=1e-3 if dtype == np.float16 else 1e-5)
            np.testing.assert_allclose(other.relevance["x"], first.relevance["x"], atol=tolerance * scale)
        if isinstance(method, lx.LRP):
            rounding = 1e-4 if dtype == np.float16 else 1e-5
            np.testing.assert_allclose(first.ledger.residual, 0, atol=rounding * np.abs(first.explained).max())
