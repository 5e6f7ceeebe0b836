"""Writes docs/operators.md from the rule table. With --check, only tells by its exit code whether the page is stale."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx.defs
from onnx import helper

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "server"))

from lstm_explain.graph.canonical import FUNCTIONS, REWRITES  # noqa: E402
from lstm_explain.graph.ir import Node, node_from_proto  # noqa: E402
from lstm_explain.operators import TABLE, Kind, Operator  # noqa: E402
from lstm_explain.program.report import RULES  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"

TEXT = """# Operators

Generated from the rule table by `python scripts/operators_doc.py`; a test fails when this page is stale.

Every operator has a vector-Jacobian product, which is its gradient, and a kind, which is its LRP rule. An operator with
several kinds takes them by which of its operands depend on the model's inputs: a product only where two do. Opsets 7 to
the newest that ONNX Runtime runs. "Steers": the value decides where relevance goes and gets none of it.

| operator | kind | rule | notes |
|---|---|---|---|
{rows}

## Spelled out

Rewritten into the operators above, so that fused and decomposed graphs are explained alike: {spelled}.
So is Gemm, where neither operand is a constant, and by ONNX's own definitions: {functions}. Exponentials divided by
their sum are taken for the Softmax that they are, and a value times a function of itself, element by element, for the
activation that it is (Gelu, Swish, Mish). Sequences of tensors (Python lists of steps, say) are taken away:
what is put in and what is taken out are the same values. Where its length is not known before the model runs, a
sequence is one that a loop appends to (or puts in front of), or parts of one size of a tensor.

Products of integers, as quantised models have them, are explained as the products that they stand for. A level that
lies next to the border of rounding may come out one off from ONNX Runtime's own kernel for QLinearConv and
QLinearMatMul.

A normalisation's scale (a deviation, root mean square or norm that something is divided by, however it is spelled) is a
constant of the forward pass: what is scaled takes all relevance (Ali et al. 2022), under every product rule. Gradients
flow through both.

## Without relevance

{silent}.

## What is refused

LRP and gradients refuse a node on the explained path, by name and with the reason, if its operator is not on this page,
if a value that depends on the model's inputs comes in where no rule covers it (weights of Conv or LSTM, the slope of
PRelu, the bounds of Clip), or if an attribute asks for what has no rule (BatchNormalization in training mode, Scatter
that multiplies or keeps the largest, Dropout in training mode, quantisation by block, Pad of an unknown mode, Scan of
opset 8).
Methods that only need predictions still work.
"""


def example(name: str, **attributes: str) -> Node:
    domain, _, op = name.rpartition("::")
    return node_from_proto(helper.make_node(op, [], [], domain=domain, **attributes), op, 17, {})


def kinds(name: str, op: Operator) -> list[Kind]:
    nodes = [example(name), example(name, reduction="add")]
    return list(dict.fromkeys(op.kind_of(n, live) for n in nodes for live in ((0,), (1,), (0, 1))))


def slot_names(name: str) -> list[str]:
    domain, _, op = name.rpartition("::")
    if not onnx.defs.has(op, domain):
        return []
    return [slot.name for slot in onnx.defs.get_schema(op, domain).inputs]


def named(name: str, slots: tuple[int, ...]) -> str:
    names = slot_names(name)
    return ", ".join(f"`{names[i]}`" if i < len(names) else f"input {i}" for i in slots)


def row(name: str, op: Operator) -> str:
    notes = (
        [f"steers: {named(name, op.nondifferentiable)}"] if op.nondifferentiable and op.kind is not Kind.CONTROL else []
    )
    notes += [f"steers beside live data: {named(name, op.lookup_slots)}"] if op.lookup_slots else []
    notes += [f"gate: {named(name, (op.gate,))}"] if op.gate is not None else []
    notes += ["relevance of what it adds itself is absorbed"] if op.inserts_constants else []
    notes += [op.note] if op.note else []
    own = kinds(name, op)
    rules = dict.fromkeys(RULES[kind] for kind in own)
    return f"| {name} | {', '.join(k.value for k in own)} | {'; or '.join(rules)} | {'; '.join(notes)} |"


def page() -> str:
    ops = dict(sorted(TABLE.ops.items()))
    return TEXT.format(
        rows="\n".join(row(name, op) for name, op in ops.items() if op.kind is not Kind.NONE),
        spelled=", ".join(sorted(set(REWRITES) - set(ops))),
        functions=", ".join(sorted(FUNCTIONS)),
        silent=", ".join(name for name, op in ops.items() if op.kind is Kind.NONE),
    )


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
