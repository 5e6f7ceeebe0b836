"""Every operator of the table, alone between an input and an output: gradients, ledger, batches.

A case is a small graph: `x` (and more inputs, if any) go in, one operator comes between, `y` comes out. ONNX Runtime
computes `y`; central differences through it are the oracle of the gradients.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.graph.canonical import SPELLINGS
from lstm_explain.rules import TABLE, Kind

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
    """Numbers in (-2, 2), all at least 0.01 apart: no ties, and central differences stay on one side of a kink."""
    count = int(np.prod(shape))
    places = (np.arange(count) + 0.5) / count * 4 - 2
    places = np.where(np.abs(places) < 0.02, 0.05, places)
    return rng(seed).permutation(places).reshape(shape).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> AnyArray:
    return (np.abs(smooth(*shape, seed=seed)) * 0.4 + 0.1).astype(np.float32)


def normal(*shape: int, seed: int = 0) -> AnyArray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> AnyArray:
    return np.array(values, np.int64)


@dataclass(frozen=True, eq=False)
class Case:
    """One operator with its inputs by slot: arrays named in `live` are the model's inputs, the others constants.

    closed: with bias_factor 1 nothing is absorbed. batch: samples lie on axis 0 of every live input and of the output.
    outputs: names of the node's outputs; `y` is explained. step, tolerance: of the central differences.
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
        if self.op in ("Sigmoid", "Softmax", "LogSoftmax"):  # at the end of a model, LRP would start before it
            node.output[0] = "inner"
            one = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32)))
            nodes += [one, helper.make_node("Mul", ["inner", "one"], ["y"])]
        if self.op in ("QuantizeLinear", "DynamicQuantizeLinear"):  # whole numbers cannot be explained
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
        unknown = not kind.tensor_type.HasField("shape")  # where ONNX infers nothing, the output is like the input
        model.graph.output[0].type.CopyFrom(graph.input[0].type if unknown else kind)
        return model


def outputs_of(case: Case, feeds: dict[str, AnyArray]) -> AnyArray:
    session = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], feeds)[0])


def target_of(case: Case, y: AnyArray) -> lx.Target:
    """Every output element, with a weight of its own."""
    shape = y.shape[1:] if case.batch else y.shape
    weights = rng(7).uniform(0.5, 1.5, shape) * np.where(rng(8).uniform(size=shape) < 0.3, -1, 1)
    return lx.Target(weights=weights.astype(np.float32), batch_axis=0 if case.batch else None)


def full_weights(case: Case, y: AnyArray) -> AnyArray:
    weights = target_of(case, y).weights
    assert weights is not None
    return np.broadcast_to(weights, y.shape)


def differences(case: Case, feeds: dict[str, AnyArray], weights: AnyArray) -> dict[str, AnyArray]:
    """Central differences of sum(weights * y), through ONNX Runtime, for every floating input."""
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


# --- the cases -------------------------------------------------------------------------------------------------------


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


def normalisations() -> list[Case]:
    x = normal(BATCH, 4, 5)
    scale, shift, mean, variance = normal(4, seed=1), normal(4, seed=2), normal(4, seed=3), positive(4, seed=4)
    cases = [
        Case("BatchNormalization", [x, scale, shift, mean, variance], {"epsilon": 1e-2}, o) for o in (7, 9, 14, 15)
    ]
    cases += [Case("BatchNormalization", [normal(BATCH, 4), scale, shift, mean, variance])]
    last, two = normal(5, seed=5), normal(4, 5, seed=6)
    cases += [
        Case("LayerNormalization", [x, last, normal(5, seed=7)]),
        Case("LayerNormalization", [x, last], {"axis": -1, "epsilon": 1e-2}),
        Case("LayerNormalization", [x, two, two], {"axis": 1}),
        Case("LayerNormalization", [x, two, two], {"axis": -2}, outputs=("y", "mean", "inverse")),
        Case("RMSNormalization", [x, last], {"axis": -1}, opset=23),
        Case("RMSNormalization", [x, two], {"axis": 1}, opset=24),
        Case("InstanceNormalization", [x, scale, shift]),
        Case("InstanceNormalization", [normal(BATCH, 4, 3, 2), scale, shift], {"epsilon": 1e-2}, opset=7),
        Case("GroupNormalization", [normal(BATCH, 4, 3, 2), scale, shift], {"num_groups": 2}, opset=21),
        Case("GroupNormalization", [normal(BATCH, 4, 3, 2), scale[:2], shift[:2]], {"num_groups": 2}, opset=18),
        Case("MeanVarianceNormalization", [x], {"axes": [1, 2]}, opset=13),
        Case("MeanVarianceNormalization", [normal(BATCH, 4, 3, 2)], opset=9, batch=False),
        Case("LpNormalization", [x]),
        Case("LpNormalization", [smooth(BATCH, 4, 5)], {"axis": 1, "p": 1}, opset=22),
    ]
    return [dataclasses.replace(c, step=5e-3) for c in cases]


