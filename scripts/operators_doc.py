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

Generated from the table of operators by `python scripts/operators_doc.py`; a test fails when this page is stale.

Every operator has a vector-Jacobian product, which is its gradient, and a kind, which is its LRP rule. An operator with
several kinds takes them by which of its operands depend on the model's inputs: a product only where two do. Opsets 7 to
the newest that ONNX Runtime runs. "Nondifferentiable": the operand (indices, a shape, lengths) decides where relevance
goes and gets none of it.

| operator | kind | rule | notes |
|---|---|---|---|
{rows}

## Spelled out

Rewritten into the operators above, so that fused and decomposed graphs are explained alike: {spelled}.
So is Gemm, where neither operand is a constant, and by ONNX's own definitions: {functions}. Exponentials divided by
their sum are recognised as Softmax, and a value times an element-wise function of itself as an activation (Gelu, Swish,
Mish). Sequences of tensors (Python lists of steps, for example) are removed:
the values that are put in and taken out are the same. Where its length is not known before the model runs, a
sequence is one that a loop appends or prepends to, or a tensor split into parts of one size.

Products of integers, as in quantised models, are explained as the real products that they represent. Near a rounding
border, a level may differ by one from ONNX Runtime's own kernel for QLinearConv and QLinearMatMul.

A normalisation's scale (a deviation, root mean square or norm that something is divided by, however it is spelled) is a
constant of the forward pass: what is scaled takes all relevance (Ali et al. 2022), under every product rule. Gradients
flow through both.

## Without relevance

{silent}.

## NumPy only

Rules call the functions of the [Python array API](https://data-apis.org/array-api/latest/) on the namespace of their
operands, so that the same rule runs on any such namespace (`tests/operators/test_array_api.py` runs them on
array_api_strict). These functions of `operators/array_api.py` run on NumPy arrays only:

| function | reason | operators |
|---|---|---|
{numpy_only}

Numba kernels replace some rules on NumPy arrays: the recurrences of LSTM, GRU and RNN, which exist as kernels only, and
products with few weights and divisions by stabilised sums, which other arrays get from the array API.

## What is refused

LRP and gradients refuse a node on the explained path, with its name and the reason, if its operator is not on this
page, if an operand without a rule depends on the model's inputs (weights of Conv or LSTM, the slope of PRelu, the
bounds of Clip), or if an attribute has no rule (BatchNormalization in training mode, Scatter with a reduction other
than add, Dropout in training mode, quantisation by block, Pad of an unknown mode, Scan of opset 8).
Methods that need predictions only still work.
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
