# SPDX-License-Identifier: Apache-2.0
"""A model of one operator, and its outputs and central differences by ONNX Runtime.

The inputs are `x0`, `x1`, …, one per live slot, and the output is `y`. Central differences are the oracle of gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx

AnyArray = npt.NDArray[Any]
ELEMENT = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.bool_): TensorProto.BOOL,
}
BATCH = 3


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth(*shape: int, seed: int = 0) -> AnyArray:
    """Numbers in (-2, 2), evenly spaced: no ties, and central differences stay on one side of a kink."""
    count = int(np.prod(shape))
    values = (np.arange(count) + 0.5) / count * 4 - 2
    values = np.where(np.abs(values) < 0.02, 0.05, values)
    return rng(seed).permutation(values).reshape(shape).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> AnyArray:
    return (np.abs(smooth(*shape, seed=seed)) * 0.4 + 0.1).astype(np.float32)


def normal(*shape: int, seed: int = 0) -> AnyArray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> AnyArray:
    return np.array(values, np.int64)


# At the end of a model, the value before one of these is explained.
LAST = {"Sigmoid", "Softmax", "LogSoftmax", "Exp", "Softplus"}


@dataclass(frozen=True, eq=False)
class Case:
    """One operator with its inputs by slot: those in `live` are inputs of the model, the others constants.

    closed: With bias_factor 1, nothing is absorbed. batch: Samples lie on axis 0 of every live input and of the output.
    outputs: Names of the node's outputs; `y` is explained. step, tolerance: Of the central differences.
    """

    op: str
    inputs: Sequence[AnyArray | np.generic | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    live: tuple[int, ...] = (0,)
    closed: bool = True
    batch: bool = True
    outputs: tuple[str, ...] = ("y",)
    step: float = 1e-2
    tolerance: float = 2e-3
    domain: str = ""

    def __str__(self) -> str:
        shapes = "x".join(str(list(a.shape)) for a in self.inputs if a is not None)
        attributes = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}-{self.opset}-{shapes}-{attributes}".replace(" ", "")

    def feeds(self) -> dict[str, AnyArray]:
        return {f"x{i}": np.asarray(self.inputs[i]) for i in self.live}

    def model(self) -> onnx.ModelProto:
        names = ["" if a is None else (f"x{i}" if i in self.live else f"c{i}") for i, a in enumerate(self.inputs)]
        while names and not names[-1]:
            names.pop()
        node = helper.make_node(self.op, names, list(self.outputs), name="node", domain=self.domain, **self.attributes)
        shapes = {i: list(np.asarray(self.inputs[i]).shape) for i in self.live}
        if self.batch:
            shapes = {i: ["N", *s[1:]] for i, s in shapes.items()}
        nodes = [node]
        if self.op in LAST:
            node.output[0] = "inner"
            one = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32)))
            nodes += [one, helper.make_node("Mul", ["inner", "one"], ["y"])]
        if self.op in ("QuantizeLinear", "DynamicQuantizeLinear"):  # integers cannot be explained
            node.output[0] = "inner"
            nodes.append(helper.make_node("Cast", ["inner"], ["y"], to=TensorProto.FLOAT))
        graph = helper.make_graph(
            nodes,
            "case",
            [
                helper.make_tensor_value_info(f"x{i}", ELEMENT[np.asarray(self.inputs[i]).dtype], shapes[i])
                for i in self.live
            ],
            [onnx.ValueInfoProto(name="y")],
            [
                numpy_helper.from_array(np.asarray(a), f"c{i}")
                for i, a in enumerate(self.inputs)
                if a is not None and i not in self.live
            ],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 21 else 10)
        inferred = onnx.shape_inference.infer_shapes(model)
        kind = inferred.graph.output[0].type
        unknown = not kind.tensor_type.HasField("shape")  # where ONNX infers no shape, the output has the input's
        model.graph.output[0].type.CopyFrom(graph.input[0].type if unknown else kind)
        return model


def outputs_of(case: Case, feeds: dict[str, AnyArray]) -> AnyArray:
    session = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], feeds)[0])


def target_of(case: Case, y: AnyArray) -> lx.Target:
    """Return a target that weights every output element differently."""
    shape = y.shape[1:] if case.batch else y.shape
    weights = rng(7).uniform(0.5, 1.5, shape) * np.where(rng(8).uniform(size=shape) < 0.3, -1, 1)
    return lx.Target(weights=weights.astype(np.float32), batch_axis=0 if case.batch else None)


def full_weights(case: Case, y: AnyArray) -> AnyArray:
    weights = target_of(case, y).weights
    assert weights is not None
    return np.broadcast_to(weights, y.shape)


def differences(case: Case, feeds: dict[str, AnyArray], weights: AnyArray) -> dict[str, AnyArray]:
    """Return central differences of sum(weights * y), by ONNX Runtime, for every floating-point input."""
    session = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    result = {}
    for name, x in feeds.items():
        if x.dtype.kind != "f":
            continue
        grad = np.zeros(x.shape)
        for place in np.ndindex(*x.shape):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[place] += sign * case.step
                ends.append(
                    (
                        float(moved[place]),
                        (session.run(["y"], {**feeds, name: moved})[0] * weights).sum(dtype=np.float64),
                    )
                )
            grad[place] = (ends[0][1] - ends[1][1]) / (ends[0][0] - ends[1][0])
        result[name] = grad
    return result