def indexing() -> list[Case]:
    x, draw = normal(BATCH, 4, 5), rng(5)
    both, all_three, added = (0, 1), (0, 1, 2), {"reduction": "add"}
    updates, places = normal(BATCH, 2, 5), ints(0, 2, 0, 2, 1, 1).reshape(3, 2)
    spread = ints(0, 3, 1, 2, 2, 1, 0, 0, 3).reshape(3, 3, 1)

    def elements(size: tuple[int, ...], below: int) -> AnyArray:
        return draw.integers(-below, below, size)

    def alone(*case: Any) -> Case:
        return dataclasses.replace(Case(*case), batch=False)

    cases = [
        Case("Gather", [x, ints(2, -1, 2)], {"axis": 1}, 7),
        Case("Gather", [x, np.int64(1)], {"axis": 2}),
        Case("Gather", [x, elements((2, 3), 4)], {"axis": 1}),
        alone("Gather", [x, ints(1, 0)], {"axis": 0}),
        Case("Gather", [normal(6, 3), elements((BATCH, 4), 6)], live=(1,)),
        alone("Gather", [normal(3, 6), elements((BATCH, 4), 6)], {"axis": 1}, 17, (1,)),
        Case("GatherElements", [x, elements((BATCH, 6, 5), 4)], {"axis": 1}, 11, both),
        Case("GatherElements", [x, elements((BATCH, 4, 2), 5)], {"axis": 2}, 17, both),
        alone("GatherElements", [x, elements((2, 4, 5), 3)], {"axis": 0}),
        Case("GatherElements", [normal(6, 3), elements((BATCH, 3), 6)], live=(1,)),
        Case("GatherND", [x, elements((BATCH, 2, 1), 4)], {"batch_dims": 1}, 12, both),
        Case("GatherND", [x, elements((BATCH, 2), 4)], {"batch_dims": 1}, 13, both),
        alone("GatherND", [x, ints(1, 2, 0, 3, 1, 2).reshape(3, 2)], {}, 11),
        Case("GatherND", [normal(6, 3, 2), elements((BATCH, 4, 2), 3)], live=(1,)),
        Case("ScatterElements", [x, elements((BATCH, 2, 5), 4), updates], {"axis": 1}, 11, all_three),
        alone("ScatterElements", [x, spread[:1], normal(1, 3, 1)], {"axis": 1}, 18, (0,), False),
        Case("ScatterElements", [x, elements((BATCH, 2, 5), 4), updates], {"axis": 1, **added}, 18, all_three),
        alone("ScatterElements", [x, elements((BATCH, 2, 5), 4), updates], {"axis": 1, **added}, 16, (1, 2)),
        Case("Scatter", [x, spread, normal(3, 3, 1)], {"axis": 1}, 9, all_three),
        alone("ScatterND", [x, ints(0, 2).reshape(2, 1), normal(2, 4, 5)], {}, 11, (0, 2)),
        alone("ScatterND", [x, places, normal(3, 5)], {}, 13, (0, 2)),
        alone("ScatterND", [x, places, normal(3, 5)], added, 16, (0, 2)),
        alone("ScatterND", [x, places, normal(3, 5)], added, 18),
        Case("TopK", [smooth(BATCH, 4, 5), ints(2)], {"axis": 1}, 11, outputs=("y", "i")),
        Case("TopK", [smooth(BATCH, 4, 5), ints(3)], {"largest": 0, "sorted": 0}, 11, outputs=("y", "i")),
        Case("TopK", [smooth(BATCH, 4, 5)], {"k": 2}, 7, outputs=("y", "i")),
        Case("Compress", [x, np.array([True, False, True])], {"axis": 1}, 9),
        alone("Compress", [x, np.arange(60) % 3 == 0]),
        Case("OneHot", [elements((BATCH, 4), 5), ints(5), np.array([0, 1], np.float32)], opset=9),
        Case("OneHot", [elements((BATCH, 4), 5), ints(5), np.array([-1, 2], np.float32)], {"axis": 1}, 11),
        Case("ReverseSequence", [x, ints(2, 4, 1)], {"time_axis": 1, "batch_axis": 0}, 10, both),
        alone("ReverseSequence", [normal(4, BATCH, 5), ints(2, 4, 1)], {}, 10),
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
    cases = [Case(op, [stepped.get(op, x)], opset=7) for op in ORDINARY.split()]
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


def reductions() -> list[Case]:
    x, one_zero = smooth(BATCH, 4, 5), smooth(BATCH, 4, 5)
    one_zero[0, 1, 2] = 0
    cases = [
        Case(op, [x], {"axes": [1, 2], "keepdims": k}, opset=7 + 4 * k)
        for k in (0, 1)
        for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
    ]
    newest = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd")
    cases += [Case(op, [x, ints(-2)], {"keepdims": 0}, opset=18) for op in (*newest, "ReduceLogSumExp", "ReduceSum")]
    cases += [
        Case("ReduceSum", [x, ints()], {"noop_with_empty_axes": 1}, opset=13),
        Case("ReduceSum", [x], opset=13, batch=False),
        Case("ReduceL2", [x], opset=13, batch=False),
        Case("ReduceLogSumExp", [x], {"axes": [2]}, opset=13),
        Case("ReduceLogSum", [positive(BATCH, 4, 5)], {"axes": [1]}, opset=13),
        Case("ReduceLogSum", [positive(BATCH, 4, 5), ints(1, 2)], opset=18),
        Case("ReduceProd", [one_zero], {"axes": [1, 2]}, opset=13, closed=False),
        Case("ReduceProd", [one_zero], {"axes": [2], "keepdims": 0}, opset=13),
    ]
    for reverse in (0, 1):
        for exclusive in (0, 1):
            cases += [Case("CumSum", [x, np.int64(1)], {"reverse": reverse, "exclusive": exclusive}, opset=11)]
    cases += [Case("CumSum", [x, ints(-1)], opset=14), Case("CumSum", [x, np.int64(0)], opset=14, batch=False)]
    return [dataclasses.replace(c, step=2e-3) for c in cases]


def products() -> list[Case]:
    two = (0, 1)

    def case(op: str, *inputs: AnyArray | None, live: tuple[int, ...] = two, **more: Any) -> Case:
        opset, batch = more.pop("opset", 17), more.pop("batch", True)
        return Case(op, inputs, more, opset=opset, live=live, batch=batch)

    x = normal(BATCH, 4, 5)
    vector, matrix, batched = normal(5, seed=1), normal(5, 2, seed=1), normal(BATCH, 5, 2, seed=1)
    heads, keys = normal(BATCH, 2, 4, 5), normal(BATCH, 2, 5, 3, seed=1)
    flat, wide = normal(BATCH, 5), normal(BATCH, 4, seed=1)
    return [
        case("MatMul", x, matrix, live=(0,), opset=7),
        case("MatMul", matrix.T, batched, live=(1,)),
        case("MatMul", x, vector, live=(0,)),
        case("MatMul", normal(5, 4), normal(4, seed=1), live=(1,), batch=False),
        case("MatMul", x, batched),
        case("MatMul", heads, keys, opset=9),
        case("MatMul", x[:1], batched, batch=False),
        case("MatMul", x, matrix, batch=False),
        case("MatMul", x, vector, batch=False),
        case("MatMul", vector, batched, batch=False),
        case("MatMul", vector, vector, batch=False),
        case("Gemm", flat, matrix, normal(2, seed=2), live=(0,), opset=7),
        case("Gemm", flat, matrix.T.copy(), normal(BATCH, 2, seed=2), live=(0, 2), transB=1, alpha=0.5, beta=2.0),
        case("Gemm", flat.T.copy(), matrix, live=(0,), transA=1, batch=False),
        case("Gemm", matrix, normal(4, 5, seed=2), live=(1,), transA=1, transB=1, batch=False),
        case("Gemm", flat, normal(2, 5, seed=2), normal(2, seed=3), transB=1, alpha=0.5, beta=2.0, batch=False),
        case("Gemm", normal(5, 3), normal(5, 2, seed=2), None, transA=1, batch=False),
        case("Einsum", x, matrix, live=(0,), equation="bik,kj->bij", opset=12),
        case("Einsum", matrix, x, live=(1,), equation="kj,b...k->b...j"),
        case("Einsum", x, live=(0,), equation="bij->bj"),
        case("Einsum", x, live=(0,), equation="bij->jbi", batch=False),
        case("Einsum", x, normal(6, seed=2), live=(0,), equation="bij,k->bi"),
        case("Einsum", x, batched, equation="bik,bkj->bij"),
        case("Einsum", heads, keys, equation="bhtd,bhds->bhts"),
        case("Einsum", flat, matrix, live=(0,), equation="ij,jk"),
        case("Einsum", flat, wide, equation="bi,bj->bij"),
        case("Einsum", flat, wide, equation="bi,bj->bj"),
        case("Einsum", x, x + 1, equation="bij,bij->b"),
        case("Einsum", x, flat, equation="bij,bj->bi"),
        case("Einsum", x, matrix, normal(2, 3, seed=4), live=(0,), equation="...ij,jk,kl->...il"),
        case("Einsum", x, batched, normal(2, 3, seed=4), equation="bij,bjk,kl", batch=False),
        case("Einsum", x, x + 1, normal(BATCH, 4, 5, seed=4), live=(0, 1, 2), equation="bij,bij,bij->bj"),
    ]


TURNED = {"transBatchA": 1, "transBatchB": 1, "transB": 0}


def spectra() -> list[Case]:
    signal, window, step = normal(BATCH, 20), np.hanning(8).astype(np.float32), np.int64(3)
    return [
        Case("STFT", [signal, step, window]),
        Case("STFT", [signal, step, window, np.int64(8)], {"onesided": 0}),
        Case("STFT", [signal[..., None], step, None, np.int64(8)]),
    ]


def fused() -> list[Case]:
    """What ONNX Runtime fuses, and pools by norm."""
    flat, x, W = normal(BATCH, 5), normal(BATCH, 4, 5), normal(5, 2, seed=1)
    gamma, beta, bias = normal(5, seed=2), normal(5, seed=3), normal(5, seed=4)
    ours: dict[str, Any] = {"domain": "com.microsoft"}
    row, lp = normal(1, 4, 5, seed=5), (smooth(BATCH, 2, 9), smooth(BATCH, 2, 5, 6))
    return [
        Case("FusedMatMul", [x, W], {"alpha": 0.5}, **ours),
        Case("FusedMatMul", [x, W.T.copy()], {"transB": 1, "alpha": 2.0}, **ours),
        Case("FusedMatMul", [x, normal(BATCH, 4, 5, seed=6)], {"transA": 1}, live=(0, 1), **ours),
        Case("FusedMatMul", [normal(4, BATCH, 5), normal(5, BATCH, 2)], TURNED, live=(0, 1), batch=False, **ours),
        Case("FusedGemm", [flat, W, normal(2)], {"activation": "Tanh"}, **ours),
        Case("FusedGemm", [flat, W, normal(2)], {"activation": "LeakyRelu", "activation_alpha": 0.3}, **ours),
        Case("FusedGemm", [flat, W.T.copy()], {"activation": "Relu", "transB": 1, "alpha": 0.5}, **ours),
        Case("SkipLayerNormalization", [x, x[::-1].copy(), gamma, beta], live=(0, 1), closed=False, **ours),
        Case("SkipLayerNormalization", [x, row, gamma, beta, bias], {"epsilon": 1e-3}, closed=False, **ours),
        Case("SkipSimplifiedLayerNormalization", [x, x[::-1].copy(), gamma], live=(0, 1), closed=False, **ours),
        Case("LpPool", [lp[0]], {"kernel_shape": [3], "p": 1}, step=1e-3),
        Case("LpPool", [lp[0]], {"kernel_shape": [3], "p": 3, "strides": [2], "pads": [1, 1]}, step=1e-3),
        Case("LpPool", [lp[1]], {"kernel_shape": [2, 3], "pads": [0, 1, 1, 1]}, step=1e-3),
        Case("LpPool", [lp[1]], {"kernel_shape": [2, 2], "dilations": [2, 1]}, 22, step=1e-3),
        Case("GlobalLpPool", [lp[1]], {"p": 3}, step=1e-3),
        Case("GlobalLpPool", [lp[0]], step=1e-3),
    ]


def resizing() -> list[Case]:
    """Every place of coordinates, filter and size that ONNX Runtime knows, growing and shrinking."""
    line, plane = normal(BATCH, 2, 1, 7), normal(BATCH, 2, 5, 4)
    sizes, scales = ints(1, 11), np.float32([1, 1, 1, 0.62])
    grown = np.float32([1, 1, 2.3, 1.5])
    where = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")

    def case(x: AnyArray, mode: str, scales: Any = None, sizes: Any = None, opset: int = 19, **more: Any) -> Case:
        if "coordinate" in more:
            more["coordinate_transformation_mode"] = more.pop("coordinate")
        roi, batch = more.pop("roi", None), more.pop("batch", True)
        more |= {} if sizes is None else {"axes": [2, 3]}
        return Case("Resize", [x, roi, scales, sizes], {"mode": mode, **more}, opset, batch=batch)

    cases = [
        case(x, mode, scale, size, coordinate=at)
        for at in where
        for mode in ("nearest", "linear", "cubic")
        for x, scale, size in ((line, None, sizes), (line, scales, None), (plane, grown, None))
    ]
    cases += [case(plane, "nearest", grown, nearest_mode=m) for m in ("round_prefer_ceil", "floor", "ceil")]
    cases += [
        case(
            line,
            "nearest",
            scales,
            coordinate="tf_half_pixel_for_nn",
            nearest_mode="floor",
            roi=np.float32([]),
            opset=11,
        )
    ]
    cases += [case(line, m, scales, opset=13) for m in ("nearest", "linear", "cubic")]
    cases += [case(line, "cubic", scales, exclude_outside=1, cubic_coeff_a=-0.5)]
    cases += [case(plane, m, np.float32([1, 1, 0.4, 1]), antialias=1, exclude_outside=e) for m, e in ANTIALIASED]
    cases += [case(plane, "linear", None, ints(3, 7), keep_aspect_ratio_policy="not_larger", opset=18)]
    cases += [case(plane, "nearest", None, ints(3, 7), keep_aspect_ratio_policy="not_smaller")]
    cases += [
        case(
            plane, mode, np.float32([1, 1, 2, 1.5]), roi=np.float32([0, 0, 0.2, -0.25, 1, 1, 0.9, 1.2]),
            coordinate="tf_crop_and_resize", extrapolation_value=0.7,
        )
        for mode in ("nearest", "linear")
    ]  # fmt: skip
    cases += [case(normal(4, 5), "linear", np.float32([2, 1.4]), batch=False)]
    cases += [
        Case("Resize", [line if s is scales else plane, s], {"mode": m}, 10)
        for m in ("nearest", "linear")
        for s in (grown, scales)
    ]
    cases += [Case("Upsample", [plane, np.float32([1, 1, 2, 3])], {"mode": m}, 9) for m in ("nearest", "linear")]
    cases += [Case("Upsample", [plane], {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 1.5]}, 7)]
    return cases


