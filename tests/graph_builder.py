# SPDX-License-Identifier: Apache-2.0
"""Writes ONNX graphs for tests, one operator per call, and runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

AnyArray = npt.NDArray[Any]

ELEMENT = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}


class GraphBuilder:
    """Collects nodes and initializers; every operator is one call that returns its output's name."""

    def __init__(self, dtype: npt.DTypeLike, opset: int) -> None:
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], element: int | None = None) -> str:
        element = ELEMENT[self.dtype] if element is None else element
        self.inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def constant(self, array: AnyArray, name: str) -> str:
        """An initializer; floating-point arrays take the model's dtype. The same name is stored once."""
        array = array.astype(self.dtype) if np.issubdtype(array.dtype, np.floating) else array
        self.initializers.setdefault(name, numpy_helper.from_array(array.copy(order="C"), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64), "ints_" + "_".join(map(str, values)))

    def op(self, op_type: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        return self.ops(op_type, inputs, 1, name, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[str], count: int, name: str | None = None, **attributes: Any
    ) -> list[str]:
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        outputs = [f"{name}:{k}" if count > 1 else f"{name}_out" for k in range(count)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))
        return outputs

    def with_axes(
        self, op_type: str, x: str, axes: Sequence[int], since: int, name: str | None = None, **kw: Any
    ) -> str:
        """Operators whose axes moved from an attribute to an input at opset `since`."""
        if self.opset >= since:
            return self.op(op_type, [x, self.ints(*axes)], name, **kw)
        return self.op(op_type, [x], name, axes=list(axes), **kw)

    def squeeze(self, x: str, *axes: int) -> str:
        return self.with_axes("Squeeze", x, axes, since=13)

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self.with_axes("Unsqueeze", x, axes, since=13)

    def reduce(self, how: Literal["mean", "sum"], x: str, axis: int, name: str) -> str:
        op_type, since = ("ReduceMean", 18) if how == "mean" else ("ReduceSum", 13)
        return self.with_axes(op_type, x, [axis], since, name, keepdims=0)

    def split(self, x: str, parts: int, size: int, axis: int) -> list[str]:
        if self.opset >= 13:
            return self.ops("Split", [x, self.ints(*[size] * parts)], parts, axis=axis)
        return self.ops("Split", [x], parts, axis=axis, split=[size] * parts)

    def model(self, output: str, shape: Sequence[int | str], rename: str = "logits") -> onnx.ModelProto:
        """Close the graph with one output, check it and return the model."""
        self.nodes.append(helper.make_node("Identity", [output], [rename], name="output"))
        graph = helper.make_graph(
            self.nodes,
            "test",
            self.inputs,
            [helper.make_tensor_value_info(rename, ELEMENT[self.dtype], list(shape))],
            list(self.initializers.values()),
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset <= 18 else 10)
        onnx.checker.check_model(model, full_check=True)
        return model


def run(model: onnx.ModelProto, feeds: Mapping[str, AnyArray], *outputs: str) -> list[AnyArray]:
    """ONNX Runtime's answer, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(list(outputs) or None, dict(feeds)))
