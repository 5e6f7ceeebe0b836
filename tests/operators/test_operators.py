# SPDX-License-Identifier: Apache-2.0
"""Every operator of the table: gradients, the ledger, batches, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain.graph.canonical import REWRITES
from lstm_explain.operators import TABLE, Kind
from tests.operators import CASES
from tests.operators.case import BATCH, Case, differences, full_weights, ints, normal, outputs_of, target_of

RULES: tuple[lx.ProductRule, ...] = ("all", "half", "prop", "abs")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_equals_central_differences(case: Case) -> None:
    feeds = case.feeds()
    model = lx.load(case.model())
    result = model.explain(feeds, lx.Gradient(), target_of(case, outputs_of(case, feeds)))
    expected = differences(case, feeds, full_weights(case, outputs_of(case, feeds)))
    for name, gradient in expected.items():
        scale = max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(result.relevance[name], gradient, atol=case.tolerance * scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ledger_closes(case: Case) -> None:
    feeds = case.feeds()
    model, target = lx.load(case.model()), target_of(case, outputs_of(case, feeds))
    for rule in RULES:
        for factor in (0.0, 1.0):
            e = model.explain(feeds, lx.LRP(rule, bias_factor=factor), target)
            moved = sum(np.abs(e.relevance[name]).sum() for name in feeds)
            scale = np.abs(e.explained).max() + moved + np.abs(e.ledger.absorbed).max()
            np.testing.assert_allclose(e.ledger.residual, 0, atol=1e-5 * scale)
            if factor == 1 and case.closed:
                np.testing.assert_allclose(e.ledger.absorbed, 0, atol=1e-5 * scale)


@pytest.mark.parametrize("case", [c for c in CASES if c.batch], ids=str)
def test_a_batch_equals_its_samples(case: Case) -> None:
    feeds = case.feeds()
    model, target = lx.load(case.model()), target_of(case, outputs_of(case, feeds))
    count = len(next(iter(feeds.values())))
    for method in (lx.LRP("half"), lx.LRP("all", bias_factor=1.0), lx.Gradient()):
        batched = model.explain(feeds, method, target)
        for b in range(count):
            single = model.explain({name: x[b : b + 1] for name, x in feeds.items()}, method, target)
            for name in feeds:
                scale = max(1.0, np.abs(single.relevance[name]).max())
                np.testing.assert_allclose(batched.relevance[name][b], single.relevance[name][0], atol=1e-5 * scale)
            np.testing.assert_allclose(batched.ledger.absorbed[b], single.ledger.absorbed[0], atol=1e-4)


def test_every_operator_of_the_table_has_a_case() -> None:
    tested = {f"{c.domain}::{c.op}" if c.domain else c.op for c in CASES}
    integers = {"DequantizeLinear", "BitShift"}  # test_quantised_operators.py
    elsewhere = {
        name
        for name, op in TABLE.ops.items()
        if op.kind
        in (Kind.NONE, Kind.RECURRENT, Kind.CONTROL)  # they pass nothing, or tests of whole models cover them
    }
    assert set(TABLE.ops) - elsewhere - integers <= tested
    assert tested - set(TABLE.ops) <= set(REWRITES)


def test_the_page_of_operators_is_current() -> None:
    script = Path(__file__).parents[2] / "scripts" / "operators_doc.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0, "run python scripts/operators_doc.py"


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(
    "op", ["MatMul", "Add", "Mul", "Div", "ReduceSum", "ReduceL2", "Relu", "MaxPool", "Where", "Clip"]
)
def test_half_and_double(op: str, dtype: type) -> None:
    """The same case in float16 and float64 gives the same relevance."""
    chosen = next(c for c in CASES if c.op == op and c.batch)

    def converted(a: Any) -> Any:
        return a if a is None or np.asarray(a).dtype != np.float32 else np.asarray(a).astype(dtype)

    case = dataclasses.replace(chosen, inputs=[converted(a) for a in chosen.inputs])
    try:
        y = outputs_of(case, case.feeds())
    except Exception:
        pytest.skip("ONNX Runtime has no kernel")
    for method in (lx.LRP("half"), lx.LRP("prop", bias_factor=1.0), lx.Gradient()):
        result = lx.load(case.model()).explain(case.feeds(), method, target_of(case, y))
        expected = lx.load(chosen.model()).explain(chosen.feeds(), method, target_of(chosen, y))
        for name in chosen.feeds():
            scale = np.abs(expected.relevance[name]).max()
            tolerance = 0.05 if dtype == np.float16 else 1e-4
            np.testing.assert_allclose(result.relevance[name], expected.relevance[name], atol=tolerance * scale)


# --- refused ---------------------------------------------------------------------------------------------------------

x345, x34 = normal(BATCH, 4, 5), normal(BATCH, 4)
REFUSED = [
    Case("Conv", [x345, normal(6, 4, 3)], live=(0, 1), batch=False),
    Case("PRelu", [x345, x345 + 1], live=(0, 1)),
    Case("Clip", [x345, np.float32(-1), np.float32(1)], live=(0, 2), batch=False),
    Case("ScatterElements", [x34, ints(1, 0, 2).reshape(3, 1), x34[:, :1]], {"axis": 1, "reduction": "mul"}, 18),
    Case("ReduceL2", [x34], {"noop_with_empty_axes": 1}, 18),
    Case("Det", [normal(BATCH, 4, 4)]),
    Case("DFT", [normal(BATCH, 4, 2)], {"inverse": 1, "onesided": 1}, 20, batch=False),
    Case("Dropout", [x345, np.float32(0.0), np.bool_(True)], opset=13),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_nodes_without_a_rule_are_refused(case: Case) -> None:
    model, target = lx.load(case.model()), target_of(case, outputs_of(case, case.feeds()))
    assert not model.report().supported
    for method in (lx.LRP(), lx.Gradient()):
        with pytest.raises(lx.UnsupportedOperator) as error:
            model.explain(case.feeds(), method, target)
        assert error.value.node == "node"
        assert error.value.op == case.op
