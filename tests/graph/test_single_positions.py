# SPDX-License-Identifier: Apache-2.0
"""Which single position a node reads, against what ONNX Runtime returns of numbers that are all different."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from lstm_explain.graph.read import build, infer
from lstm_explain.graph.single_positions import position_of
from tests.graph_builder import AnyArray, GraphBuilder

VALUES: AnyArray = np.arange(15, dtype=np.float32).reshape(3, 5)
LAST = np.iinfo(np.int64).max
SLICES = [(0, start, end) for start, end in product(range(-3, 3), [-2, -1, 0, 1, 2, 3, LAST])]


def check(g: GraphBuilder, outputs: list[str], fixed: bool) -> None:
    """fixed: whether the model fixes the extents, so that every single position must be found."""
    shape: list[int | str] = [3, 5] if fixed else ["N", "T"]
    g.input("x", shape)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph_proto = helper.make_graph(g.nodes, "g", g.inputs, values, list(g.initializers.values()))
    proto = helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", g.opset)], ir_version=8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    graph = build(infer(proto))
    places = {name: (node, slot) for node in graph.nodes for slot, name in enumerate(node.outputs)}
    for name, found in zip(outputs, session.run(None, {"x": VALUES}), strict=True):
        position = position_of(graph, *places[name])
        if position is None:
            single = found.size and (found.ndim < 2 or 1 in found.shape)
            assert not (fixed and single), f"{name} reads {found}"
            continue
        expected = VALUES.take(position.place, position.axis)
        if position.kept:
            expected = np.expand_dims(expected, position.axis)
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("opset", [9, 17])
def test_slices(opset: int, fixed: bool) -> None:
    g = GraphBuilder(np.float32, opset)
    outputs = []
    for axis, start, end in [*SLICES, (1, 4, 5), (1, -1, LAST), (-1, 3, 4), (-2, -1, LAST)]:
        if opset < 10:
            outputs.append(g.op("Slice", ["x"], starts=[start], ends=[end], axes=[axis]))
        else:
            outputs.append(g.op("Slice", ["x", g.ints(start), g.ints(end), g.ints(axis)]))
    if opset >= 10:
        outputs.append(g.op("Slice", ["x", g.ints(2), g.ints(3)]))
        outputs.append(g.op("Slice", ["x", g.ints(0), g.ints(3), g.ints(0), g.ints(2)]))
    check(g, outputs, fixed)


@pytest.mark.parametrize("fixed", [True, False])
def test_gathers(fixed: bool) -> None:
    g = GraphBuilder(np.float32, 17)
    outputs = []
    for axis, index in product([0, 1, -1], [-3, -1, 0, 2]):
        outputs.append(g.op("Gather", ["x", g.constant(np.array(index), f"at {index}")], axis=axis))
        outputs.append(g.op("Gather", ["x", g.ints(index)], axis=axis))
    check(g, [*outputs, g.op("Gather", ["x", g.ints(0, 1)], axis=1)], fixed)


@pytest.mark.parametrize("fixed", [True, False])
def test_splits(fixed: bool) -> None:
    g = GraphBuilder(np.float32, 17)
    outputs = [*g.ops("Split", ["x", g.ints(1, 1, 1)], 3, axis=0), *g.ops("Split", ["x"], 5, axis=-1)]
    check(g, [*outputs, *g.ops("Split", ["x", g.ints(2, 3)], 2, axis=1)], fixed)
