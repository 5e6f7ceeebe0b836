"""Scores masked by minus infinity: what is masked gets nothing, and nothing becomes NaN."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lstm_explain as lx

STEPS, WIDTH = 5, 4
HOW: list[lx.Method] = [lx.LRP(r, bias_factor=f) for r in ("all", "half", "prop", "abs") for f in (0.0, 1.0)]  # type: ignore[arg-type]
HOW += [lx.Gradient()]


def attention(spelled: str, hidden: float) -> lx.Model:
    """Self-attention over x [N, STEPS, WIDTH], where no step sees a later one. hidden: what their scores become."""
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
    }[spelled]
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


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("spelled", ["added", "chosen", "shifted", "both"])
def test_infinity_masks_as_any_large_number_does(spelled: str, how: lx.Method) -> None:
    x = np.random.default_rng(5).normal(size=(2, STEPS, WIDTH)).astype(np.float32)
    target = lx.Target(weights=np.random.default_rng(6).normal(size=(STEPS, WIDTH)))
    came, wanted = (attention(spelled, h).explain({"x": x}, how, target) for h in (-np.inf, -1e9))
    scale = np.abs(wanted.relevance["x"]).max()
    np.testing.assert_allclose(came.relevance["x"], wanted.relevance["x"], atol=1e-4 * scale)
    if isinstance(how, lx.LRP):
        np.testing.assert_allclose(came.ledger.residual, 0, atol=1e-5 * scale)
