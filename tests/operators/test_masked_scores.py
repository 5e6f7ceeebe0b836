# SPDX-License-Identifier: Apache-2.0
"""Scores masked by minus infinity: masked steps get no relevance, and no relevance is NaN."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lstm_explain as lx

STEPS, WIDTH = 5, 4
METHODS: list[lx.Method] = [
    lx.LRP(r, bias_factor=f) for r in ("all", "half", "prop", "abs", "attn") for f in (0.0, 1.0)
]  # type: ignore[arg-type]
METHODS += [lx.Gradient()]


def attention(masking: str, hidden: float) -> lx.Model:
    """Causal self-attention over x [N, STEPS, WIDTH]. hidden: the score of masked steps."""
    rng = np.random.default_rng(4)
    later = np.triu(np.ones((STEPS, STEPS), bool), 1)
    constants = {
        "Q": rng.normal(size=(WIDTH, WIDTH)),
        "root": np.array(0.5),
        "mask": np.where(later, hidden, 0),
        "hidden": np.array(hidden),
        "shift": rng.normal(size=STEPS),
    }
    arrays = {name: a.astype(np.float32) for name, a in constants.items()} | {"later": later}
    masked = {
        "added": "m = Add(s, mask)  a = Mul(m, root)",
        "chosen": "m = Where(later, hidden, s)  a = Mul(m, root)",
        "shifted": "m = Where(later, hidden, s)  a = Add(m, shift)",
        "both": "t = Where(later, hidden, s)  m = Add(t, mask) a = Add(m, shift)",
    }[masking]
    text = f"""
        <ir_version: 8, opset_import: ["": 17]>
        masked (float[N, {STEPS}, {WIDTH}] x) => (float[N, {STEPS}, {WIDTH}] y) {{
            q = MatMul(x, Q)
            k = Transpose<perm = [0, 2, 1]>(x)
            s = MatMul(q, k)
            {masked}
            w = Softmax<axis = -1>(a)
            y = MatMul(w, x)
        }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in arrays.items())
    return lx.load(model)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("masking", ["added", "chosen", "shifted", "both"])
def test_infinity_masks_like_a_large_number(masking: str, method: lx.Method) -> None:
    x = np.random.default_rng(5).normal(size=(2, STEPS, WIDTH)).astype(np.float32)
    target = lx.Target(weights=np.random.default_rng(6).normal(size=(STEPS, WIDTH)))
    result, expected = (attention(masking, h).explain({"x": x}, method, target) for h in (-np.inf, -1e9))
    scale = np.abs(expected.relevance["x"]).max()
    np.testing.assert_allclose(result.relevance["x"], expected.relevance["x"], atol=1e-4 * scale)
    if isinstance(method, lx.LRP):
        np.testing.assert_allclose(result.ledger.residual, 0, atol=1e-5 * scale)