ANTIALIASED = [("linear", 1), ("cubic", 1), ("linear", 0), ("cubic", 0)]

FAMILIES = (
    fused,
    spectra,
    resizing,
    convolutions,
    transposed_convolutions,
    pools,
    normalisations,
    products,
    reductions,
    indexing,
    routing,
    functions,
    sums_and_quotients,
)
CASES = [case for family in FAMILIES for case in family()]
RULES: tuple[lx.ProductRule, ...] = ("all", "half", "prop", "abs")


# --- what holds for each ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_equals_central_differences(case: Case) -> None:
    feeds = case.feeds()
    model = lx.load(case.model())
    came = model.explain(feeds, lx.Gradient(), target_of(case, outputs_of(case, feeds)))
    wanted = differences(case, feeds, full_weights(case, outputs_of(case, feeds)))
    for name, gradient in wanted.items():
        scale = max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(came.relevance[name], gradient, atol=case.tolerance * scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ledger_closes(case: Case) -> None:
    feeds = case.feeds()
    model, target = lx.load(case.model()), target_of(case, outputs_of(case, feeds))
    for rule in RULES:
        for factor in (0.0, 1.0):
            e = model.explain(feeds, lx.LRP(rule, bias_factor=factor), target)
            moved = sum(np.abs(e.relevance[name]).sum() for name in feeds)
            scale = np.abs(e.explained).max() + moved + np.abs(e.ledger.absorbed).max()
            np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-5 * scale)
            if factor == 1 and case.closed:
                np.testing.assert_allclose(e.ledger.absorbed, 0, atol=1e-5 * scale)


