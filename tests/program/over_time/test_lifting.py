# SPDX-License-Identifier: Apache-2.0
"""Nodes that compute all iterations at once compute what single iterations do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from lstm_explain.graph.protos import copy_of
from lstm_explain.program.over_time.lifting import ELEMENTWISE, RULES
from lstm_explain.program.over_time.schedule import COUNT, FIRST_OPSET, Iteration, Schedule
from tests.graph_builder import AnyArray
from tests.operators.case import Case
from tests.operators.test_operators import CASES

COUNTED = 4
NEW_ENOUGH = [
    case for case in CASES if case.opset >= FIRST_OPSET and case.op != "Resize"
]  # whose shape ONNX Runtime mistakes
UNKNOWN_SHAPES = {
    "Scaler",
    "LinearRegressor",
    "Compress",
}  # which ONNX Runtime does not infer, so that no loop can return them
FACTORS = (1.0, 0.75, 1.25, 0.5)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def schedule_of(
    nodes: list[NodeProto],
    opsets: Sequence[onnx.OperatorSetIdProto],
    constants: dict[str, AnyArray],
    over_time: dict[str, AnyArray],
    outputs: list[str],
    states: list[tuple[str, str]] | None = None,
    starts: dict[str, AnyArray] | None = None,
    *,
    backwards: bool = False,
) -> Schedule:
    kinds = {name: (a.dtype, a.shape[1:]) for name, a in over_time.items()}
    received = {name: (a.dtype, a.shape) for name, a in (starts or {}).items()}
    return Schedule(
        Iteration(nodes, constants, states or [], outputs, kinds, {}, received, opsets, 9, backwards=backwards)
    )


def run(schedule: Schedule, over_time: dict[str, AnyArray], starts: dict[str, AnyArray]) -> list[AnyArray]:
    opened = session(schedule.model)
    feeds = {COUNT: np.array([COUNTED]), **over_time, **{f"start::{name}": a for name, a in starts.items()}}
    return list(opened.run(None, {i.name: feeds[i.name] for i in opened.get_inputs()}))


def lifted(case: Case) -> tuple[bool, list[AnyArray], list[list[AnyArray]]]:
    """Whether the case's node needs no loop, its outputs over time, and those of single iterations."""
    model = case.model()
    (node, *_), names = model.graph.node, [o for o in model.graph.node[0].output if o]
    constants: dict[str, Any] = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    feeds = {
        name: np.stack([a * a.dtype.type(f) if a.dtype.kind == "f" else a for f in FACTORS])
        for name, a in case.feeds().items()
    }
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    alone = session(model)
    expected = [list(alone.run(None, {name: a[t] for name, a in feeds.items()})) for t in range(COUNTED)]
    schedule = schedule_of([node], model.opset_import, constants, feeds, names)
    return not schedule.parts.within, run(schedule, feeds, {}), expected


@pytest.mark.parametrize("case", NEW_ENOUGH, ids=str)
def test_every_operator(case: Case) -> None:
    """Lifted, or in a loop where it cannot be."""
    try:
        _, found, expected = lifted(case)
    except Fail:
        assert case.op in UNKNOWN_SHAPES
        return
    for i, array in enumerate(found):
        np.testing.assert_allclose(array, np.stack([e[i] for e in expected]), rtol=1e-5, atol=1e-6)


