# SPDX-License-Identifier: Apache-2.0
"""Functions of one operand, sums and quotients."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.operators.case import BATCH, Case, normal, positive, smooth

ORDINARY = (
    "Tanh Sigmoid Relu LeakyRelu Elu Selu HardSigmoid Softplus Softsign Exp Abs Sin Cos Atan Neg Identity Floor Ceil"
)
SINCE = {
    "HardSwish": 14, "Mish": 18, "Gelu": 20, "Swish": 24, "Celu": 12, "Erf": 9, "Sign": 9, "Round": 11, "Sinh": 9,
    "Cosh": 9, "Asinh": 9, "Shrink": 9, "ThresholdedRelu": 10,
}  # fmt: skip
ABOVE_ZERO = {"Log": 7, "Sqrt": 7, "Reciprocal": 7}
BELOW_ONE = {"Asin": 7, "Acos": 7, "Atanh": 9, "Tan": 7}


def functions() -> list[Case]:
    x = (smooth(BATCH, 4, 5) * 1.3).astype(np.float32)
    steps = np.floor(x) + 0.4 + 0.2 * (x - np.floor(x))  # away from whole numbers and halves
    stepped = {op: steps.astype(np.float32) for op in ("Floor", "Ceil", "Round")}
    cases = [Case(op, [stepped.get(op, x)], opset=7, closed=op != "Exp") for op in ORDINARY.split()]
    cases += [Case(op, [stepped.get(op, x)], opset=since) for op, since in SINCE.items()]
    cases += [Case(op, [positive(BATCH, 4, 5)], opset=since) for op, since in ABOVE_ZERO.items()]
    cases += [Case(op, [x * np.float32(0.3)], opset=since) for op, since in BELOW_ONE.items()]
    cases += [
        Case("Acosh", [positive(BATCH, 4, 5) + 1], opset=9),
        Case("LeakyRelu", [x], {"alpha": 0.3}, 16),
        Case("Elu", [x], {"alpha": 0.5}, 22),
        Case("Selu", [x], {"alpha": 1.2, "gamma": 0.8}),
        Case("HardSigmoid", [x], {"alpha": 0.4, "beta": 0.3}),
        Case("Gelu", [x], {"approximate": "tanh"}, 20),
        Case("Gelu", [x], domain="com.microsoft"),
        Case("FastGelu", [x], domain="com.microsoft"),
        Case("FastGelu", [x, normal(5, seed=3)], domain="com.microsoft"),
        Case("BiasGelu", [x, normal(5, seed=3)], domain="com.microsoft"),
        Case("QuickGelu", [x], domain="com.microsoft"),
        Case("QuickGelu", [x], {"alpha": 0.7}, domain="com.microsoft"),
        Case("Shrink", [x], {"lambd": 1.0, "bias": 0.5}, 9),
        Case("Swish", [x], {"alpha": 1.5}, 24),
        Case("PRelu", [x, normal(4, 1, seed=3)], opset=7),
        Case("PRelu", [x, normal(1, seed=3)], opset=16),
        Case("Clip", [x], {"min": -0.5, "max": 1.0}, 7),
        Case("Clip", [x, np.float32(-0.5)], opset=11),
        Case("Clip", [x, None, np.float32(0.7)], opset=13),
        Case("Softmax", [x], {"axis": 1}, 7),
        Case("Softmax", [x], {"axis": 1}, 13),
        Case("LogSoftmax", [x], opset=11),
        Case("LogSoftmax", [x], opset=13),
        Case("QuantizeLinear", [x, np.float32(0.01), np.uint8(120)], opset=13, step=0.1, tolerance=11),
        Case("DynamicQuantizeLinear", [x], {}, 13, batch=False, outputs=("y", "s", "z"), tolerance=20),
        Case("LRN", [x[..., None]], {"size": 3, "alpha": 0.5, "bias": 1.5}, 13),
        Case("LRN", [x[..., None]], {"size": 5, "alpha": 0.5}, 7),
    ]
    return [dataclasses.replace(c, step=min(c.step, 2e-3)) if "Quantize" not in c.op else c for c in cases]


def sums_and_quotients() -> list[Case]:
    x, row = normal(BATCH, 4, 5), normal(5, seed=2)
    y = np.sign(x[::-1]) * (np.abs(x[::-1]) + np.float32(0.5))
    both = (0, 1)
    cases = [
        Case("Add", [x, row], opset=7),
        Case("Add", [x, normal(BATCH, 1, 5, seed=4)], {}, 14, both),
        Case("Add", [x, x * 2], {}, 7, both),
        Case("Sub", [row, x], opset=7, live=(1,)),
        Case("Sub", [x, y], {}, 14, both),
        Case("Sum", [x, row, y], {}, 8, (0, 2)),
        Case("Mean", [x, normal(4, 1, seed=5), y], {}, 13, (0, 2)),
        Case("Mul", [x, row], opset=7),
        Case("Mul", [x, y], {}, 14, both),
        Case("Mul", [normal(BATCH, 1, 5), y], {}, 14, both),
        Case("Div", [x, row + 3], opset=7),
        Case("Div", [row, y], opset=7, live=(1,)),
        Case("Div", [x, y], {}, 14, both),
        Case("Pow", [positive(BATCH, 4, 5), np.float32(2.5)], opset=7),
        Case("Pow", [x, np.int64(3)], opset=12),
        Case("Pow", [np.float32(1.7), x], opset=13, live=(1,)),
        Case("Pow", [positive(BATCH, 4, 5), y], {}, 15, both),
        Case("Mod", [x, np.float32(0.7)], {"fmod": 1}, 10),
        Case("Mod", [np.float32(2.5), positive(BATCH, 4, 5) + np.float32(1.3)], {"fmod": 1}, 13, (1,)),
    ]
    return [dataclasses.replace(c, step=1e-3) for c in cases]
