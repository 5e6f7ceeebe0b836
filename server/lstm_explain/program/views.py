# SPDX-License-Identifier: Apache-2.0
"""The names of what is inside an LSTM node: `<node>.<view>`."""

from __future__ import annotations

from collections.abc import Mapping

from lstm_explain.operators import BatchLayout
from lstm_explain.operators.lstm_cell import LSTM
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.program.axes import Axes
from lstm_explain.program.lstm_walk import VIEWS


def inner_view(name: str, cells: Mapping[str, Recurrent]) -> tuple[str, str] | None:
    """The node and the view that `name` refers to; None where it is not a view."""
    node, _, view = name.rpartition(".")
    return (node, view) if view in VIEWS and isinstance(cells.get(node), LSTM) else None


def captured_axes(
    name: str, shape: tuple[int, ...], cells: Mapping[str, Recurrent], layout: BatchLayout | None
) -> Axes:
    """Returns where samples and time steps lie in a captured value, as far as that is known. shape: of the value.
    layout: where the backward pass found the samples, if there are several.
    """
    view = inner_view(name, cells)
    owners = [cells[view[0]]] if view else [cell for cell in cells.values() if name in cell.node.outputs]
    if owners:
        (cell,) = owners
        along_time = view is not None or name == cell.node.outputs[0]
        if along_time:
            return Axes(0, 1) if cell.batch_first else Axes(2, 0)
        return Axes(0 if cell.batch_first else 1, None)
    if layout is not None:
        batch = layout.axis if layout.inner == 1 else None
    else:  # a single sample
        batch = 0 if shape[:1] == (1,) else 1 if len(shape) == 3 and shape[1] == 1 else None
    return Axes(batch, 1 - batch if len(shape) == 3 and batch in (0, 1) else None)


def inner_names(cells: Mapping[str, Recurrent]) -> list[str]:
    """Everything that `inner_view` knows."""
    return [f"{node}.{view}" for node, cell in cells.items() if isinstance(cell, LSTM) for view in VIEWS]