LOGICAL = {"And", "Or", "Xor", "Not"}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": TensorProto.DOUBLE}, "BitShift": {"direction": "LEFT"}, "Mod": {"fmod": 1}
}  # fmt: skip
NUMBERS = np.random.default_rng(0).uniform(0.1, 0.9, (COUNTED, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("op", ELEMENTWISE.split())
def test_operands_of_other_ranks(op: str) -> None:
    """Every elementwise operator, on an array and on a vector that differ from iteration to iteration."""
    count = min(2, onnx.defs.get_schema(op).max_input)
    kind: Any = bool if op in LOGICAL else np.uint8 if op == "BitShift" else np.float32
    numbers = NUMBERS > 0.5 if op in LOGICAL else NUMBERS * (5 if op == "BitShift" else 1)
    given = {"a": numbers.astype(kind), "b": numbers[:, 0].astype(kind)}
    if op == "Where":
        given = {"c": NUMBERS[:, :, :1] > 0.5, **given}
    elif op == "Clip":
        given = {"a": given["a"]}
    given = dict(list(given.items())[: 3 if op == "Where" else count])
    node = helper.make_node(op, list(given), ["y"], name="node", **ATTRIBUTES.get(op, {}))
    schedule = schedule_of([node], [helper.make_opsetid("", 20)], {}, given, ["y"])
    assert not schedule.parts.within
    alone = session(one_node(node, {name: a[0] for name, a in given.items()}))
    expected = [alone.run(None, {name: a[t] for name, a in given.items()})[0] for t in range(COUNTED)]
    np.testing.assert_allclose(run(schedule, given, {})[0], np.stack(expected), rtol=1e-6)


def one_node(node: NodeProto, given: dict[str, AnyArray]) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()
    ]
    graph = helper.make_graph([node], "one", inputs, [helper.make_empty_tensor_value_info("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_every_other_rule_has_a_case_that_needs_no_loop() -> None:
    seen = {case.op for case in NEW_ENOUGH if case.op in RULES and not case.domain and lifted(case)[0]}
    assert set(RULES) - set(ELEMENTWISE.split()) - seen == {"ArgMax", "ArgMin", "Gemm", "Reshape"}


@pytest.mark.parametrize("bias", [[], ["c"]], ids=["", "bias"])
@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Gemm", ["a", "b"], ["y"], transB=1, alpha=0.5, beta=2.0),
        helper.make_node("Reshape", ["a", "shape"], ["y"]),
        helper.make_node("ArgMax", ["a"], ["y"], axis=-1, keepdims=0),
        helper.make_node("ArgMin", ["a"], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_operators_without_such_a_case(node: NodeProto, bias: list[str]) -> None:
    node = copy_of(node)
    constants = {"shape": np.array([0, 1, -1]), "b": NUMBERS[0] * 3, "c": NUMBERS[1, 0, :2]}
    node.input.extend(bias if node.op_type == "Gemm" else [])
    schedule = schedule_of([node], [helper.make_opsetid("", 17)], constants, {"a": NUMBERS}, ["y"])
    assert not schedule.parts.within
    model = one_node(node, {"a": NUMBERS[0]})
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in constants.items())
    expected = [session(model).run(None, {"a": NUMBERS[t]})[0] for t in range(COUNTED)]
    np.testing.assert_allclose(run(schedule, {"a": NUMBERS}, {})[0], np.stack(expected), rtol=1e-6)


def linear(matrix: bool) -> list[NodeProto]:
    """h = tanh(h w + x u), read as y = 2 h; or with a state that decays element by element."""
    mixed = helper.make_node("MatMul" if matrix else "Mul", ["h", "w" if matrix else "decay"], ["kept"])
    return [
        helper.make_node("MatMul", ["x", "u"], ["new"]),
        mixed,
        helper.make_node("Add", ["kept", "new"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["next"]),
        helper.make_node("Add", ["next", "next"], ["y"]),
    ]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("matrix", [False, True])
def test_a_loop_holds_only_what_leads_from_state_to_state(matrix: bool, backwards: bool) -> None:
    rng = np.random.default_rng(1)
    x, start = rng.standard_normal((COUNTED, 2, 3)), rng.standard_normal((2, 5))
    constants = {"u": rng.standard_normal((3, 5)), "w": rng.standard_normal((5, 5)), "decay": rng.uniform(0, 1, 5)}
    schedule = schedule_of(
        linear(matrix), [helper.make_opsetid("", 17)], constants, {"x": x}, ["y", "sum"], [("h", "next")],
        {"h": start}, backwards=backwards,
    )  # fmt: skip
    ops = [node.op_type for node in schedule.parts.within]
    assert ops == ["MatMul" if matrix else "Mul", "Add", "Tanh"]
    found = dict(zip([o.name for o in schedule.model.graph.output], run(schedule, {"x": x}, {"h": start}), strict=True))
    last, y, sums = found["last::h"], *(found[name] for name in schedule.results)
    h, expected = start, np.zeros((2, COUNTED, 2, 5))
    for t in reversed(range(COUNTED)) if backwards else range(COUNTED):
        expected[1, t] = (h @ constants["w"] if matrix else h * constants["decay"]) + x[t] @ constants["u"]
        h = np.tanh(expected[1, t])
        expected[0, t] = 2 * h
    np.testing.assert_allclose(last, h)
    np.testing.assert_allclose([y, sums], expected)
