# SPDX-License-Identifier: Apache-2.0
"""LSTM cells made for LRP (Arras et al. 2019, arXiv 1909.12114, the section on architectures motivated by LRP).

Under "signal takes all", without biases and stabiliser, relevance is conserved whatever the gates are. In addition,
these changes give the relevance of the cell to the steps that wrote to it, in proportion to what they wrote, if nothing
else can receive it: no output gate, no forget gate, a cell input that is not negative and sees x alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lstm_explain as lx
from tests.graph_builder import GraphBuilder

D, H, T, BATCH = 3, 4, 6, 2


@dataclass(frozen=True)
class Cell:
    """Which parts the cell has. squash: the cell input's activation."""

    output_gate: bool = True
    forget_gate: bool = True
    squash: str = "Tanh"
    gates_see_x: bool = True
    input_sees_h: bool = True


CELLS = {
    "lstm": Cell(),
    "no output gate": Cell(output_gate=False),
    "no forget gate": Cell(forget_gate=False),
    "non-negative cell input": Cell(squash="Sigmoid"),
    "non-negative, rectified": Cell(squash="Relu"),
    "gates without feed-forward connections": Cell(gates_see_x=False),
    "cell input without recurrent connections": Cell(input_sees_h=False),
    "all of it": Cell(False, False, "Sigmoid", False, False),
}


def weights(name: str, rows: int, rng: np.random.Generator) -> Any:
    return rng.uniform(-1, 1, (rows, H)) if name != "head" else rng.uniform(0.2, 1, (H, 1))


def step(g: GraphBuilder, cell: Cell, x: str, h: str, c: str, tag: str) -> tuple[str, str]:
    """Writes the nodes of one step and returns (h, c)."""

    def sees(gate: str, *, see_x: bool, see_h: bool) -> str:
        parts = [g.op("MatMul", [x, f"W_{gate}"], f"{tag}_x_{gate}")] if see_x else []
        parts += [g.op("MatMul", [h, f"R_{gate}"], f"{tag}_h_{gate}")] if see_h else []
        return parts[0] if len(parts) == 1 else g.op("Add", parts, f"{tag}_z_{gate}")

    def gate(name: str) -> str:
        return g.op("Sigmoid", [sees(name, see_x=cell.gates_see_x, see_h=True)], f"{tag}_{name}")

    new = g.op(cell.squash, [sees("c", see_x=True, see_h=cell.input_sees_h)], f"{tag}_g")
    written = g.op("Mul", [gate("i"), new], f"{tag}_written")
    kept = g.op("Mul", [gate("f"), c], f"{tag}_kept") if cell.forget_gate else c
    c = g.op("Add", [kept, written], f"{tag}_cell")
    shown = g.op("Tanh", [c], f"{tag}_shown")
    return (g.op("Mul", [gate("o"), shown], f"{tag}_h") if cell.output_gate else shown), c


def add_weights(g: GraphBuilder) -> None:
    rng = np.random.default_rng(5)
    for name in "iofc":
        g.constant(weights(name, D, rng), f"W_{name}")
        g.constant(weights(name, H, rng), f"R_{name}")
    g.constant(weights("head", H, rng), "V")


def unrolled(cell: Cell) -> onnx.ModelProto:
    g = GraphBuilder(np.float64, 17)
    x = g.input("x", ["batch", T, D])
    h, c = g.input("h", ["batch", H]), g.input("c", ["batch", H])
    add_weights(g)
    for t in range(T):
        g.constant(np.array(t), f"at{t}")
        h, c = step(g, cell, g.op("Gather", [x, f"at{t}"], f"x{t}", axis=1), h, c, f"t{t}")
    return g.model(g.op("MatMul", [h, "V"], "head"), ["batch", 1])


def looped(cell: Cell) -> onnx.ModelProto:
    """The same cell, as the body of a Scan."""
    body = GraphBuilder(np.float64, 17)
    h, c = step(body, cell, "x_t", "h_in", "c_in", "cell")
    state = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in ("h_in", "c_in", "x_t")]
    ends = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in (h, c)]
    g = GraphBuilder(np.float64, 17)
    inputs = [g.input("h", ["batch", H]), g.input("c", ["batch", H]), g.input("x", ["batch", T, D])]
    add_weights(g)
    inner = helper.make_graph(body.nodes, "body", state, ends)
    last = g.ops("Scan", inputs, 2, "scan", body=inner, num_scan_inputs=1, scan_input_axes=[1])[0]
    return g.model(g.op("MatMul", [last, "V"], "head"), ["batch", 1])


def explain(spelling: Any, cell: Cell, method: lx.LRP, **more: Any) -> lx.Explanation:
    """A cell input that is a Sigmoid looks like a gate, so the caller names the gate."""
    names = ["cell_written"] if spelling is looped else [f"t{t}_written" for t in range(T)]
    gates = dict.fromkeys(names, 0) if cell.squash == "Sigmoid" else None
    return lx.load(spelling(cell), gates=gates).explain(feeds(), method, **more)


def feeds() -> dict[str, Any]:
    rng = np.random.default_rng(6)
    return {
        "x": rng.standard_normal((BATCH, T, D)),
        "h": np.zeros((BATCH, H)),
        "c": np.zeros((BATCH, H)),
    }


@pytest.mark.parametrize("spelling", [unrolled, looped])
@pytest.mark.parametrize("name", CELLS)
def test_without_bias_and_stabiliser_nothing_is_absorbed(name: str, spelling: Any) -> None:
    e = explain(spelling, CELLS[name], lx.LRP("all", epsilon=0))
    largest = max(np.abs(r).sum() for r in e.relevance.values())
    assert np.abs(e.ledger.absorbed).max() <= 1e-12 * largest
    np.testing.assert_allclose(sum(r.reshape(BATCH, -1).sum(1) for r in e.relevance.values()), e.explained, rtol=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_in_a_loop_is_explained_as_the_same_cell_unrolled(name: str) -> None:
    for rule in ("all", "half", "prop", "abs"):
        answers = [explain(spelling, CELLS[name], lx.LRP(rule, 0.01)) for spelling in (unrolled, looped)]
        for key in ("x", "h", "c"):
            scale = np.abs(answers[0].relevance[key]).max()
            np.testing.assert_allclose(answers[1].relevance[key], answers[0].relevance[key], atol=1e-9 * max(scale, 1))


def test_each_step_gets_its_share_of_what_was_written() -> None:
    """R of step t is the sum over cells of i_t g_t / c_T times the cell's relevance, worked out by hand."""
    cell, given = CELLS["all of it"], feeds()
    captured = [f"t{t}_written_out" for t in range(T)]
    e = explain(unrolled, cell, lx.LRP("all", epsilon=0), capture=captured)
    rng = np.random.default_rng(5)
    W = {}
    for name in "iofc":
        W[name] = weights(name, D, rng), weights(name, H, rng)
    V = weights("head", H, rng)
    h, written = given["h"], []
    for t in range(T):
        gate = 1 / (1 + np.exp(-h @ W["i"][1]))
        written.append(gate / (1 + np.exp(-given["x"][:, t] @ W["c"][0])))
        h = np.tanh(np.sum(written, axis=0))
    share = np.array(written) / np.sum(written, axis=0) * (h * V[:, 0])  # [T, batch, H]
    for t in range(T):
        np.testing.assert_allclose(e.captured[f"t{t}_written_out"], share[t], rtol=1e-9)
        np.testing.assert_allclose(e.relevance["x"][:, t].sum(axis=1), share[t].sum(axis=1), rtol=1e-9)
        assert (share[t] >= 0).all()
