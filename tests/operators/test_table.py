# SPDX-License-Identifier: Apache-2.0
"""Entries of the table are complete, and what they claim of their operators is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lstm_explain.graph import recurrent_operands
from lstm_explain.methods.composite import LAYERS
from lstm_explain.operators import TABLE, Kind, Operator, Trait
from lstm_explain.operators.operator import Table, aligned, missing_fields, undeclared
from tests.operators import CASES
from tests.operators.case import Case, outputs_of

INCOMPLETE = {
    "Relu without a derivative": ("Relu", {"vjp": None}, "vjp"),
    "Softmax without a layout": ("Softmax", {"layout": undeclared}, "layout"),
    "Softmax without axes": ("Softmax", {"axes": undeclared}, "axes"),
    "Tile without a layout": ("Tile", {"layout": undeclared}, "layout"),
    "Gather, whose kind depends on the node": ("Gather", {"layout": undeclared}, "layout"),
    "Add without spread": ("Add", {"spread": None}, "spread"),
    "Conv without spread": ("Conv", {"spread": None}, "spread"),
    "Conv without fan_in": ("Conv", {"fan_in": undeclared}, "fan_in"),
    "LSTM without kernels": ("LSTM", {"cell": None}, "cell"),
    "LSTM without states": ("LSTM", {"states": ()}, "states"),
    "Range without axes": ("Range", {"axes": undeclared}, "axes"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_entry_that_lacks_what_its_kind_needs_is_refused(name: str) -> None:
    operator, without, what = INCOMPLETE[name]
    entry, table = TABLE.ops[operator], Table()
    table.add("Whole", entry)
    with pytest.raises(AssertionError, match=rf"Mine: its entry lacks .*\({what}\)"):
        table.add("Mine", replace(entry, **without))
    assert "Mine" not in table.ops


def test_element_wise_operators_may_omit_layout_and_axes() -> None:
    table = Table()
    table.add("Mine", Operator(Kind.ACTIVATION, TABLE.ops["Relu"].vjp, Trait.ELEMENTWISE))
    assert table.ops["Mine"].layout is aligned
    with pytest.raises(AssertionError, match="Mine is already in the table"):
        table.add("Mine", table.ops["Mine"])


def test_every_entry_is_complete() -> None:
    assert {name: missing_fields(op) for name, op in TABLE.ops.items() if missing_fields(op)} == {}


def test_entries_agree_with_the_lists_of_lower_layers() -> None:
    """Reading a file and writing a composite work without the table, so they have lists of their own."""
    assert recurrent_operands.CELLS.keys() == {name for name, op in TABLE.ops.items() if op.kind is Kind.RECURRENT}
    assert {op.layer for op in TABLE.ops.values()} - {""} == set(LAYERS)


# --- traits ----------------------------------------------------------------------------------------------------------


def disturbed(case: Case, slot: int) -> tuple[Any, Any]:
    """Return two masks [elements of the operand, elements of the output].

    The first says which output elements change with an element, the second which lie at its position.
    """
    feeds, name = case.feeds(), f"x{slot}"
    x, y = feeds[name], outputs_of(case, feeds)
    changes, places = [], []
    for i in range(x.size):
        moved, mark = x.copy(), np.zeros(x.shape, bool)
        moved.flat[i] += 0.5 if x.dtype.kind == "f" else 1
        mark.flat[i] = True
        changes.append((outputs_of(case, {**feeds, name: moved}) != y).ravel())
        places.append(np.broadcast_to(mark, y.shape).ravel() if mark.ndim <= y.ndim else mark.ravel())
    return np.array(changes), np.array(places)


def entry_of(case: Case) -> Operator | None:
    return TABLE.get(f"{case.domain}::{case.op}" if case.domain else case.op)


ELEMENTWISE = [c for c in CASES if (op := entry_of(c)) is not None and Trait.ELEMENTWISE in op.traits]
MIXING = [c for c in CASES if (op := entry_of(c)) is not None and op.kind is Kind.ACTIVATION and c not in ELEMENTWISE]


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_an_element_wise_operator_changes_at_the_same_position_only(case: Case) -> None:
    op = entry_of(case)
    assert op is not None
    for slot in case.live:
        if slot not in op.nondifferentiable:
            changes, places = disturbed(case, slot)
            assert not (changes & ~places).any()


@pytest.mark.parametrize("op", sorted({case.op for case in MIXING}))
def test_activations_without_the_element_wise_trait_mix_elements(op: str) -> None:
    """Otherwise the recognition of x * f(x) would miss a function of one element."""
    assert any(
        changes.shape[0] != changes.shape[1] or (changes & ~places).any()
        for case in MIXING
        if case.op == op
        for changes, places in [disturbed_or_reduced(case)]
    )


def disturbed_or_reduced(case: Case) -> tuple[Any, Any]:
    feeds = case.feeds()
    if outputs_of(case, feeds).size != feeds["x0"].size:
        return np.zeros((feeds["x0"].size, 0)), np.zeros(0)
    return disturbed(case, 0)


@pytest.mark.parametrize(
    "case", [c for c in CASES if (op := entry_of(c)) is not None and Trait.VIEW in op.traits], ids=str
)
def test_a_view_holds_every_element_once(case: Case) -> None:
    feeds = case.feeds()
    received = np.sort(outputs_of(case, feeds).astype(np.float64), axis=None)
    np.testing.assert_allclose(received, np.sort(feeds["x0"].astype(np.float64), axis=None), rtol=1e-3)


@pytest.mark.parametrize("case", [c for c in CASES if (op := entry_of(c)) and Trait.GATE in op.traits], ids=str)
def test_a_gate_lies_between_0_and_1(case: Case) -> None:
    y = outputs_of(case, {name: 3 * x for name, x in case.feeds().items()})
    assert y.min() >= 0
    assert y.max() <= 1


def test_an_unknown_operator_has_no_traits() -> None:
    assert TABLE.traits("Unknown") is Trait.NONE
    assert TABLE.states("Unknown") == ()
