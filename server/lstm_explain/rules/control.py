"""Control flow: the bodies' own operators have the rules. See program/steps/control_flow.py and plan/axes.py."""

from __future__ import annotations

from lstm_explain.graph.ir import Node
from lstm_explain.rules import origins
from lstm_explain.rules.op import Kind, Op, add


def _check_scan(node: Node) -> str:
    return "" if node.opset >= 9 else "the Scan of opset 8, with its own batch axis, has no rule"


add("If", Op(Kind.CONTROL, ignores=(0,), axes=origins.unknown, note="the branch taken"))
add("Loop", Op(Kind.CONTROL, ignores=(0, 1), axes=origins.unknown, note="every iteration, last to first"))
add("Scan", Op(Kind.CONTROL, check=_check_scan, axes=origins.unknown, note="every iteration, last to first"))
