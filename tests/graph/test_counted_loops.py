# SPDX-License-Identifier: Apache-2.0
"""A Loop whose condition only counts is a Loop with a trip count."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from tests.computed_conditions import with_condition
from tests.program.test_loops_at_once import METHODS, counted, step_by_step
from tests.recurrent_kinds import WIDTH, recurrent_kind

STEPS = 20
TARGET = lx.Target(index=0)
X = np.random.default_rng(0).standard_normal((2, STEPS, WIDTH)).astype(np.float32)


def predicted(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(["logits"], feeds)[0]  # type: ignore[type-arg]
    return found


@pytest.mark.parametrize("kind", ["lstm", "gru", "selective_scan"])
def test_answers_are_those_of_a_loop_with_a_trip_count(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, proto = recurrent_kind(kind, "loop", STEPS), with_condition(recurrent_kind(kind, "loop", STEPS), STEPS)
    model, other = lx.load(proto), lx.load(plain)
    for method in METHODS:
        with counted(monkeypatch) as ran:
            own = model.explain({"x": X}, method, TARGET)
        assert ran == ["forward", "backward"]
        expected = other.explain({"x": X}, method, TARGET).relevance["x"]
        np.testing.assert_allclose(own.relevance["x"], expected, atol=2e-5 * np.abs(expected).max())
    np.testing.assert_allclose(own.outputs["logits"], predicted(proto, {"x": X}), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"limit": 18}, 18),
        ({"limit": 18, "compare": "LessOrEqual"}, 19),
        ({"limit": 18, "compare": "Greater"}, 18),
        ({"limit": 17, "compare": "GreaterOrEqual"}, 18),
        ({"limit": 20, "start": 2}, 18),
        ({"limit": 20, "most": 17}, 17),
        ({"limit": 18, "most": 20}, 18),
        ({"limit": -3}, 1),
    ],
    ids=str,
)
def test_it_runs_as_often_as_in_onnx_runtime(options: dict[str, object], runs: int) -> None:
    proto = with_condition(recurrent_kind("lstm", "loop", STEPS), **options)  # type: ignore[arg-type]
    proto.graph.output.append(helper.make_tensor_value_info("sequence", TensorProto.FLOAT, [None, None, None]))
    model = lx.load(proto)
    (loop,) = (node for node in model.engine.graph.nodes if node.op == "Loop")
    assert model.engine.graph.constants[loop.inputs[0]].tolist() == [runs]
    e = model.explain({"x": X}, lx.LRP(), lx.Target(output="logits", index=0))
    assert len(e.outputs["sequence"]) == runs
    np.testing.assert_allclose(e.outputs["logits"], predicted(proto, {"x": X}), atol=1e-5)
    np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-4)


def test_a_limit_may_be_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = with_condition(recurrent_kind("lstm", "loop", STEPS), None)
    model = lx.load(proto)
    for limit in (STEPS, 17, 3):
        feeds = {"x": X, "limit": np.array(limit, np.int32)}
        with counted(monkeypatch) as ran:
            found = model.explain(feeds, lx.LRP(), TARGET)
        assert bool(ran) == (limit >= 16)
        np.testing.assert_allclose(found.outputs["logits"], predicted(proto, feeds), atol=1e-5)
        with step_by_step(monkeypatch):
            expected = model.explain(feeds, lx.LRP(), TARGET).relevance["x"]
        np.testing.assert_allclose(found.relevance["x"], expected, atol=2e-5 * np.abs(expected).max())
        assert (found.relevance["x"][:, limit:] == 0).all()


def test_a_counter_that_something_reads_at_the_end_stays() -> None:
    proto = with_condition(recurrent_kind("lstm", "loop", STEPS), 18)
    proto.graph.output.append(helper.make_tensor_value_info("time_end", TensorProto.INT32, []))
    e = lx.load(proto).explain({"x": X}, lx.LRP(), lx.Target(output="logits", index=0))
    assert e.outputs["time_end"] == 18


@pytest.mark.parametrize("limit", [2**63 - 1, 7, -(2**63)])
def test_a_limit_may_be_any_int64(limit: int) -> None:
    plain = recurrent_kind("lstm", "loop", STEPS)
    proto = with_condition(plain, None, compare="LessOrEqual", most=STEPS, dtype=np.int64)
    feeds = {"x": X, "limit": np.array(limit)}
    np.testing.assert_allclose(lx.load(proto).predict(feeds)["logits"], predicted(proto, feeds), atol=1e-5)
    e = lx.load(proto).explain(feeds, lx.LRP(), TARGET)
    np.testing.assert_allclose(e.outputs["logits"], predicted(proto, feeds), atol=1e-5)


def with_state(proto: onnx.ModelProto, nodes: list[onnx.NodeProto], element: int, start: float, end: str) -> None:
    """Adds a state to the only Loop, and what it was in each iteration as the output "was" of the model."""
    (loop,) = (node for node in proto.graph.node if node.op_type == "Loop")
    body = next(a.g for a in loop.attribute if a.name == "body")
    body.node.extend([*nodes, helper.make_node("Identity", ["state"], ["was_each"], name="was")])
    body.input.append(helper.make_tensor_value_info("state", element, []))
    states = len(loop.input) - 2
    body.output.insert(1 + states, helper.make_tensor_value_info(end, element, []))
    body.output.append(helper.make_tensor_value_info("was_each", element, []))
    proto.graph.initializer.append(
        numpy_helper.from_array(np.array(start, helper.tensor_dtype_to_np_dtype(element)), "state_start")
    )
    loop.input.append("state_start")
    loop.output[:] = [*loop.output[:states], "", *loop.output[states:]]
    loop.output.append("was")
    proto.graph.output.append(helper.make_tensor_value_info("was", element, [None]))


def test_a_state_that_is_rounded_in_each_iteration_is_no_value_of_the_enclosing_graph() -> None:
    proto = with_condition(recurrent_kind("lstm", "loop", STEPS), 18)
    casts = [
        helper.make_node("Cast", ["state"], ["rounded"], name="rounded", to=TensorProto.INT64),
        helper.make_node("Cast", ["rounded"], ["state_next"], name="state_next", to=TensorProto.FLOAT),
    ]
    with_state(proto, casts, TensorProto.FLOAT, 2.5, "state_next")
    e = lx.load(proto).explain({"x": X}, lx.LRP(), lx.Target(output="logits", index=0))
    np.testing.assert_array_equal(e.outputs["was"], [2.5] + [2.0] * 17)


def test_the_next_iteration_may_know_the_counter_of_this_one() -> None:
    proto = with_condition(recurrent_kind("lstm", "loop", STEPS), 18)
    with_state(proto, [], TensorProto.INT32, 7, "time")
    e = lx.load(proto).explain({"x": X}, lx.LRP(), lx.Target(output="logits", index=0))
    np.testing.assert_array_equal(e.outputs["was"], [7, *range(17)])
