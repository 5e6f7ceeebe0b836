# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools."""

from __future__ import annotations

from typing import Any

from tests.operators.case import BATCH, AnyArray, Case, normal, smooth


def convolutions() -> list[Case]:
    x1, x2, x3 = normal(BATCH, 4, 9), normal(BATCH, 4, 6, 7), normal(2, 2, 4, 5, 4)
    bias = normal(6, seed=3)

    def case(x: AnyArray, W: AnyArray, b: AnyArray | None = bias, **more: Any) -> Case:
        return Case("Conv", [x, W, b], more, opset=more.pop("opset", 17), step=0.1)

    return [
        case(x1, normal(6, 4, 3, seed=1)),
        case(x1, normal(6, 4, 3, seed=1), None, opset=7),
        case(x1, normal(6, 4, 3, seed=1), pads=[2, 1], strides=[2], opset=11),
        case(x1, normal(6, 4, 3, seed=1), pads=[4, 0], dilations=[2], opset=22),
        case(x1, normal(6, 2, 2, seed=1), group=2, auto_pad="SAME_UPPER"),
        case(x1, normal(6, 4, 4, seed=1), auto_pad="SAME_LOWER", strides=[3]),
        case(x1, normal(6, 4, 4, seed=1), auto_pad="VALID", strides=[3]),
        case(x1, normal(4, 1, 3, seed=1), normal(4, seed=3), group=4, pads=[1, 1]),
        case(x1, normal(6, 4, 3, seed=1), pads=[6, 5], opset=11),
        case(x2, normal(6, 4, 3, 2, seed=1), pads=[1, 0, 1, 1]),
        case(x2, normal(6, 2, 3, 3, seed=1), group=2, strides=[2, 1], dilations=[1, 2], pads=[2, 0, 1, 3]),
        case(x2, normal(6, 4, 1, 1, seed=1), auto_pad="SAME_UPPER", strides=[2, 2]),
        case(x3, normal(6, 2, 2, 2, 2, seed=1), pads=[1, 0, 0, 0, 1, 1], strides=[1, 2, 1]),
    ]


def transposed_convolutions() -> list[Case]:
    x1, x2, x3 = normal(BATCH, 4, 5), normal(BATCH, 4, 3, 4), normal(2, 2, 2, 3, 2)
    bias = normal(6, seed=3)

    def case(x: AnyArray, W: AnyArray, b: AnyArray | None = bias, **more: Any) -> Case:
        return Case("ConvTranspose", [x, W, b], more, opset=more.pop("opset", 17), step=0.1)

    return [
        case(x1, normal(4, 6, 3, seed=1), opset=7),
        case(x1, normal(4, 6, 3, seed=1), None, strides=[2], pads=[1, 0], output_padding=[1], opset=11),
        case(x1, normal(4, 3, 3, seed=1), group=2, strides=[2], dilations=[2], opset=22),
        case(x1, normal(4, 6, 4, seed=1), strides=[2], auto_pad="SAME_UPPER"),
        case(x1, normal(4, 6, 5, seed=1), strides=[2], auto_pad="SAME_LOWER"),
        case(x1, normal(4, 6, 3, seed=1), strides=[2], output_shape=[9]),
        case(x1, normal(4, 6, 4, seed=1), strides=[2], output_shape=[9], auto_pad="SAME_UPPER"),
        case(x1, normal(4, 6, 2, seed=1), strides=[3]),
        case(x2, normal(4, 6, 3, 2, seed=1), strides=[2, 1], pads=[1, 0, 1, 1]),
        case(x2, normal(4, 3, 2, 3, seed=1), group=2, strides=[2, 2], output_padding=[1, 0]),
        case(x3, normal(2, 6, 2, 2, 2, seed=1), strides=[1, 2, 1]),
    ]


def pools() -> list[Case]:
    x1, x2, x3 = smooth(BATCH, 2, 9), smooth(BATCH, 2, 6, 7), smooth(2, 2, 4, 5, 4)
    shapes: list[tuple[AnyArray, dict[str, Any]]] = [
        (x1, {"kernel_shape": [3]}),
        (x1, {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
        (x1, {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}),
        (x1, {"kernel_shape": [4], "strides": [3], "ceil_mode": 1, "pads": [1, 1]}),
        (x1, {"kernel_shape": [4], "strides": [2], "auto_pad": "SAME_UPPER"}),
        (x1, {"kernel_shape": [4], "strides": [2], "auto_pad": "SAME_LOWER"}),
        (x1, {"kernel_shape": [4], "strides": [2], "auto_pad": "VALID"}),
        (x2, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
        (x2, {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
        (x3, {"kernel_shape": [2, 2, 2], "strides": [2, 1, 2]}),
    ]
    cases = [Case("MaxPool", [x], a, step=1e-3) for x, a in shapes]
    cases += [Case("MaxPool", [x1], {"kernel_shape": [3], "dilations": [2], "pads": [2, 2]}, opset=12, step=1e-3)]
    cases += [
        Case("MaxPool", [x2], {"kernel_shape": [2, 2], "strides": [2, 2]}, opset=8, outputs=("y", "i"), step=1e-3)
    ]
    for include in (0, 1):
        cases += [Case("AveragePool", [x], {**a, "count_include_pad": include}) for x, a in shapes]
    cases += [Case("AveragePool", [x1], {"kernel_shape": [3], "strides": [2]}, opset=7)]
    cases += [
        Case("AveragePool", [x1], {"kernel_shape": [3], "dilations": [2], "pads": [2, 2], "count_include_pad": i}, 22)
        for i in (0, 1)
    ]
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        cases += [Case(op, [x], step=1e-3, opset=o) for x, o in ((x1, 7), (x2, 17), (x3, 22))]
    return cases
