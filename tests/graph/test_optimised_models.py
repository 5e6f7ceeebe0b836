# SPDX-License-Identifier: Apache-2.0
"""A model that ONNX Runtime saved after optimising it is explained as the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import lstm_explain as lx

STEPS, WIDTH = 5, 4
RNG = np.random.default_rng(8)
ARRAYS = {name: RNG.normal(size=(WIDTH, WIDTH)) for name in ("Q", "K", "V", "F")}
ARRAYS |= {"scale": RNG.normal(size=WIDTH), "shift": RNG.normal(size=WIDTH), "bias": RNG.normal(size=WIDTH)}
ARRAYS |= {"two": np.array(2.0), "tiny": np.array(1e-3), "half": np.array(0.5), "one": np.array(1.0)}
ARRAYS |= {"root": np.array(2**0.5)}

TEXT = f"""
    <ir_version: 8, opset_import: ["": OPSET]>
    layer (float[N, {STEPS}, {WIDTH}] x) => (float[N, {STEPS}, {WIDTH}] y) {{
        q = MatMul(x, Q)
        k = MatMul(x, K)
        v = MatMul(x, V)
        turned = Transpose<perm = [0, 2, 1]>(k)
        s = MatMul(q, turned)
        scaled = Mul(s, half)
        w = Softmax<axis = -1>(scaled)
        a = MatMul(w, v)
        r = Add(a, x)
        mean = ReduceMean<axes = [-1]>(r)
        centred = Sub(r, mean)
        square = Pow(centred, two)
        variance = ReduceMean<axes = [-1]>(square)
        safe = Add(variance, tiny)
        deviation = Sqrt(safe)
        even = Div(centred, deviation)
        wide = Mul(even, scale)
        n = Add(wide, shift)
        f = MatMul(n, F)
        b = Add(f, bias)
        d = Div(b, root)
        e = Erf(d)
        e1 = Add(e, one)
        m = Mul(b, e1)
        g = Mul(m, half)
        gt = Transpose<perm = [0, 2, 1]>(g)
        o = MatMul(gt, n)
        y = MatMul(n, o)
    }}"""
METHODS: list[lx.Method] = [lx.LRP(rule) for rule in ("all", "half", "abs")]  # type: ignore[arg-type]
METHODS += [lx.Gradient()]


def optimised(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_a_model_saved_by_onnx_runtime(opset: int, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT.replace("OPSET", str(opset)))
    arrays = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in ARRAYS.items()]
    proto.graph.initializer.extend(arrays)
    saved = optimised(proto, tmp_path)
    operators = {node.op_type for node in saved.graph.node}
    assert operators >= {"SkipLayerNormalization", "FusedMatMul"}
    assert operators & {"Gelu", "BiasGelu"}
    received, expected = lx.load(saved), lx.load(proto)
    assert received.report().supported
    x = np.random.default_rng(9).normal(size=(2, STEPS, WIDTH)).astype(np.float32)
    target = lx.Target(weights=np.random.default_rng(10).normal(size=(STEPS, WIDTH)))
    for method in METHODS:
        a, b = (model.explain({"x": x}, method, target) for model in (received, expected))
        np.testing.assert_allclose(a.outputs["y"], b.outputs["y"], rtol=1e-4, atol=1e-5)
        scale = np.abs(b.relevance["x"]).max()
        np.testing.assert_allclose(a.relevance["x"], b.relevance["x"], atol=1e-3 * scale, err_msg=str(method))
