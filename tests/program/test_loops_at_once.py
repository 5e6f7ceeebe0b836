# SPDX-License-Identifier: Apache-2.0
"""A Scan or Loop whose iterations run at once, forward and back, gives the answers of single iterations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx
from lstm_explain.program.over_time.backward import LoopBackward
from lstm_explain.program.over_time.forward import LoopForward
from lstm_explain.program.steps import control_flow, control_flow_backward
from tests.graph_builder import AnyArray
from tests.recurrent_kinds import KINDS, WIDTH, Form, recurrent_kind

STEPS = 20
METHODS = [
    lx.LRP(),
    lx.LRP("half"),
    lx.LRP("all", bias_factor=1.0),
    lx.LRP("abs"),
    lx.LRP(epsilon=1e-3),
    lx.Gradient(),
    lx.GradientTimesInput(),
]
ROUNDING = 2e-5  # of float32, as a share of the largest number


@contextmanager
def step_by_step(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs every iteration on its own, with the steps of the body as they are."""
    with patch.context() as only_here:
        only_here.setattr(control_flow, "FEWEST_AT_ONCE", 10**9)
        only_here.setattr(control_flow_backward, "FEWEST_SPECIALISED", 10**9)
        yield


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lists the loops that ran at once."""
    ran: list[str] = []
    forward, backward = LoopForward.run, LoopBackward.run

    def run_forward(self: LoopForward, *given: object) -> object:
        ran.append("forward")
        return forward(self, *given)  # type: ignore[arg-type]

    def run_backward(self: LoopBackward, *given: object) -> object:
        found = backward(self, *given)  # type: ignore[arg-type]
        if found is not None:
            ran.append("backward")
        return found

    with patch.context() as only_here:
        only_here.setattr(LoopForward, "run", run_forward)
        only_here.setattr(LoopBackward, "run", run_backward)
        yield ran


def check_alike(model: lx.Model, feeds: dict[str, AnyArray], method: lx.Method, patch: pytest.MonkeyPatch) -> None:
    with counted(patch) as ran:
        found = model.explain(feeds, method, lx.Target(index=0))
    assert "forward" in ran
    assert "backward" in ran
    with step_by_step(patch), counted(patch) as ran:
        expected = model.explain(feeds, method, lx.Target(index=0))
    assert not ran
    largest = max(np.abs(r).max() for r in expected.relevance.values())
    for name, r in expected.relevance.items():
        np.testing.assert_allclose(found.relevance[name], r, atol=ROUNDING * largest, rtol=0)
    for name, y in expected.outputs.items():
        np.testing.assert_allclose(found.outputs[name], y, atol=1e-5)
    assert found.ledger.by_node.keys() == expected.ledger.by_node.keys()
    moved = max(largest, *(np.abs(a).max() for a in expected.ledger.by_node.values()), 0.0)
    for name, amounts in expected.ledger.by_node.items():
        np.testing.assert_allclose(found.ledger.by_node[name], amounts, atol=ROUNDING * moved, rtol=0, err_msg=name)
    states = expected.ledger.initial_states
    np.testing.assert_allclose(found.ledger.initial_states, states, atol=ROUNDING * moved, rtol=0)


CELLS: list[tuple[str, Form]] = [(kind, "scan") for kind in KINDS]
CELLS += [(kind, "loop") for kind in ("lstm", "selective_scan", "quasi_recurrent", "delta_rule")]


@pytest.mark.parametrize(("kind", "form"), CELLS)
def test_cells(kind: str, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((3, STEPS, WIDTH)).astype(np.float32)
    model = lx.load(recurrent_kind(kind, form, STEPS))
    for method in METHODS:
        check_alike(model, {"x": x}, method, monkeypatch)


@pytest.mark.parametrize("kind", ["lstm", "selective_scan", "mlstm", "complex_diagonal"])
def test_sums_of_zeros(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of zeros, as in padding, need no walk from iteration to iteration."""
    x = np.random.default_rng(4).standard_normal((2, STEPS, WIDTH)).astype(np.float32)
    x[0, :5] = x[1, STEPS // 2 :] = 0
    model = lx.load(recurrent_kind(kind, "scan", STEPS))
    for method in METHODS:
        check_alike(model, {"x": x}, method, monkeypatch)


def test_one_sample_and_several_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions serve any number of iterations."""
    model = lx.load(recurrent_kind("lstm", "scan", "T"))
    for steps in (STEPS, 3 * STEPS, STEPS + 1):
        x = np.random.default_rng(steps).standard_normal((1, steps, WIDTH)).astype(np.float32)
        with counted(monkeypatch) as ran:
            found = model.explain({"x": x}, lx.LRP(), lx.Target(index=0))
        assert ran == ["forward", "backward"]
        with step_by_step(monkeypatch):
            expected = model.explain({"x": x}, lx.LRP(), lx.Target(index=0)).relevance["x"]
        np.testing.assert_allclose(found.relevance["x"], expected, atol=ROUNDING * np.abs(expected).max())


def both_ways() -> onnx.ModelProto:
    """A running mean over x [N, T, 4] and over y [T, N, 4] from its end, scaled by a value of the enclosing graph, of
    which every step is written, from the last to the first, along axis 2.
    """

    def info(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    body = helper.make_graph(
        [
            helper.make_node("Mul", ["x_t", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "y_t"], ["sum"]),
            helper.make_node("Mul", ["h", "decay"], ["kept"]),
            helper.make_node("Add", ["kept", "sum"], ["next"]),
            helper.make_node("Tanh", ["next"], ["out"]),
        ],
        "body",
        [info("h", "N", 4), info("x_t", "N", 4), info("y_t", "N", 4)],
        [info("next", "N", 4), info("out", "N", 4)],
    )
    nodes = [
        helper.make_node("Tanh", ["s"], ["scale"]),
        helper.make_node("Scan", ["h0", "x", "y"], ["last", "all"], body=body, num_scan_inputs=2, name="scan",
                         scan_input_axes=[1, 0], scan_input_directions=[0, 1], scan_output_axes=[2],
                         scan_output_directions=[1]),
        helper.make_node("MatMul", ["all", "weights"], ["summed"]),
        helper.make_node("ReduceSum", ["summed", "axes"], ["written"], keepdims=0),
        helper.make_node("Add", ["written", "last"], ["logits"]),
    ]  # fmt: skip
    rng = np.random.default_rng(1)
    constants = {"decay": np.float32(0.8), "axes": np.array([2])}
    constants["weights"] = rng.standard_normal((STEPS, 2)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "both_ways",
        [info("x", "N", STEPS, 4), info("y", STEPS, "N", 4), info("s", "N", 4), info("h0", "N", 4)],
        [info("logits", "N", 4)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_directions_axes_and_values_around(method: lx.Method, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    shapes = {"x": (2, STEPS, 4), "y": (STEPS, 2, 4), "s": (2, 4), "h0": (2, 4)}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    check_alike(lx.load(both_ways()), feeds, method, monkeypatch)


def loop(*, stops_at: float = np.inf, extent: int = STEPS + 3) -> onnx.ModelProto:
    """h = tanh(0.8 h + x[:, t] + mean of x), for 20 of the steps of x [N, extent, 4], or until the sum of h exceeds
    `stops_at`.
    """
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "t"], ["x_t"], axis=-2),
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Mul", ["h", "decay"], ["kept"]),
            helper.make_node("Add", ["x_t", "mean"], ["new"]),
            helper.make_node("Add", ["kept", "new"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["next"]),
            helper.make_node("ReduceSum", ["next"], ["total"], keepdims=0),
            helper.make_node("Less", ["total", "limit"], ["below"]),
            helper.make_node("Identity", ["below" if stops_at < np.inf else "going"], ["goes_on"]),
        ],
        "body",
        [info("t", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("h", TensorProto.FLOAT, ["N", 4])],
        [info("goes_on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, ["N", 4])],
    )
    constants = {"decay": np.float32(0.8), "steps": np.array(STEPS), "limit": np.float32(stops_at)}
    graph = helper.make_graph(
        [helper.make_node("Loop", ["steps", "", "h0"], ["logits"], body=body, name="loop")],
        "loop",
        [info("x", TensorProto.FLOAT, ["N", extent, 4]), info("h0", TensorProto.FLOAT, ["N", 4])],
        [info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inputs_of_loop(extent: int = STEPS + 3) -> dict[str, AnyArray]:
    rng = np.random.default_rng(3)
    shapes = {"x": (2, extent, 4), "h0": (2, 4)}
    return {name: (rng.standard_normal(shape) / 2).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_loop_that_reads_part_of_a_sequence_and_all_of_it(method: lx.Method, monkeypatch: pytest.MonkeyPatch) -> None:
    check_alike(lx.load(loop()), inputs_of_loop(), method, monkeypatch)


def test_a_loop_that_may_stop_early_runs_iteration_by_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lx.load(loop(stops_at=1.5))
    with counted(monkeypatch) as ran:
        e = model.explain(inputs_of_loop(), lx.LRP(), lx.Target(index=0))
    assert not ran
    np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-5)


def test_a_loop_over_more_steps_than_there_are_is_refused() -> None:
    model = lx.load(loop(extent=STEPS - 2))
    with pytest.raises(lx.InputError, match="cannot run on these inputs"):
        model.explain(inputs_of_loop(STEPS - 2), lx.LRP(), lx.Target(index=0))


@pytest.mark.parametrize("where", ["the request", "the iteration"])
def test_what_decides_a_slice_is_read_anew(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a slice may differ between requests of the same shapes, and between iterations."""
    start = "Identity(k)" if where == "the request" else "Mod(m, three)"
    model = lx.load(
        onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]> sliced (float[{STEPS}, 2, 4] x, int64[1] k) => (float[2, 2] y)
        <int64 count = {{{STEPS}}}, bool yes = {{1}}, float[2, 2] start = {{0, 0, 0, 0}}, int64[1] two = {{2}},
        int64[1] one = {{1}}, int64[1] three = {{3}}, float[2, 2] W = {{0.5, -1, 0.75, 0.25}},
        float[2, 2] R = {{0.3, 0.1, -0.2, 0.4}}> {{
            y = Loop(count, yes, start) <body = body (int64 n, bool c, float[2, 2] h) => (bool d, float[2, 2] g) {{
                d = Identity(c)
                row = Gather(x, n)
                m = Reshape(n, one)
                from = {start}
                to = Add(from, two)
                part = Slice(row, from, to, one)
                p = MatMul(part, W)
                q = MatMul(h, R)
                s = Add(p, q)
                g = Tanh(s)
            }}>
        }}""")
    )
    x = np.random.default_rng(0).standard_normal((STEPS, 2, 4)).astype(np.float32)
    for at in (0, 2, 1):
        feeds: dict[str, AnyArray] = {"x": x, "k": np.array([at])}
        for method in (lx.LRP(), lx.LRP(epsilon=1e-3), lx.GradientTimesInput()):
            found = model.explain(feeds, method, lx.Target(index=(0,))).relevance["x"]
            with step_by_step(monkeypatch):
                due = model.explain(feeds, method, lx.Target(index=(0,))).relevance["x"]
            np.testing.assert_allclose(found, due, atol=ROUNDING * np.abs(due).max())
            if where == "the request":
                assert not found[..., :at].any()
                assert found[..., at : at + 2].any()
