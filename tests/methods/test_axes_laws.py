# SPDX-License-Identifier: Apache-2.0
"""The same network gives the same axes, whatever the layout of its inputs and the form of its loop over time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.operators import TABLE, Kind
from lstm_explain.operators.axis_rules import aligned, first
from lstm_explain.program.axis_tracing import MOST_ORIGINS, trace
from tests import cases
from tests.graph_builder import GraphBuilder
from tests.operators import CASES
from tests.operators.case import Case, normal

FEATURES, UNITS, STEPS = 4, 3, 5
BATCH_FIRST, TIME_FIRST = lx.Axes(0, 1), lx.Axes(1, 0)

# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in CASES if c.op in TABLE.ops], ids=str)
def test_axes_follow_the_changes_of_outputs(case: Case) -> None:
    """Another number at one position of an input's axis changes one position of the matching axis of the output."""
    model = lx.load(case.model())
    label = trace(model.runner.engine.graph).labels.get("y", ())
    feeds = case.feeds()
    session = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    for name, x in feeds.items():
        for axis in range(x.ndim):
            if x.dtype.kind != "f" or x.shape[axis] < 2:
                continue
            shown = {b for b in range(len(label)) if follows(session, feeds, name, axis, b)}
            reported = {b for b, origins in enumerate(label) if (name, axis) in origins}
            if shown:
                assert reported <= shown, f"{name}: axis {axis} goes to {shown}"
                assert reported or case.op in VIEWS or len(shown) > 1, f"{name}: axis {axis} goes to {shown}"


@pytest.mark.parametrize(
    ("case", "transformed"),
    [
        (Case("DFT", [normal(3, 6, 4, 1)]), 1),
        (Case("DFT", [normal(3, 6, 4, 1)], {"axis": 2}), 2),
        (Case("DFT", [normal(3, 6, 4, 1)], opset=20), 2),
        (Case("DFT", [normal(3, 6, 4, 1), None, np.int64(1)], opset=20), 1),
    ],
    ids=str,
)
def test_frequencies_are_not_time_steps(case: Case, transformed: int) -> None:
    label = trace(lx.load(case.model()).runner.engine.graph).labels["y"]
    assert label == tuple(frozenset({("x0", a)} if a not in (transformed, 3) else ()) for a in range(4))


VIEWS = {"Reshape", "Flatten", "ScatterND", "GatherND"}  # which places stay together depends on more than extents


def follows(session: Any, feeds: dict[str, Any], name: str, axis: int, other: int) -> bool:
    """Whether each position on the output's axis `other` changes with exactly one position of the input."""
    before = session.run(["y"], feeds)[0]
    if other >= before.ndim or before.shape[other] != feeds[name].shape[axis]:
        return False
    for place in range(before.shape[other]):
        moved = feeds[name].copy()
        at = (slice(None),) * axis + (place,)
        moved[at] = moved[at][..., ::-1] * np.float32(0.83) + np.float32(0.07) if moved[at].ndim else moved[at] * 0.83
        changed = session.run(["y"], {**feeds, name: moved})[0] != before
        places = np.flatnonzero(np.moveaxis(changed, other, 0).reshape(len(changed.swapaxes(0, other)), -1).any(axis=1))
        if places.tolist() not in ([], [place]):
            return False
    return bool(changed.any())


# --- every operator that keeps its axes, in front of a network ------------------------------------------------------

KEPT = sorted(n for n, op in TABLE.ops.items() if op.axes in (aligned, first) and op.kind is not Kind.CONTROL)
# What needs operands of its own, or does more than work element by element; the test above knows them.
ELSEWHERE = {
    "AveragePool", "CumSum", "LRN", "MaxPool", "MaxUnpool", "Pad", "Resize", "ReverseSequence", "Slice", "Split",
    "Tile", "TopK", "Trilu", "Upsample", "BatchNormalization", "Swish", "Mish", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Concat", "CastLike", "Gelu", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
    "Hardmax",
}  # fmt: skip


