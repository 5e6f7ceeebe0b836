# SPDX-License-Identifier: Apache-2.0
"""Loops whose bodies compute their conditions, as tf2onnx writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def with_condition(
    proto: onnx.ModelProto,
    limit: int | None,
    *,
    compare: str = "Less",
    start: int = 0,
    most: int | None = None,
    dtype: type[np.signedinteger[Any]] = np.int32,
) -> onnx.ModelProto:
    """Returns a model with one Loop, which goes on while `time < limit and iteration < 1000` and counts time itself,
    from `start`; sequences are indexed by time.

    limit: of the counter; None for an input of the model, "limit". compare: how time is compared with the limit. most:
    the trip count; None for none. dtype: of time and its limit.
    """
    changed, element = onnx.ModelProto(), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    changed.CopyFrom(proto)
    graph = changed.graph
    (loop,) = (node for node in graph.node if node.op_type == "Loop")
    body = next(a.g for a in loop.attribute if a.name == "body")
    number = body.input[0].name
    for node in body.node:
        if node.op_type == "Gather" and node.input[1] == number:
            node.input[1] = "time"
    operands = ["time_next", "limit_in"] if compare.startswith("Less") else ["limit_in", "time_next"]
    body.node.extend(
        [
            helper.make_node("Add", ["time", "one"], ["time_next"], name="time_next"),
            helper.make_node(compare, operands, ["in_time"], name="in_time"),
            helper.make_node("Cast", [number], ["number"], name="number", to=element),
            helper.make_node("Less", ["number", "thousand"], ["few"], name="few"),
            helper.make_node("And", ["few", "in_time"], ["goes_on"], name="goes_on"),
        ]
    )
    constants = {"one": 1, "thousand": 1000, "time_start": start} | ({} if limit is None else {"limit": limit})
    graph.initializer.extend(numpy_helper.from_array(np.array(n, dtype), name) for name, n in constants.items())
    if most is not None:
        graph.initializer.append(numpy_helper.from_array(np.array(most), "most"))
    if limit is None:
        graph.input.append(helper.make_tensor_value_info("limit", element, []))
    infos = [helper.make_tensor_value_info(name, element, []) for name in ("time", "limit_in")]
    outputs = [helper.make_tensor_value_info(name, element, []) for name in ("time_next", "limit_out")]
    body.node.append(helper.make_node("Identity", ["limit_in"], ["limit_out"], name="limit_out"))
    states = list(body.input[2:])
    read = [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), *outputs, *body.output[1:]]
    given = [*body.input[:2], *infos, *states]
    del body.input[:], body.output[:]
    body.input.extend(given)
    body.output.extend(read)
    condition = loop.input[1]
    loop.input[:] = ["" if most is None else "most", condition, "time_start", "limit", *loop.input[2:]]
    loop.output[:] = ["time_end", "limit_end", *loop.output]
    return changed
