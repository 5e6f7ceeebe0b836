# SPDX-License-Identifier: Apache-2.0
"""Inserts a few nodes with extreme sizes and counts between a value and one of its readers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.fuzzing.places import SIZES, Rng, any_graph, one_of

# --- a few nodes more between a value and one of its readers ---------------------------------------------------------


def wedge(model: ModelProto, rng: Rng) -> None:
    graph = any_graph(model, rng)
    places = [(at, slot) for at, node in enumerate(graph.node) for slot, name in enumerate(node.input) if name]
    if not places:
        return
    at, slot = one_of(places, rng)
    source, tag = graph.node[at].input[slot], f"wedge{len(graph.node)}"

    def ints(*values: int, kind: type = np.int64) -> str:
        name = f"{tag}/c{len(graph.initializer)}"
        array = np.array(values, np.int64).astype(kind)
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    size, axis = one_of(SIZES, rng), int(rng.integers(-2, 3))
    kind = one_of((np.int64, np.int32), rng)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes, made = [], [f"{tag}/{i}" for i in range(4)]

    def op(name: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        nodes.append(helper.make_node(name, inputs, outputs, name=f"{tag}/{name}{len(nodes)}", **attributes))

    match int(rng.integers(15)):
        case 0:
            op("Tile", [source, ints(1, size, 1)], made[:1])
        case 1:
            op("Expand", [source, ints(size, 1, 1)], made[:1])
        case 2:
            op("Pad", [source, ints(0, size, 0, 0, one_of(SIZES, rng), 0)], made[:1])
        case 3:
            op("Reshape", [source, ints(one_of(SIZES, rng), size, -1)], made[:1], allowzero=int(rng.integers(2)))
        case 4:
            op("Slice", [source, ints(one_of(SIZES, rng)), ints(one_of(SIZES, rng)), ints(axis), ints(size)], made[:1])
        case 5:
            op("Gather", [source, ints(size)], made[:1], axis=axis)
        case 6:
            op("Cast", [source], made[:1], to=element)
            op(one_of(("Div", "Mod"), rng), [made[0], ints(one_of((-1, 0, 1, 2**31 - 1), rng), kind=kind)], made[1:2])
            op("Cast", made[1:2], made[2:3], to=TensorProto.FLOAT)
        case 7:
            op("ConstantOfShape", [ints(size, int(rng.integers(1, 4)))], made[:1])
        case 8:
            op(
                "Range",
                [
                    ints(0)[:0] or _scalar(graph, tag, 0),
                    _scalar(graph, tag, size),
                    _scalar(graph, tag, one_of((1, 0, -1, 2), rng)),
                ],
                made[:1],
            )
            op("Cast", made[:1], made[1:2], to=TensorProto.FLOAT)
        case 9:
            op("Resize", [source, "", "", ints(1, size, 1)], made[:1], mode=one_of(("nearest", "linear", "cubic"), rng))
        case 10:
            op("TopK", [source, ints(size)], made[:2], axis=axis)
            made = [made[0]]
        case 11:
            op("Cast", [source], made[:1], to=TensorProto.INT64)
            values = f"{tag}/values"
            graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.float32), values))
            op("OneHot", [made[0], ints(size), values], made[1:2], axis=axis)
        case 12:
            op("Split", [source], made[:3], axis=axis, num_outputs=3)
            made = [made[int(rng.integers(3))]]
        case 13:
            nodes.append(_loop(tag, source, made[0], ints(one_of((0, 1, 3, 1000, -1), rng))))
        case _:
            op("CumSum", [source, _scalar(graph, tag, size)], made[:1])
    last = nodes[-1].output[0] if len(made) == 4 else made[0]
    graph.node[at].input[slot] = last
    for offset, node in enumerate(nodes):
        graph.node.insert(at + offset, node)


def _scalar(graph: GraphProto, tag: str, value: int) -> str:
    name = f"{tag}/s{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    return name


def _loop(tag: str, source: str, output: str, count: str) -> NodeProto:
    """Passes the value through a Loop that changes its sign in every iteration."""
    step, going, state = (
        helper.make_tensor_value_info(f"{tag}/{n}", k, []) for n, k in (("i", 7), ("go", 9), ("s", 1))
    )
    state.type.tensor_type.ClearField("shape")
    after = onnx.ValueInfoProto.FromString(state.SerializeToString())
    after.name = f"{tag}/after"
    going_on = helper.make_tensor_value_info(f"{tag}/on", TensorProto.BOOL, [])
    nodes = [
        helper.make_node("Identity", [going.name], [going_on.name]),
        helper.make_node("Neg", [state.name], [after.name]),
    ]
    body = helper.make_graph(nodes, "body", [step, going, state], [going_on, after])
    return helper.make_node("Loop", [count, "", source], [output], name=f"{tag}/loop", body=body)
