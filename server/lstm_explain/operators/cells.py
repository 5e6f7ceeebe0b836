# SPDX-License-Identifier: Apache-2.0
"""The operators LSTM, GRU and RNN in the table, and the kernels of a graph's recurrent nodes."""

from __future__ import annotations

from lstm_explain.graph.ir import Graph, Node
from lstm_explain.kernels.scalar_functions import CODES
from lstm_explain.operators import axis_rules
from lstm_explain.operators.gru_cell import GRU
from lstm_explain.operators.lstm_cell import LSTM
from lstm_explain.operators.operator import TABLE, Kind, Operator, Trait, add
from lstm_explain.operators.recurrent import Recurrent
from lstm_explain.operators.rnn_cell import RNN


def check(node: Node) -> str:
    if node.attribute("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        return f"direction {node.attribute('direction')!r} has no rule"
    unknown = [n for n in node.attribute("activations") or [] if n.lower() not in CODES]
    return f"activation {unknown[0]!r} has no rule" if unknown else ""


def cells_of(graph: Graph) -> dict[str, Recurrent]:
    """Returns the kernels of every recurrent node with constant weights, by node name, including nodes inside
    bodies.
    """
    cells = {}
    for node in graph.nodes:
        op = TABLE.get(node.op)
        if op is None or op.cell is None or op.check(node):
            continue
        if all(name in graph.constants for name in needs_constants(node)):
            cells[node.name] = op.cell(node, graph)
    for body in (body for node in graph.nodes for body in node.bodies.values()):
        cells |= cells_of(body)
    return cells


def needs_constants(node: Node) -> list[str]:
    """Returns the names of the weights, which have to be constants of the model."""
    slots = (1, 2, 3, *range(7, len(node.inputs)))  # LSTM: peepholes; where quantised, scales and zero points
    return [node.input(slot) for slot in slots if node.input(slot)]


def recurrent(cell: type[Recurrent], note: str = "") -> Operator:
    """Returns the table's entry for an operator with the kernels of this cell."""
    slots = cell.state_slots
    return Operator(
        Kind.RECURRENT,
        traits=Trait.NOT_IN_PLACE,
        differentiable=(0, *slots),
        nondifferentiable=(4,),
        axes=axis_rules.recurrent(slots),
        roles=axis_rules.recurrent_roles(slots),
        states=slots,
        cell=cell,
        check=check,
        note=note,
    )


add("LSTM", recurrent(LSTM))
add("GRU", recurrent(GRU))
add("RNN", recurrent(RNN))