@pytest.mark.parametrize("case", [c for c in CASES if c.batch], ids=str)
def test_batch_equals_sample_by_sample(case: Case) -> None:
    feeds = case.feeds()
    model, target = lx.load(case.model()), target_of(case, outputs_of(case, feeds))
    count = len(next(iter(feeds.values())))
    for method in (lx.LRP("half"), lx.LRP("all", bias_factor=1.0), lx.Gradient()):
        together = model.explain(feeds, method, target)
        for b in range(count):
            alone = model.explain({name: x[b : b + 1] for name, x in feeds.items()}, method, target)
            for name in feeds:
                scale = max(1.0, np.abs(alone.relevance[name]).max())
                np.testing.assert_allclose(together.relevance[name][b], alone.relevance[name][0], atol=1e-5 * scale)
            np.testing.assert_allclose(together.ledger.absorbed[b], alone.ledger.absorbed[0], atol=1e-4)


def test_every_operator_of_the_table_has_a_case() -> None:
    tested = {f"{c.domain}::{c.op}" if c.domain else c.op for c in CASES}
    alone = {"DequantizeLinear", "BitShift"}  # their inputs are integers: tests of their own, below
    elsewhere = {
        name
        for name, op in TABLE.ops.items()
        if op.kind in (Kind.NONE, Kind.RECURRENT, Kind.CONTROL)  # nothing passes; whole-model tests
    }
    assert set(TABLE.ops) - elsewhere - alone <= tested
    assert tested - set(TABLE.ops) <= set(SPELLINGS)


