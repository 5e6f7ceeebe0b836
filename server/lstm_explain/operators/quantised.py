# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime's LSTM with integer products, as its tool for dynamic quantisation writes it.

ONNX Runtime computes its predictions, since only ONNX Runtime knows how it rounds inputs and states at each step. The
backward pass is that of the corresponding LSTM, over a forward pass of our own with the weights that the levels
represent. Relevance and gradients pass unchanged through the rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort

from lstm_explain.graph.ir import Array, Graph, Node, ValueType
from lstm_explain.graph.session import run_session, session_of
from lstm_explain.operators.cells import recurrent
from lstm_explain.operators.lstm_cell import LSTM
from lstm_explain.operators.operator import add
from lstm_explain.operators.tape import Lengths, Run, SavedTensors, Tape

SINGLE = np.dtype(np.float32)


def _meant(graph: Graph, node: Node, slot: int, scale: int) -> Array:
    """Returns the levels [directions, columns, 4 * hidden] as weights in the layout of an LSTM: [directions, 4 *
    hidden, columns].
    """
    constants = graph.constants
    levels, step = constants[node.inputs[slot]], constants[node.inputs[scale]]
    zero = constants[node.inputs[scale + 1]].astype(step.dtype)
    by_row = (len(levels), 1, -1)
    return np.ascontiguousarray(((levels - zero.reshape(by_row)) * step.reshape(by_row)).transpose(0, 2, 1))


def _single(array: Array) -> Array:
    return array.astype(SINGLE) if array.dtype.kind == "f" else array


class QuantisedLSTM(LSTM):
    def __init__(self, node: Node, graph: Graph) -> None:
        weights = {node.inputs[1]: _meant(graph, node, 1, 8), node.inputs[2]: _meant(graph, node, 2, 10)}
        super().__init__(node, replace(graph, constants=graph.constants | weights))
        self._fed = {node.inputs[slot]: slot for slot in self.reads}
        self._session = self._made(node, graph)

    def _made(self, node: Node, graph: Graph) -> ort.InferenceSession:
        """Returns the node alone, in float32, whatever the type of the arithmetic around it."""
        constants = {name: _single(graph.constants[name]) for name in node.inputs if name in graph.constants}
        types = {n: ValueType(np.dtype(np.int32) if slot == 4 else SINGLE, None) for n, slot in self._fed.items()}
        alone = replace(graph, constants=constants, types=types)
        return session_of(alone, [node], [n for n in self._fed if n not in constants], [name for _, name in self.named])

    def ready(self, steps: int, lens: Lengths, states: list[list[Array]], keep: SavedTensors) -> Run:
        run = super().ready(steps, lens, states, keep)

        def predicted(x: Array) -> tuple[dict[str, Array], list[Tape]]:
            outputs, tapes = run(x)
            given = {0: x, 4: lens.steps.astype(np.int32)}
            given |= {slot: np.stack([s[i] for s in states]) for i, slot in enumerate(self.state_slots)}
            required = {entry.name for entry in self._session.get_inputs()}
            feeds = {name: _single(given[slot]) for name, slot in self._fed.items() if name in required}
            results: Mapping[str, Any] = dict(
                zip(outputs, run_session(self._session, list(outputs), feeds), strict=True)
            )
            return {name: results[name].astype(self.out_dtype, copy=False) for name in outputs}, tapes

        return predicted


_NOTE = "as the LSTM of the weights that the levels mean; predicted by ONNX Runtime"
add("com.microsoft::DynamicQuantizeLSTM", recurrent(QuantisedLSTM, _NOTE))
