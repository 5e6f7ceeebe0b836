"""Our kernel for LRP-all beside the same pass as an ONNX graph (a Scan) that ONNX Runtime runs, on one thread."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from rich.console import Console

import lstm_explain as lx
from bench.engine import Pair
from bench.models import GRID, Shape, inputs_of
from bench.timing import Ratio, compare
from lstm_explain.rules.recurrent import Keep

EPSILON = 0.001
GRAPH = """<ir_version: 9, opset_import: ["": 17]>
backward (float[T, 1, D] x, float[T, 1, H] z, float[T, 1, H] old, float[T, 1, H] new, float[T, 1, H] before,
          float[1, H] r_h, float[1, H] r_c) => (float[T, 1, D] r_x) {
    r_h_first, r_c_first, m = Scan <num_scan_inputs = 4, scan_input_directions = [1, 1, 1, 1],
                                    scan_output_directions = [1], body = step
        (float[1, H] a_h, float[1, H] a_c, float[1, H] b_z, float[1, H] b_old, float[1, H] b_new, float[1, H] b_h)
            => (float[1, H] c_h, float[1, H] c_c, float[1, H] density) {
            eps = Constant <value_float = EPSILON> ()
            less = Constant <value_float = -EPSILON> ()
            zero = Constant <value_float = 0.0> ()
            r = Add(a_h, a_c)
            cell = Add(b_old, b_new)
            cell_sign = GreaterOrEqual(cell, zero)
            cell_eps = Where(cell_sign, eps, less)
            cell_safe = Add(cell, cell_eps)
            share = Div(r, cell_safe)
            c_c = Mul(b_old, share)
            r_new = Mul(b_new, share)
            z_sign = GreaterOrEqual(b_z, zero)
            z_eps = Where(z_sign, eps, less)
            z_safe = Add(b_z, z_eps)
            density = Div(r_new, z_safe)
            back = MatMul(density, R)
            c_h = Mul(b_h, back)
        }> (r_h, r_c, z, old, new, before)
    to_x = MatMul(m, W)
    r_x = Mul(x, to_x)
}"""


def session_of(W: np.ndarray, R: np.ndarray) -> ort.InferenceSession:
    """W [H, D], R [H, H]: of the cell input."""
    model = onnx.parser.parse_model(GRAPH.replace("EPSILON", str(EPSILON)))
    model.graph.initializer.extend([onnx.numpy_helper.from_array(R, "R"), onnx.numpy_helper.from_array(W, "W")])
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(shape: Shape, T: int) -> dict[str, Ratio]:
    """Way back at batch 1, as multiples of the forward pass."""
    pair, x, H = Pair(shape), inputs_of(shape, T, 1), shape.H
    (cell,) = pair.model._engine.cells.values()
    (direction,) = cell.directions
    _, (tape,) = cell.forward({0: x}, Keep.SIGNALS)
    r_h, nothing = np.ones((1, H), np.float32), np.zeros((1, H), np.float32)
    session = session_of(direction.W[3 * H :], direction.R[3 * H :])
    before = np.concatenate([np.zeros((1, 1, H), np.float32), tape.hidden[:-1]])
    feeds = {"x": x, "z": tape.kept["pre"], "old": tape.kept["old"], "new": tape.kept["new"], "before": before}
    feeds |= {"r_h": r_h, "r_c": nothing}

    def graph() -> Any:
        return session.run(None, feeds)[0]

    def kernel() -> Any:
        return direction.backward(tape, np.zeros((0, 0, 0), np.float32), [r_h.copy(), nothing.copy()], lx.LRP())[0]

    def forward() -> Any:
        return pair.session.run(None, {"x": x})

    assert np.abs(graph() - kernel()).max() < 1e-4 * np.abs(graph()).max()
    return {"an ONNX graph": compare(graph, forward, 0.5), "our kernel": compare(kernel, forward, 0.5)}


def run(console: Console) -> list[dict[str, Any]]:
    rows = []
    for shape in (GRID[0], GRID[2], GRID[3]):
        ratios = measure(shape, 100)
        console.print(f"{shape}, T = 100, batch 1, way back of LRP-all:", {name: str(r) for name, r in ratios.items()})
        rows.append({"model": asdict(shape), "ratios": {name: asdict(ratio) for name, ratio in ratios.items()}})
    return rows