def test_the_page_of_operators_is_current() -> None:
    script = Path(__file__).parent.parent / "scripts" / "operators_doc.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0, "run python scripts/operators_doc.py"


# --- beside independent formulas -------------------------------------------------------------------------------------


def stab(z: float, epsilon: float = 1e-3) -> float:
    return z + (epsilon if z >= 0 else -epsilon)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_conv_equals_the_textbook(factor: float) -> None:
    """Explicit loops over outputs and the units that feed each (padding is none)."""
    x, W, b = normal(2, 4, 6, 5), normal(6, 2, 3, 2, seed=1), normal(6, seed=2)
    strides, dilations, before, behind, groups = (2, 1), (1, 2), (1, 2), (0, 1), 2
    case = Case(
        "Conv",
        [x, W, b],
        {"strides": strides, "dilations": dilations, "pads": [*before, *behind], "group": groups},
    )
    y = outputs_of(case, case.feeds())
    target = target_of(case, y)
    assert target.weights is not None
    came = lx.load(case.model()).explain(case.feeds(), lx.LRP(bias_factor=factor), target)
    wanted, absorbed = np.zeros(x.shape), np.zeros(2)
    for n, m, i, j in np.ndindex(*y.shape):
        units = []
        for c, p, q in np.ndindex(*W.shape[1:]):
            row = i * strides[0] + p * dilations[0] - before[0]
            column = j * strides[1] + q * dilations[1] - before[1]
            if 0 <= row < 6 and 0 <= column < 5:
                units.append(((n, m // 3 * 2 + c, row, column), W[m, c, p, q]))
        z = float(y[n, m, i, j])
        density = target.weights[m, i, j] * z / stab(z)
        kept = (b[m] + stab(z) - z) * density
        for place, weight in units:
            wanted[place] += x[place] * weight * density + factor * kept / len(units)
        absorbed[n] += (1 - factor) * kept
    np.testing.assert_allclose(came.relevance["x0"], wanted, atol=1e-4 * np.abs(wanted).max())
    np.testing.assert_allclose(came.ledger.absorbed, absorbed, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("spelled", ["MatMul", "Einsum"])
def test_attention_equals_the_textbook(rule: lx.ProductRule, factor: float, spelled: str) -> None:
    """Weights [T, K] from a Softmax times values [K, D]: the epsilon rule over terms, the product rule on each."""
    scores, values = normal(4, 5), normal(5, 3, seed=1)
    attributes = {"equation": "tk,kd->td"} if spelled == "Einsum" else {}
    nodes = [
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node(spelled, ["weights", "values"], ["y"], name="mix", **attributes),
    ]
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("scores", [4, 5]), ("values", [5, 3]), ("y", [4, 3]))
    ]
    graph = helper.make_graph(nodes, "attention", info[:2], info[2:])
    model = lx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    weights = rng(7).uniform(0.5, 1.5, (4, 3)).astype(np.float32)
    target = lx.Target(weights=weights, batch_axis=None)
    e = model.explain({"scores": scores, "values": values}, lx.LRP(rule, bias_factor=factor), target)
    a = np.exp(scores.astype(np.float64))
    a /= a.sum(axis=1, keepdims=True)
    y = a @ values
    R_a, R_s, absorbed = np.zeros(a.shape), np.zeros(values.shape), 0.0
    for t, d in np.ndindex(*y.shape):
        R = weights[t, d] * y[t, d]
        kept = (stab(y[t, d]) - y[t, d]) * R / stab(y[t, d])
        absorbed += (1 - factor) * kept
        for k in range(5):
            gate, signal = a[t, k], float(values[k, d])
            r = gate * signal * R / stab(y[t, d]) + factor * kept / 5
            to_gate, to_signal, lost = by_rule(rule, r, gate, signal, factor)
            R_a[t, k] += to_gate
            R_s[k, d] += to_signal
            absorbed += lost
    scale = np.abs(R_s).max()
    np.testing.assert_allclose(e.relevance["scores"], R_a, atol=1e-4 * scale)
    np.testing.assert_allclose(e.relevance["values"], R_s, atol=1e-4 * scale)
    np.testing.assert_allclose(e.ledger.absorbed, [absorbed], atol=1e-4 * scale)


def by_rule(rule: str, r: float, gate: float, signal: float, factor: float) -> tuple[float, float, float]:
    """What gate, signal and stabiliser get of one product's relevance."""
    if rule in ("all", "half"):
        share = 0.0 if rule == "all" else 0.5
        return share * r, (1 - share) * r, 0.0
    a, s = (abs(gate), abs(signal)) if rule == "abs" else (gate, signal)
    density = r / stab(a + s)
    kept = (stab(a + s) - a - s) * density
    return a * density + factor * kept / 2, s * density + factor * kept / 2, (1 - factor) * kept


# --- other arithmetic ------------------------------------------------------------------------------------------------


def single(nodes: Sequence[onnx.NodeProto], x: AnyArray, constants: dict[str, AnyArray], opset: int = 17) -> lx.Model:
    """x [N, ...] -> nodes -> y."""
    element = ELEMENT[x.dtype]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", element, ["N", *x.shape[1:]])],
        [helper.make_tensor_value_info("y", element if element != TensorProto.INT64 else TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.graph.output[0].type.CopyFrom(onnx.shape_inference.infer_shapes(model).graph.output[0].type)
    return lx.load(model)


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_values_pass_relevance_and_gradients(per_channel: bool) -> None:
    """A pair of QuantizeLinear and DequantizeLinear stands for the value that it rounds."""
    x = smooth(BATCH, 4)
    scale = np.full(4, 0.02, np.float32) if per_channel else np.float32(0.02)
    zero = np.zeros(4, np.int8) if per_channel else np.int8(3)
    W, b = normal(4, 2, seed=1), normal(2, seed=2)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], axis=1),
        helper.make_node("Gemm", ["d", "W", "b"], ["y"]),
    ]
    model = single(nodes, x, {"scale": np.asarray(scale), "zero": np.asarray(zero), "W": W, "b": b})
    rounded = np.round(x / 0.02) * 0.02
    target = lx.Target(index=0)
    np.testing.assert_allclose(
        model.explain({"x": x}, lx.Gradient(), target).relevance["x"], [W[:, 0]] * BATCH, rtol=1e-5
    )
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), target)
    z = rounded @ W[:, 0] + b[0]
    np.testing.assert_allclose(e.relevance["x"], rounded * W[:, 0] * (z / z)[:, None], atol=1e-5)


