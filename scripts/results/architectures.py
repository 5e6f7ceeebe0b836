# SPDX-License-Identifier: Apache-2.0
"""Conservation in LSTM cells made for LRP (Arras et al. 2019, arXiv 1909.12114, on architectures motivated by LRP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from common import MODELS, held, percent, table
from corridor import wander
from onnx import TensorProto, helper, numpy_helper

import lstm_explain as lx

Array = npt.NDArray[Any]
FEATURES, HIDDEN, STEPS, SAMPLES, DRAWS = 8, 16, 20, 100, 5
OPEN = 50.0  # a bias with which a gate is 1 in float32
ROUNDING = 1e-4


@dataclass(frozen=True)
class Cell:
    """Which parts the cell has. squash: the cell input's activation."""

    output_gate: bool = True
    forget_gate: bool = True
    squash: str = "Tanh"
    gates_see_x: bool = True
    input_sees_h: bool = True


CELLS = {
    "LSTM": Cell(),
    "no output gate": Cell(output_gate=False),
    "no forget gate": Cell(forget_gate=False),
    "cell input not negative (sigmoid)": Cell(squash="Sigmoid"),
    "cell input not negative (ReLU)": Cell(squash="Relu"),
    "gates see the state only": Cell(gates_see_x=False),
    "cell input sees x only": Cell(input_sees_h=False),
    "all of it, sigmoid": Cell(False, False, "Sigmoid", False, False),
    "all of it, ReLU": Cell(False, False, "Relu", False, False),
}


def build(cell: Cell, rng: np.random.Generator, *, biases: bool) -> onnx.ModelProto:
    """One ONNX LSTM with random weights and a linear readout; a gate that the cell lacks is held open."""
    bound = 1 / np.sqrt(HIDDEN)  # as torch begins

    def draw(*shape: int) -> Array:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    W, R, V = draw(1, 4, HIDDEN, FEATURES), draw(1, 4, HIDDEN, HIDDEN), draw(HIDDEN, 1)
    b, out = draw(1, 4, HIDDEN) * biases, draw(1) * biases
    i, o, f, c = range(4)  # ONNX's order
    if not cell.gates_see_x:
        W[:, [i, o, f]] = 0
    if not cell.input_sees_h:
        R[:, c] = 0
    for gate, there in ((o, cell.output_gate), (f, cell.forget_gate)):
        if not there:
            W[:, gate], R[:, gate], b[:, gate] = 0, 0, OPEN
    weights = {
        "W": W.reshape(1, -1, FEATURES),
        "R": R.reshape(1, -1, HIDDEN),
        "B": np.concatenate([b.reshape(1, -1), np.zeros((1, 4 * HIDDEN), np.float32)], axis=1),
        "V": V,
        "b": out,
        "direction": np.array([0]),
    }
    activations = ["Sigmoid", cell.squash, "Tanh"]
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B"], ["", "last"], "lstm", hidden_size=HIDDEN, activations=activations
        ),
        helper.make_node("Squeeze", ["last", "direction"], ["state"], "state"),
        helper.make_node("Gemm", ["state", "V", "b"], ["y"], "readout"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", FEATURES])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    kept = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "cell", [x], [y], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def measure(cell: Cell, *, biases: bool, epsilon: float) -> lx.evaluate.Conservation:
    """Measure the conservation of LRP-all over all draws together."""
    ledgers = []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        model = lx.load(build(cell, rng, biases=biases))
        x = rng.standard_normal((STEPS, SAMPLES, FEATURES)).astype(np.float32)
        named = {"": lx.LRP(epsilon=epsilon)}
        ledgers.append(lx.evaluate.conservation(model, {"x": x}, named, lx.Target(index=0))[""])
    entries = ("explained", "inputs", "initial_states", "absorbed", "residual")
    return lx.evaluate.Conservation(*(np.concatenate([getattr(c, e) for c in ledgers]) for e in entries))


def run(progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md."""
    rows, leaks = [], []
    for name, cell in CELLS.items():
        progress(f"architectures: {name}")
        bare = measure(cell, biases=False, epsilon=0.0)
        full = measure(cell, biases=True, epsilon=1e-3)
        leaks.append(bare.share("absorbed") + bare.share("residual"))
        rows.append([name, *_cells(bare), *_cells(full)])
    trained = lx.load(MODELS / "corridor" / "1" / "model.onnx")
    walks = {"x": wander(np.random.default_rng(2019), DRAWS * SAMPLES).x}
    learned = [
        lx.evaluate.conservation(trained, walks, {"": lx.LRP(epsilon=e)}, lx.Target(index=0))[""] for e in (0.0, 1e-3)
    ]
    leaks.append(learned[0].share("absorbed") + learned[0].share("residual"))
    rows.append(["*trained: `corridor`*", *(cell for c in learned for cell in _cells(c))])
    head = ["cell", *(f"{entry}, {how}" for how in ("bare", "full") for entry in ("inputs", "absorbed", "residual"))]
    return f"""## Architectures made for LRP

Arras et al. 2019 change the LSTM so that its relevance is more meaningful: no output gate, no forget gate, a
nonnegative cell input, gates without connections from the input, or a cell input without connections from the state.
Each row is one ONNX LSTM of {HIDDEN} units with a linear readout and random weights, over {DRAWS} draws of {SAMPLES}
sequences of {STEPS} steps each. The last row is the `corridor` model, which was trained with such a cell and has no
biases where they would matter. The method is LRP-all. Columns show the entries of the ledger, as sums of absolute
values, in per cent of the explained values. Bare means without biases and with ε = 0; full means with biases and with
ε = 0.001.

{table(head, rows)}
{held("without biases and stabiliser every cell conserves relevance within 0.01 %", max(leaks) <= ROUNDING)}
In the full cells, biases and ε absorb relevance; how much depends on how close the sums are to zero. A sigmoid cell
input is far from zero where its argument is close to zero, which magnifies relevance.
"""


def _cells(kept: lx.evaluate.Conservation) -> list[str]:
    return [percent(kept.share(entry)) for entry in ("inputs", "absorbed", "residual")]