@pytest.mark.parametrize("op", [op for op in KEPT if op not in ELSEWHERE])
def test_an_operator_in_front_changes_no_axes(op: str) -> None:
    for batch_first, expected in ((True, BATCH_FIRST), (False, TIME_FIRST)):
        assert lx.load(in_front(op, batch_first)).axes == {"x": expected}
        assert lx.load(in_front(op, batch_first)).axes["x"].certain


def in_front(op: str, batch_first: bool) -> onnx.ModelProto:
    """`op` between the input and an LSTM, with operands and types that ONNX Runtime accepts."""
    domain, _, name = op.rpartition("::")
    for element, extra in itertools.product((TensorProto.FLOAT, TensorProto.BOOL, TensorProto.UINT8), range(3)):
        try:
            proto = network(domain, name, element, extra, batch_first)
            onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:  # its own types are not public
            continue
        return proto
    raise AssertionError(f"{op}: no way to call it")


def network(domain: str, name: str, element: int, extra: int, batch_first: bool) -> onnx.ModelProto:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "T", FEATURES] if batch_first else ["T", "B", FEATURES])
    seen = x if element == TensorProto.FLOAT else g.op("Cast", [x], to=element)
    scalar = np.array(1, helper.tensor_dtype_to_np_dtype(element))
    operands = [g.constant(scalar, f"one{k}") for k in range(extra)]
    inputs = [g.constant(np.array(True), "yes"), seen, seen] if name == "Where" else [seen, *operands]
    count = 3 if name == "DynamicQuantizeLinear" else 1
    attributes: dict[str, Any] = {"to": TensorProto.FLOAT} if name == "Cast" else {}
    attributes |= {"direction": "LEFT"} if name == "BitShift" else {}
    if name == "DequantizeLinear":
        inputs = [g.op("Cast", [x], to=TensorProto.UINT8), g.constant(np.array(0.5), "scale")]
    made = g.ops(name, inputs, count, "front", domain=domain, **attributes)[0]
    last = recur(g, g.op("Cast", [made], to=TensorProto.FLOAT), batch_first)
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["B", UNITS])
    graph = helper.make_graph(g.nodes, "front", g.inputs, [y], list(g.initializers.values()))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def recur(g: GraphBuilder, x: str, batch_first: bool) -> str:
    rng = np.random.default_rng(1)
    steps = g.op("Transpose", [x], perm=[1, 0, 2]) if batch_first else x
    weights = [g.constant(rng.normal(size=(1, 4 * UNITS, n)), f"w{n}") for n in (FEATURES, UNITS)]
    return g.squeeze(g.ops("LSTM", [steps, *weights], 2, "lstm", hidden_size=UNITS)[1], 0)


# --- loops over time that are written out ---------------------------------------------------------------------------


def read(g: GraphBuilder, how: str, x: str, axis: int) -> list[str]:
    """The steps of x, [B, FEATURES] each."""
    if how == "split":
        parts = g.split(x, STEPS, 1, axis)
        return [g.squeeze(part, axis) for part in parts]
    if how == "slice":
        ends = [(t, t + 1) for t in range(STEPS)]
        return [g.squeeze(g.op("Slice", [x, g.ints(a), g.ints(b), g.ints(axis)]), axis) for a, b in ends]
    return [g.op("Gather", [x, g.constant(np.array(t), f"place{t}")], axis=axis) for t in range(STEPS)]