def dynamic(integer_product: str) -> list[onnx.NodeProto]:
    """What onnxruntime.quantization.quantize_dynamic makes of x W + b (or of a convolution)."""
    return [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"]),
        helper.make_node(integer_product, ["q", "W", "q_zero", "W_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["q_scale", "W_scale"], ["scales"]),
        helper.make_node("Mul", ["floats", "scales"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]


def levels(x: AnyArray, scale: AnyArray, zero: AnyArray) -> AnyArray:
    """What a quantised tensor stands for."""
    info = np.iinfo(zero.dtype)
    rounded = np.clip(np.round(x / scale) + zero.astype(np.float64), info.min, info.max)
    return np.asarray((rounded - zero.astype(np.float64)) * scale)


def dynamic_levels(x: AnyArray) -> AnyArray:
    """ONNX's definition of DynamicQuantizeLinear, and back."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    return levels(x, scale, np.uint8(np.round(np.clip(-low / scale, 0, 255))))


@pytest.mark.parametrize("opset", [11, 13, 21])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamically_quantised_products_are_explained_as_the_products_that_they_stand_for(
    per_channel: bool, opset: int
) -> None:
    x, b = smooth(BATCH, 4), normal(2, seed=2)
    integers = rng(1).integers(-100, 100, (4, 2)).astype(np.int8)
    scale = np.array([0.02, 0.01], np.float32) if per_channel else np.float32(0.02)
    zero = np.array([3, -2], np.int8) if per_channel else np.int8(3)
    constants = {"W": integers, "W_zero": np.asarray(zero), "W_scale": np.asarray(scale), "b": b}
    model = single(dynamic("MatMulInteger"), x, constants, opset)
    W = (integers.astype(np.float64) - zero) * scale
    gradient = model.explain({"x": x}, lx.Gradient(), lx.Target(index=1)).relevance["x"]
    np.testing.assert_allclose(gradient, [W[:, 1]] * BATCH, rtol=1e-5)
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=1))
    np.testing.assert_allclose(e.explained, dynamic_levels(x) @ W[:, 1] + b[1], rtol=1e-5)
    np.testing.assert_allclose(e.relevance["x"], dynamic_levels(x) * W[:, 1], atol=1e-5)
    np.testing.assert_allclose(e.ledger.absorbed, b[1], rtol=1e-4)
    assert model.explain({"x": x}, lx.Occlusion(), lx.Target(index=1)).relevance["x"].shape == x.shape


@pytest.mark.parametrize("opset", [11, 13])
def test_a_dynamically_quantised_convolution(opset: int) -> None:
    x, b = smooth(BATCH, 2, 6), normal(1)
    integers = rng(1).integers(-100, 100, (3, 2, 3)).astype(np.int8)
    constants = {"W": integers, "W_zero": np.asarray(np.int8(0)), "W_scale": np.asarray(np.float32(0.02)), "b": b}
    nodes = dynamic("ConvInteger")
    nodes[1].attribute.extend([helper.make_attribute("pads", [1, 1]), helper.make_attribute("strides", [2])])
    model = single(nodes, x, constants, opset)
    W = integers * 0.02
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=(1, 1)))  # its window starts at position 1
    wanted = np.zeros(x.shape)
    wanted[:, :, 1:4] = dynamic_levels(x)[:, :, 1:4] * W[1]
    np.testing.assert_allclose(e.relevance["x"], wanted, atol=1e-5)
    np.testing.assert_allclose(e.explained, wanted.sum(axis=(1, 2)) + b[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["QLinearMatMul", "QLinearConv"])
def test_statically_quantised_products(op: str) -> None:
    """Levels in, levels out; the bias of the convolution is counted in both scales."""
    x = smooth(BATCH, 4)
    integers, bias = rng(1).integers(-100, 100, (4, 2)).astype(np.int8), np.array([120, -340], np.int32)
    sx, sw, sy = np.float32(0.02), np.float32(0.01), np.float32(0.05)
    constants: dict[str, AnyArray] = {
        **{name: np.asarray(v) for name, v in (("sx", sx), ("sw", sw), ("sy", sy))},
        **{name: np.asarray(v) for name, v in (("zx", np.uint8(110)), ("zw", np.int8(0)), ("zy", np.uint8(120)))},
        "W": integers,
        "bias": bias,
        "axes": ints(2),
    }
    nodes = [helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["q"])]
    if op == "QLinearConv":
        constants["W"] = integers.T[..., None].copy()  # one position: the same product
        nodes += [
            helper.make_node("Unsqueeze", ["q", "axes"], ["one"]),
            helper.make_node(op, ["one", "sx", "zx", "W", "sw", "zw", "sy", "zy", "bias"], ["out"]),
            helper.make_node("Squeeze", ["out", "axes"], ["r"]),
        ]
    else:
        nodes.append(helper.make_node(op, ["q", "sx", "zx", "W", "sw", "zw", "sy", "zy"], ["r"]))
    nodes.append(helper.make_node("DequantizeLinear", ["r", "sy", "zy"], ["y"]))
    model = single(nodes, x, constants, 13)
    W = integers.astype(np.float64) * sw
    read = levels(x, sx, np.uint8(110))
    z = read @ W[:, 0] + (bias[0] * sx * sw if op == "QLinearConv" else 0)
    y = levels(z, sy, np.uint8(120))
    e = model.explain({"x": x}, lx.LRP(epsilon=0.0), lx.Target(index=0))
    np.testing.assert_allclose(e.explained, y, rtol=1e-5)
    np.testing.assert_allclose(e.relevance["x"], read * W[:, 0] * (y / z)[:, None], atol=1e-5)
    gradient = model.explain({"x": x}, lx.Gradient(), lx.Target(index=0)).relevance["x"]
    np.testing.assert_allclose(gradient, [W[:, 0]] * BATCH, rtol=1e-5)


def test_arithmetic_on_token_ids_hands_the_relevance_on() -> None:
    tokens = rng().integers(0, 4, (BATCH, 5))
    nodes = [
        helper.make_node("Add", ["x", "one"], ["moved"]),
        helper.make_node("Mod", ["moved", "seven"], ["wrapped"]),
        helper.make_node("Cast", ["wrapped"], ["unsigned"], to=TensorProto.UINT64),
        helper.make_node("BitShift", ["unsigned", "once"], ["shifted"], direction="RIGHT"),
        helper.make_node("Cast", ["shifted"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "axes"], ["y"], keepdims=0),
    ]
    table = normal(4, 3)
    constants = {"one": ints(1), "seven": ints(7), "once": np.array([1], np.uint64), "table": table, "axes": ints(1)}
    e = single(nodes, tokens, constants).explain({"x": tokens}, lx.LRP(epsilon=0.0), lx.Target(index=2))
    np.testing.assert_allclose(e.relevance["x"], table[(tokens + 1) % 7 // 2][..., 2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(
    "op", ["MatMul", "Add", "Mul", "Div", "ReduceSum", "ReduceL2", "Relu", "MaxPool", "Where", "Clip"]
)
def test_half_and_double(op: str, dtype: type) -> None:
    """The same case in another arithmetic."""
    chosen = next(c for c in CASES if c.op == op and c.batch)

    def converted(a: Any) -> Any:
        return a if a is None or np.asarray(a).dtype != np.float32 else np.asarray(a).astype(dtype)

    case = dataclasses.replace(chosen, inputs=[converted(a) for a in chosen.inputs])
    try:
        y = outputs_of(case, case.feeds())
    except Exception:
        pytest.skip("ONNX Runtime has no kernel")
    for method in (lx.LRP("half"), lx.LRP("prop", bias_factor=1.0), lx.Gradient()):
        came = lx.load(case.model()).explain(case.feeds(), method, target_of(case, y))
        wanted = lx.load(chosen.model()).explain(chosen.feeds(), method, target_of(chosen, y))
        for name in chosen.feeds():
            scale = np.abs(wanted.relevance[name]).max()
            tolerance = 0.05 if dtype == np.float16 else 1e-4
            np.testing.assert_allclose(came.relevance[name], wanted.relevance[name], atol=tolerance * scale)


# --- refused ---------------------------------------------------------------------------------------------------------

x345, x34 = normal(BATCH, 4, 5), normal(BATCH, 4)
REFUSED = [
    Case("Conv", [x345, normal(6, 4, 3)], live=(0, 1), batch=False),
    Case("PRelu", [x345, x345 + 1], live=(0, 1)),
    Case("Clip", [x345, np.float32(-1), np.float32(1)], live=(0, 2), batch=False),
    Case("ScatterElements", [x34, ints(1, 0, 2).reshape(3, 1), x34[:, :1]], {"axis": 1, "reduction": "mul"}, 18),
    Case("Einsum", [normal(3, 3)], {"equation": "ii->i"}, batch=False),
    Case("ReduceL2", [x34], {"noop_with_empty_axes": 1}, 18),
    Case("Det", [normal(BATCH, 4, 4)]),
    Case("Dropout", [x345, np.float32(0.0), np.bool_(True)], opset=13),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_has_no_rule_is_refused(case: Case) -> None:
    model, target = lx.load(case.model()), target_of(case, outputs_of(case, case.feeds()))
    assert not model.report().supported
    for method in (lx.LRP(), lx.Gradient()):
        with pytest.raises(lx.UnsupportedOperator) as error:
            model.explain(case.feeds(), method, target)
        assert error.value.node == "node"
        assert error.value.op == case.op
