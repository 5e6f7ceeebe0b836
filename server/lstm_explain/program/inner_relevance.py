# SPDX-License-Identifier: Apache-2.0
"""Relevance inside an LSTM node, step by step: when its memory was written, and by what.

`<node>.<view>` in `capture` gives an array like the node's output Y, [T, directions, B, H]. The backward pass through
the steps is repeated in float64 NumPy with the kernels' rules, but only where a view is requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lstm_explain.errors import InputError
from lstm_explain.graph.ir import Array
from lstm_explain.operators import BatchLayout
from lstm_explain.operators.lstm_cell import LSTMDirection
from lstm_explain.program.lstm_walk import walk
from lstm_explain.program.steps.layer_rules import settings_of
from lstm_explain.program.through import masks_of

if TYPE_CHECKING:
    from lstm_explain.program.passes import BackwardPass
    from lstm_explain.program.program import Program


def inner_relevance(program: Program, back: BackwardPass, node: str, view: str) -> tuple[Array, BatchLayout | None]:
    """The relevance of one view after the pass has ended, and where the samples lie in it."""
    cell, tapes = program.cells[node], back.done.tapes.get(node)
    if tapes is None:
        raise InputError(f"capture: the explained value does not depend on node {node!r}", field="capture")
    lrp = settings_of(program.lrp, cell.node)
    arrived = [back.messages.get(o) if o else None for o in (*cell.node.outputs, "", "")[:3]]
    y, *ends = (None if m is None or m.relevance is None else np.asarray(m.relevance, np.float64) for m in arrived)
    if cell.batch_first:
        y = None if y is None else y.transpose(1, 2, 0, 3)
        ends = [None if e is None else e.swapaxes(0, 1) for e in ends]
    masks, parts = masks_of(node, cell, program.chosen.get(node, {})), []
    for d, (direction, tape) in enumerate(zip(cell.directions, tapes, strict=True)):
        assert isinstance(direction, LSTMDirection)
        r_y = np.zeros(tape.hidden.shape) if y is None else y[:, d]
        own = {name: mask[d] for name, mask in masks.items()}
        walked = walk(direction, tape, r_y, [None if e is None else e[d] for e in ends], lrp, own)
        parts.append(walked.views[view])
    whole = np.stack(parts, axis=1)
    given = next((m.layout for m in arrived if m is not None), None)
    layout = None if given is None else BatchLayout(0 if cell.batch_first else 2, given.inner)
    return whole.transpose(2, 0, 1, 3) if cell.batch_first else whole, layout
