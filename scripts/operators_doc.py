# SPDX-License-Identifier: Apache-2.0
"""Write docs/operators.md from the table of operators. With --check, exit with 1 where the page is stale."""

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
from lstm_explain.operators.array_api import NUMPY_ONLY  # noqa: E402
from lstm_explain.program.report import RULES  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"

TEXT = """# Operators

`python scripts/operators_doc.py` generates this page from the table of operators; a test fails if the page is stale.

Every operator has a vector-Jacobian product, which is its gradient, and a kind, which is its LRP rule. If an operator
has several kinds, the kind depends on which operands depend on the inputs of the model; for example, a Mul is a product
only if both operands do. The supported opsets are 7 to the newest one that ONNX Runtime runs. A "nondifferentiable"
operand (indices, a shape, lengths) decides where relevance goes, but receives none.

| operator | kind | rule | notes |
|---|---|---|---|
{rows}

## Rewritten operators

The following operators are rewritten as the operators above, so that fused and decomposed graphs give the same
explanation: {spelled}. Gemm is rewritten too, if neither operand is a constant. ONNX's own definitions rewrite:
{functions}. Exponentials divided by their sum are recognised as Softmax, and a value times an elementwise function of
itself as an activation (Gelu, Swish, Mish). Sequences of tensors (such as Python lists of steps) are removed, because
the values that are put in are the values that are taken out. A sequence whose length is unknown before the model runs
must be one that a loop appends or prepends to, or a tensor that is split into parts of one size.

Products of integers, as in quantised models, are explained as the real products that they represent. Near a rounding
border, a level may differ by one from ONNX Runtime's own kernel for QLinearConv and QLinearMatMul.

The scale of a normalisation (a standard deviation, root mean square or norm that is a divisor, however the graph
computes it) is treated as a constant of the forward pass: under every product rule, the scaled operand receives all
relevance (Ali et al. 2022). Gradients flow through both operands.

## Operators without relevance

These operators pass on no relevance: {silent}.

## NumPy only

Rules call the functions of the [Python array API](https://data-apis.org/array-api/latest/) on the namespace of their
operands, so that the same rule runs on any such namespace (`tests/operators/test_array_api.py` runs them on
array_api_strict). These functions of `operators/array_api.py` run on NumPy arrays only:

| function | reason | operators |
|---|---|---|
{numpy_only}

Numba kernels replace some rules on NumPy arrays: the recurrences of LSTM, GRU and RNN, which exist as kernels only, and
products with few weights and divisions by stabilised sums, which other arrays get from the array API.

## Unsupported nodes

LRP and gradients refuse a node between the inputs and the explained output, with its name and the reason, in three
cases: its operator is not on this page; an operand without a rule depends on the inputs of the model (weights of Conv
or LSTM, the slope of PRelu, the bounds of Clip); or an attribute has no rule (BatchNormalization in training mode,
Scatter with a reduction other than add, Dropout in training mode, quantisation by block, Pad of an unknown mode, Scan
of opset 8). Methods that need only predictions still work.
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
    listed = op.nondifferentiable and op.kind is not Kind.CONTROL
    notes = [f"nondifferentiable: {named(name, op.nondifferentiable)}"] if listed else []
    notes += [f"nondifferentiable where data is live: {named(name, op.lookup_slots)}"] if op.lookup_slots else []
    notes += [f"gate: {named(name, (op.gate,))}"] if op.gate is not None else []
    notes += ["relevance of the elements that it inserts is absorbed"] if op.inserts_constants else []
    notes += [op.note] if op.note else []
    own = kinds(name, op)
    rules = dict.fromkeys(RULES[kind] for kind in own)
    return f"| {name} | {', '.join(k.value for k in own)} | {'; or '.join(rules)} | {'; '.join(notes)} |"


def numpy_only_row(function: str) -> str:
    names = sorted(name for name, op in TABLE.ops.items() if function in op.numpy_only)
    return f"| `{function}` | {NUMPY_ONLY[function]} | {', '.join(names)} |"


def page() -> str:
    ops = dict(sorted(TABLE.ops.items()))
    return TEXT.format(
        rows="\n".join(row(name, op) for name, op in ops.items() if op.kind is not Kind.NONE),
        spelled=", ".join(sorted(set(REWRITES) - set(ops))),
        functions=", ".join(sorted(FUNCTIONS)),
        numpy_only="\n".join(numpy_only_row(function) for function in NUMPY_ONLY),
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
