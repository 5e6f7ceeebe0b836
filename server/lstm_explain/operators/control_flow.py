# SPDX-License-Identifier: Apache-2.0
"""Control flow, whose rules are those of the operators in the bodies (program/steps/control_flow.py)."""

from __future__ import annotations

from lstm_explain.graph.ir import Node
from lstm_explain.operators import axis_rules
from lstm_explain.operators.operator import Kind, Operator, add


def _check_scan(node: Node) -> str:
    return "" if node.opset >= 9 else "Scan of opset 8, which has a batch axis, has no rule"


add(
    "If",
    Operator(
        Kind.CONTROL, nondifferentiable=(0,), axes=axis_rules.unknown, note="the branch that the condition selects"
    ),
)
add(
    "Loop",
    Operator(
        Kind.CONTROL, nondifferentiable=(0, 1), axes=axis_rules.unknown, note="iterations from the last to the first"
    ),
)
add(
    "Scan",
    Operator(Kind.CONTROL, check=_check_scan, axes=axis_rules.unknown, note="iterations from the last to the first"),
)