@pytest.mark.parametrize("front", ["", "Sin", "Atan"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("how", ["gather", "slice", "split"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_unrolled_cell(batch_first: bool, how: str, backwards: bool, front: str) -> None:
    rng = np.random.default_rng(2)
    g = GraphBuilder(np.float32, 17)
    shape = ["B", STEPS, FEATURES] if batch_first else [STEPS, "B", FEATURES]
    x = g.input("x", shape)
    x = g.op(front, [x]) if front else x
    w, r = (g.constant(rng.normal(size=(n, UNITS)), f"w{n}") for n in (FEATURES, UNITS))
    h = ""
    for step in read(g, how, x, 1 if batch_first else 0)[:: -1 if backwards else 1]:
        z = g.op("MatMul", [step, w])
        h = g.op("Tanh", [g.op("Add", [z, g.op("MatMul", [h, r])]) if h else z])
    model = lx.load(g.model(h, ["B", UNITS]))
    assert model.axes == {"x": BATCH_FIRST if batch_first else TIME_FIRST}
    assert model.axes["x"].certain


def loop(batch_first: bool, op: str, *, counted: bool = False) -> onnx.ModelProto:
    """h = tanh(x_t W + h R) in the body of a Loop that reads x at the iteration's number, or at a count of its own."""
    rng = np.random.default_rng(3)
    axis = 1 if batch_first else 0
    weights = [
        numpy_helper.from_array(rng.normal(size=(n, UNITS)).astype(np.float32), f"w{n}") for n in (FEATURES, UNITS)
    ]
    node, info = helper.make_node, helper.make_tensor_value_info
    place = "count" if counted else "i"
    reading = [node("Gather", ["sequence", place], ["x_t"], axis=axis)]
    if op == "Slice":
        reading = [
            node("Reshape", [place, "one"], ["start"]),
            node("Add", ["start", "one"], ["end"]),
            node("Slice", ["sequence", "start", "end", "axis"], ["x_1"]),
            node("Squeeze", ["x_1", "axis"], ["x_t"]),
        ]
    cell = [
        node("MatMul", ["x_t", f"w{FEATURES}"], ["a"]),
        node("MatMul", ["h", f"w{UNITS}"], ["b"]),
        node("Add", ["a", "b"], ["z"]),
        node("Tanh", ["z"], ["h_new"]),
        node("Add", ["count", "step"], ["count_new"]),
        node("Identity", ["go"], ["go_on"]),
    ]
    body = helper.make_graph(
        [*reading, *cell],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("h", TensorProto.FLOAT, ["B", UNITS]),
            info("count", TensorProto.INT64, []),
        ],
        [
            info("go_on", TensorProto.BOOL, []),
            info("h_new", TensorProto.FLOAT, ["B", UNITS]),
            info("count_new", TensorProto.INT64, []),
        ],
    )
    constants = {
        "one": [1],
        "axis": [axis],
        "step": 1,
        "zero": 0,
        "yes": True,
        "batch_axis": [1 - axis],
        "units": [UNITS],
    }
    before = [
        node("Sin", ["x"], ["sequence"]),
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "axis"], ["steps"]),
        node("Gather", ["shape", "batch_axis"], ["batch"]),
        node("Concat", ["batch", "units"], ["state"], axis=0),
        node("ConstantOfShape", ["state"], ["h_0"]),
        node("Loop", ["steps", "yes", "h_0", "zero"], ["y", "counted"], body=body, name="loop"),
    ]
    graph = helper.make_graph(
        before,
        "loop",
        [info("x", TensorProto.FLOAT, ["B", "T", FEATURES] if batch_first else ["T", "B", FEATURES])],
        [info("y", TensorProto.FLOAT, ["B", UNITS])],
        [*weights, *(numpy_helper.from_array(np.array(value), name) for name, value in constants.items())],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("op", ["Gather", "Slice"])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_loop_that_reads_at_its_count(batch_first: bool, counted: bool, op: str) -> None:
    model = lx.load(loop(batch_first, op, counted=counted))
    assert model.axes == {"x": BATCH_FIRST if batch_first else TIME_FIRST}
    assert model.axes["x"].certain
    feeds = {"x": np.random.default_rng(4).normal(size=(2, 6, 4) if batch_first else (6, 2, 4)).astype(np.float32)}
    assert not any("guess" in w for w in model.explain(feeds, lx.Occlusion(), lx.Target(index=0)).warnings)


@pytest.mark.parametrize("name", [n for n in cases.names() if n.startswith("lstmp")])
def test_the_lstm_with_projection_of_a_public_recipe(name: str) -> None:
    case = cases.load(name)
    assert case.model.axes == {"x": TIME_FIRST}
    steps = case.model.explain(case.inputs, lx.Occlusion(), lx.Target(index=0)).relevance["x"]
    assert (np.ptp(steps, axis=2) == 0).all()  # a step's fall in equal parts to its features
    assert (np.ptp(steps, axis=0) > 0).all()


# --- certainty -------------------------------------------------------------------------------------------------------


def pooled() -> onnx.ModelProto:
    """Two axes are averaged away, and nothing says which of them is time."""
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", "one", "other", FEATURES])
    mean = g.with_axes("ReduceMean", g.op("Tanh", [x]), [1, 2], 18, keepdims=0)
    return g.model(g.op("MatMul", [mean, g.constant(np.eye(FEATURES), "w")]), ["B", FEATURES])


def guesses(warnings: Iterable[str]) -> list[str]:
    return [warning for warning in warnings if warning.startswith("axes are a guess: of input 'x'")]


METHODS = [
    lx.LRP(),
    lx.Gradient(),
    lx.GradientTimesInput(),
    lx.IntegratedGradients(steps=5),
    lx.SmoothGrad(samples=2),
    lx.Occlusion(),
    lx.ShapleySampling(permutations=1),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_guessed_axes_cause_warnings_until_they_are_set(method: lx.Method) -> None:
    """One sample is explained three times, because a specialised program answers the third time; then a batch."""
    feeds = {"x": np.random.default_rng(5).normal(size=(2, 3, 3, FEATURES)).astype(np.float32)}
    model, target = lx.load(pooled()), lx.Target(index=0)

    def warned() -> list[int]:
        requested = [{"x": feeds["x"][:1]}] * 4 + [feeds]
        answers = [model.explain(inputs, method, target) for inputs in requested]
        answers += model.explain_many(feeds, method, [target, lx.Target(index=1)])
        return [len(guesses(answer.warnings)) for answer in answers]

    assert not model.axes["x"].certain
    assert len(guesses(model.report().warnings)) == 1
    assert warned() == [1] * 7
    model.axes["x"] = lx.Axes(0, 2)
    assert warned() == [0] * 7
    assert guesses(model.report().warnings) == []


def test_guessed_axes_of_an_irrelevant_input_cause_no_warning() -> None:
    proto = pooled()
    proto.graph.input.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["B", "a", "b", FEATURES]))
    proto.graph.node.append(onnx.helper.make_node("Identity", ["y"], ["same"], "same"))
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, ["B", "a", "b", FEATURES])
    )
    model = lx.load(proto)
    assert not model.axes["y"].certain
    inputs = {name: np.ones((1, 3, 3, FEATURES), np.float32) for name in ("x", "y")}
    answer = model.explain(inputs, lx.Gradient(), lx.Target(output=next(iter(model.outputs)), index=0))
    assert [warning.partition(",")[0] for warning in answer.warnings] == ["axes are a guess: of input 'x'"]


