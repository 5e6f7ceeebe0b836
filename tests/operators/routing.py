# SPDX-License-Identifier: Apache-2.0
"""Operators that move, read and write elements."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from onnx import TensorProto

from tests.operators.case import BATCH, AnyArray, Case, ints, normal, rng, smooth


def indexing() -> list[Case]:
    x, draw = normal(BATCH, 4, 5), rng(5)
    both, all_three, added = (0, 1), (0, 1, 2), {"reduction": "add"}
    updates, rows = normal(BATCH, 2, 5), ints(0, 2, 0, 2, 1, 1).reshape(3, 2)
    spread = ints(0, 3, 1, 2, 2, 1, 0, 0, 3).reshape(3, 3, 1)

    def elements(size: tuple[int, ...], below: int) -> AnyArray:
        return draw.integers(-below, below, size)

    def without_batch(*case: Any) -> Case:
        return dataclasses.replace(Case(*case), batch=False)

    cases = [
        Case("Gather", [x, ints(2, -1, 2)], {"axis": 1}, 7),
        Case("Gather", [x, np.int64(1)], {"axis": 2}),
        Case("Gather", [x, elements((2, 3), 4)], {"axis": 1}),
        without_batch("Gather", [x, ints(1, 0)], {"axis": 0}),
        Case("Gather", [normal(6, 3), elements((BATCH, 4), 6)], live=(1,)),
        without_batch("Gather", [normal(3, 6), elements((BATCH, 4), 6)], {"axis": 1}, 17, (1,)),
        Case("GatherElements", [x, elements((BATCH, 6, 5), 4)], {"axis": 1}, 11, both),
        Case("GatherElements", [x, elements((BATCH, 4, 2), 5)], {"axis": 2}, 17, both),
        without_batch("GatherElements", [x, elements((2, 4, 5), 3)], {"axis": 0}),
        Case("GatherElements", [normal(6, 3), elements((BATCH, 3), 6)], live=(1,)),
        Case("GatherND", [x, elements((BATCH, 2, 1), 4)], {"batch_dims": 1}, 12, both),
        Case("GatherND", [x, elements((BATCH, 2), 4)], {"batch_dims": 1}, 13, both),
        without_batch("GatherND", [x, ints(1, 2, 0, 3, 1, 2).reshape(3, 2)], {}, 11),
        Case("GatherND", [normal(6, 3, 2), elements((BATCH, 4, 2), 3)], live=(1,)),
        Case("ScatterElements", [x, elements((BATCH, 2, 5), 4), updates], {"axis": 1}, 11, all_three),
        without_batch("ScatterElements", [x, spread[:1], normal(1, 3, 1)], {"axis": 1}, 18, (0,), False),
        Case("ScatterElements", [x, elements((BATCH, 2, 5), 4), updates], {"axis": 1, **added}, 18, all_three),
        without_batch("ScatterElements", [x, elements((BATCH, 2, 5), 4), updates], {"axis": 1, **added}, 16, (1, 2)),
        Case("Scatter", [x, spread, normal(3, 3, 1)], {"axis": 1}, 9, all_three),
        without_batch("ScatterND", [x, ints(0, 2).reshape(2, 1), normal(2, 4, 5)], {}, 11, (0, 2)),
        without_batch("ScatterND", [x, rows, normal(3, 5)], {}, 13, (0, 2)),
        without_batch("ScatterND", [x, rows, normal(3, 5)], added, 16, (0, 2)),
        without_batch("ScatterND", [x, rows, normal(3, 5)], added, 18),
        Case("TopK", [smooth(BATCH, 4, 5), ints(2)], {"axis": 1}, 11, outputs=("y", "i")),
        Case("TopK", [smooth(BATCH, 4, 5), ints(3)], {"largest": 0, "sorted": 0}, 11, outputs=("y", "i")),
        Case("TopK", [smooth(BATCH, 4, 5)], {"k": 2}, 7, outputs=("y", "i")),
        Case("Compress", [x, np.array([True, False, True])], {"axis": 1}, 9),
        without_batch("Compress", [x, np.arange(60) % 3 == 0]),
        Case("OneHot", [elements((BATCH, 4), 5), ints(5), np.array([0, 1], np.float32)], opset=9),
        Case("OneHot", [elements((BATCH, 4), 5), ints(5), np.array([-1, 2], np.float32)], {"axis": 1}, 11),
        Case("ReverseSequence", [x, ints(2, 4, 1)], {"time_axis": 1, "batch_axis": 0}, 10, both),
        without_batch("ReverseSequence", [normal(4, BATCH, 5), ints(2, 4, 1)], {}, 10),
    ]
    return [dataclasses.replace(c, step=2e-3) for c in cases]


def routing() -> list[Case]:
    x, blocks = normal(BATCH, 4, 5), normal(BATCH, 8, 2, 3)
    pads = ints(0, 1, 0, 0, 2, 1)
    return [
        Case("Identity", [x], opset=7),
        Case("Cast", [x], {"to": TensorProto.DOUBLE}, 9),
        Case("CastLike", [x, np.zeros(1)], opset=19),
        Case("Reshape", [x, ints(0, 2, -1)], opset=7),
        Case("Reshape", [x, ints(-1, 5)], opset=7, batch=False),
        Case("Flatten", [x], {"axis": 1}, 9),
        Case("Squeeze", [normal(BATCH, 1, 5, 1)], {"axes": [1]}, 7),
        Case("Squeeze", [normal(BATCH, 1, 5, 1), ints(-1, 1)], opset=13),
        Case("Unsqueeze", [x], {"axes": [1, 4]}, 7),
        Case("Unsqueeze", [x, ints(-1)], opset=13),
        Case("Transpose", [x], {"perm": [0, 2, 1]}, 7),
        Case("Transpose", [x], opset=13, batch=False),
        Case("Dropout", [x], {"ratio": 0.3}, 7),
        Case("Dropout", [x, np.float32(0.4), np.bool_(False)], opset=13, outputs=("y", "mask")),
        Case("Concat", [x, x + 1], {"axis": 1}, 7, (0, 1)),
        Case("Concat", [x, normal(3, 4, 2)], {"axis": -1}, closed=False, batch=False),
        Case("Split", [x], {"axis": 1, "split": [1, 3]}, 7, outputs=("y", "z")),
        Case("Split", [x, ints(3, 1)], {"axis": 1}, 13, outputs=("z", "y")),
        Case("Split", [x], {"axis": -1, "num_outputs": 2}, 18, outputs=("z", "y")),
        Case("Slice", [x], {"starts": [1, -2], "ends": [3, 9], "axes": [1, 2]}, 7),
        Case("Slice", [x, ints(-1), ints(-9), ints(1), ints(-2)], opset=11),
        Case("Slice", [x, ints(0, 1), ints(3, 3)], opset=13),
        Case("Expand", [normal(BATCH, 1, 5), ints(1, 4, 1)], opset=8),
        Case("Expand", [normal(BATCH, 1), ints(2, 1, 4)], opset=13, batch=False),
        Case("Tile", [x, ints(1, 2, 3)], opset=7),
        Case("Pad", [x], {"pads": [0, 1, 0, 0, 2, 1], "value": 0.5}, 7, closed=False),
        Case("Pad", [x, ints(0, 1, -1, 0, -2, 1), np.float32(0.5)], opset=11, closed=False),
        Case("Pad", [x, pads], {"mode": "reflect"}, 13),
        Case("Pad", [x, pads], {"mode": "edge"}, 13),
        Case("Pad", [x, ints(2, 1), None, ints(1)], {"mode": "wrap"}, 19),
        Case(
            "MaxUnpool",
            [x, np.arange(BATCH * 20).reshape(x.shape) * 2],
            {"kernel_shape": [2], "strides": [2]},
            11,
            batch=False,
        ),
        Case("Trilu", [x], {"upper": 0}, 14, closed=False),
        Case("Trilu", [x, np.int64(-1)], {"upper": 1}, 14, closed=False),
        Case("DepthToSpace", [blocks], {"blocksize": 2}, 7),
        Case("DepthToSpace", [blocks], {"blocksize": 2, "mode": "CRD"}, 13),
        Case("SpaceToDepth", [normal(BATCH, 2, 4, 6)], {"blocksize": 2}, 13),
        Case("Max", [smooth(BATCH, 4, 5), smooth(BATCH, 4, 5, seed=1) + np.float32(0.033)], {}, 7, (0, 1)),
        Case("Max", [smooth(BATCH, 4, 5), np.float32(0.123)], {}, 8, closed=False, step=1e-3),
        Case("Min", [x, normal(BATCH, 1, 5, seed=1), normal(BATCH, 4, 1, seed=2)], {}, 13, (0, 1, 2)),
        Case("Where", [x > 0, x, x + 1], {}, 9, (0, 1, 2)),
        Case("Where", [x[:1] > 0, x, np.float32(7)], {}, 16, (1,), closed=False),
    ]