def test_two_features_that_are_combined_are_not_steps() -> None:
    g = GraphBuilder(np.float32, 17)
    x = g.input("x", ["B", FEATURES])
    columns = [g.op("Gather", [x, g.constant(np.array(k), f"k{k}")], axis=1) for k in range(FEATURES)]
    columns = [g.unsqueeze(g.op("Tanh", [c]), 1) for c in columns]
    joined = g.op("Concat", columns, axis=1)
    model = lx.load(g.model(g.op("MatMul", [joined, g.constant(np.eye(FEATURES), "w")]), ["B", FEATURES]))
    assert model.axes["x"].batch == 0
    assert model.report().warnings == []


def test_axes_are_not_traced_through_sums_of_many_inputs() -> None:
    """Otherwise, sets of all inputs at every node would take memory that grows with the square of their number."""
    g = GraphBuilder(np.float32, 17)
    total = g.input("x0", ["B", 3])
    for number in range(1, 200):
        total = g.op("Add", [total, g.input(f"x{number}", ["B", 3])])
    model = lx.load(g.model(total, ["B", 3]))
    labels = trace(model.runner.engine.graph).labels
    assert max(len(origins) for label in labels.values() for origins in label) == MOST_ORIGINS
    assert set(model.axes.values()) == {lx.Axes(0, 1)}
